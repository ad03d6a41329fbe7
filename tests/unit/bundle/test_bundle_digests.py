"""Files are compared byte by byte with what an earlier bundle has; what is written first is hashed meanwhile."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbserve.bundle.digests import SHARED_BYTES, namesakes, same_bytes, write_and_digest
from nbserve.bundle.folder import Bundle, Content, Draft, write_bundle
from nbserve.bundle.manifest import HandlerRecord, Manifest, Provenance

Chunks = Callable[[], Iterator[bytes | memoryview]]
SIZE = 9 * 1024 * 1024 + 3
"""More than two pieces, and odd."""
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
MANIFEST = Manifest(name="m", handler=HandlerRecord("predict", "function"), python=HERE)


@pytest.fixture(scope="module")
def data() -> bytes:
    return os.urandom(SIZE)


@pytest.mark.parametrize("cut", [0, 1, 64, SIZE - 1, SIZE])
def test_equal_bytes_however_they_are_cut(tmp_path: Path, data: bytes, cut: int) -> None:
    path = tmp_path / "file"
    chunks: list[bytes | memoryview] = [memoryview(data)[:cut], data[cut:]]
    assert write_and_digest(path, chunks) == hashlib.sha256(data).hexdigest()
    assert path.read_bytes() == data
    assert same_bytes(path, chunks)
    assert not same_bytes(path, chunks[:1] if cut < SIZE else [*chunks, b"x"])
    assert not same_bytes(path, [*chunks, b"x"])
    for place in (0, SIZE // 2, SIZE - 1):
        other = bytearray(data)
        other[place] ^= 1
        assert not same_bytes(path, [memoryview(other)[:cut], memoryview(other)[cut:]])


def test_no_file_and_an_empty_one(tmp_path: Path) -> None:
    assert not same_bytes(tmp_path / "none", [b"x"])
    (tmp_path / "empty").touch()
    assert same_bytes(tmp_path / "empty", [])
    assert same_bytes(tmp_path / "empty", [b""])
    assert not same_bytes(tmp_path / "empty", [b"x"])


def write(root: Path, data: bytes, handler: bytes = b"") -> Bundle:
    files: dict[str, Chunks] = {
        "handler.py": lambda: iter([handler]),
        "weights/model.safetensors": lambda: iter([data]),
    }
    bundle = write_bundle(root, MANIFEST, Content(files, {}), Provenance(), None)
    bundle.check()
    return bundle


def test_what_an_earlier_bundle_has_is_linked_and_not_hashed(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path, data)
    monkeypatch.setattr("nbserve.bundle.folder.digest_of", lambda _chunks: pytest.fail("it was hashed"))
    second = write(tmp_path, data, b"# edited")
    monkeypatch.undo()
    assert (second.path / "weights/model.safetensors").samefile(first.path / "weights/model.safetensors")
    assert len(namesakes(tmp_path, "weights/model.safetensors")) == 1, "two names of one file"
    changed = bytearray(data)
    changed[-1] ^= 1
    third = write(tmp_path, bytes(changed))
    assert third.digest != first.digest
    assert not (third.path / "weights/model.safetensors").samefile(first.path / "weights/model.safetensors")


def test_a_file_that_was_changed_after_its_manifest_is_not_trusted(tmp_path: Path, data: bytes) -> None:
    first = write(tmp_path, data)
    changed = bytearray(data)
    changed[7] ^= 1
    path = first.path / "weights/model.safetensors"
    path.write_bytes(changed)
    later_ns = (first.path / "manifest.json").stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later_ns, later_ns))
    assert namesakes(tmp_path, "weights/model.safetensors") == []
    second = write(tmp_path, bytes(changed), b"# another")
    assert second.manifest.files["weights/model.safetensors"] == hashlib.sha256(changed).hexdigest()


def test_a_draft_knows_what_changed_since(tmp_path: Path) -> None:
    data = bytearray(os.urandom(2 * SHARED_BYTES))
    content = Content({"handler.py": lambda: iter([b""]), "data/x.npy": lambda: iter([bytes(data)])}, {})
    for _ in range(2):  # the second time it is there already
        with Draft(tmp_path, MANIFEST, content) as draft:
            assert draft.changed() == []
            data[5] ^= 1
            assert draft.changed() == ["data/x.npy"]
            data[5] ^= 1
            draft.finish(Provenance(), None)
