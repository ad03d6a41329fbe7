"""What several bundles share: large files are one inode, and read once. In memory: contract/test_http_weights.py."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbserve.bundle import Bundle, digests
from nbserve.bundle.digests import SHARED_BYTES, Digests
from nbserve.bundle.folder import Content, write_bundle
from nbserve.bundle.garbage import KEPT_BUNDLES, collect
from nbserve.bundle.manifest import HandlerRecord, Manifest, Provenance

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
LARGE = b"w" * SHARED_BYTES
FILE = "weights/model.safetensors"


def write(root: Path, handler: str, data: bytes = LARGE, folder: Callable[[Path, Any], None] | None = None) -> Bundle:
    files: dict[str, Any] = {"handler.py": lambda: iter([handler.encode()]), FILE: lambda: iter([data])}
    content = Content(files, {} if folder is None else {"weights/net": folder})
    manifest = Manifest(name="m", handler=HandlerRecord("predict", "function"), python=HERE)
    return write_bundle(root, manifest, content, Provenance(), None)


def inode(bundle: Bundle, file: str = FILE) -> int:
    return (bundle.path / file).stat().st_ino


def test_another_version_with_the_same_weights_does_not_write_them_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def chunks() -> Iterator[bytes]:
        asked.append("chunks")
        yield LARGE

    first = write(tmp_path, "one = 1\n")
    manifest = Manifest(name="m", handler=HandlerRecord("predict", "function"), python=HERE)
    content = Content({"handler.py": lambda: iter([b"two = 2\n"]), FILE: chunks}, {})
    second = write_bundle(tmp_path, manifest, content, Provenance(), None)
    assert asked == ["chunks"], "for the digest only"
    assert inode(first) == inode(second)
    assert inode(first, "handler.py") != inode(second, "handler.py"), "small files are no matter"
    second.check()
    assert write(tmp_path / "alone", "two = 2\n").digest == second.digest
    assert sorted(path.name for path in second.path.rglob("*")) == [
        "handler.py",
        "manifest.json",
        "model.safetensors",
        "provenance.json",
        "weights",
    ]


def test_small_files_and_other_weights_are_written(tmp_path: Path) -> None:
    first = write(tmp_path, "one = 1\n", b"small")
    second = write(tmp_path, "two = 2\n", b"small")
    third = write(tmp_path, "two = 2\n", LARGE)
    fourth = write(tmp_path, "two = 2\n", LARGE + b".")
    assert len({inode(bundle) for bundle in (first, second, third, fourth)}) == 4


def test_a_library_s_folder_is_linked_after_it_was_saved(tmp_path: Path) -> None:
    def save(folder: Path, _: Any) -> None:
        (folder / "model.bin").write_bytes(LARGE + b"x")

    first = write(tmp_path, "one = 1\n", folder=save)
    second = write(tmp_path, "two = 2\n", folder=save)
    assert inode(first, "weights/net/model.bin") == inode(second, "weights/net/model.bin")
    second.check()


def test_a_file_that_was_changed_since_is_no_source(tmp_path: Path) -> None:
    first = write(tmp_path, "one = 1\n")
    written_ns = (first.path / "manifest.json").stat().st_mtime_ns
    (first.path / FILE).write_bytes(b"v" + LARGE[1:])
    os.utime(first.path / FILE, ns=(written_ns + 1, written_ns + 1))
    second = write(tmp_path, "two = 2\n")
    assert inode(first) != inode(second)
    second.check()


def test_bundles_that_are_removed_leave_the_others_whole(tmp_path: Path) -> None:
    bundles = [write(tmp_path, f"number = {number}\n") for number in range(KEPT_BUNDLES + 2)]
    for place, bundle in enumerate(bundles):
        os.utime(bundle.path, (place, place))
    assert len(collect(tmp_path, "m", [])) == 2
    assert (bundles[-1].path / FILE).stat().st_nlink == KEPT_BUNDLES
    bundles[-1].check()


def test_where_there_are_no_hard_links_the_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    first = write(tmp_path, "one = 1\n")
    monkeypatch.setattr(os, "link", link)
    second = write(tmp_path, "two = 2\n")
    assert inode(first) != inode(second)
    second.check()


def test_broken_neighbours_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "manifest.json").write_text("[]")
    gone = write(tmp_path, "one = 1\n")
    (gone.path / FILE).unlink()
    write(tmp_path, "two = 2\n").check()


def test_a_large_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return real(path)

    real = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", counted)
    first, second = write(tmp_path, "one = 1\n"), write(tmp_path, "two = 2\n")
    known = Digests()
    for bundle in (first, second, first):
        bundle.check(known.of)
    assert read.count("model.safetensors") == 1
    before = (first.path / FILE).stat().st_mtime_ns
    (first.path / FILE).write_bytes(b"v" + LARGE[1:])
    os.utime(first.path / FILE, ns=(before + 1, before + 1))
    with pytest.raises(Exception, match=r"model\.safetensors was changed"):
        second.check(known.of)
