"""What a process holds: of this very process, and of recorded and odd texts."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbserve.gateway.pool.memory import overwritten_bytes, usage

MB = 1 << 20
PAGE = mmap.PAGESIZE


def test_own_memory_is_seen_to_grow() -> None:
    before = usage(os.getpid())
    held = bytearray(64 * MB)
    held[::PAGE] = b"x" * (64 * MB // PAGE)
    after = usage(os.getpid())
    assert before is not None
    assert after is not None
    for name in ("rss_bytes", "pss_bytes", "uss_bytes", "private_dirty_bytes"):
        assert getattr(after, name) - getattr(before, name) > 60 * MB, name
    assert after.private_dirty_bytes <= after.uss_bytes <= after.pss_bytes <= after.rss_bytes  # type: ignore[operator]
    assert after.cpu_s >= before.cpu_s


def test_a_process_that_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert usage(process.pid) is None
    assert overwritten_bytes(process.pid, Path("/")) is None


def test_without_a_roll_up_there_is_what_psutil_knows(tmp_path: Path) -> None:
    found = usage(os.getpid(), tmp_path)
    assert found is not None
    assert found.rss_bytes > MB
    assert (found.pss_bytes, found.uss_bytes, found.private_dirty_bytes) == (None, None, None)


@pytest.mark.parametrize("name", ["weights", "with space", "umlaut-ä", "line\nfeed"])
def test_writes_to_a_private_mapping_are_counted_by_the_page(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    path, other = folder / "model.safetensors", tmp_path / f"{name}-other"
    for file in (path, other):
        file.write_bytes(b"w" * 16 * PAGE)
    with path.open("r+b") as file, other.open("r+b") as second:
        mine = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        twice = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        not_mine = mmap.mmap(second.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    with mine, twice, not_mine:
        assert mine[:1] == b"w"
        assert overwritten_bytes(os.getpid(), folder) == 0
        mine[3 * PAGE] = mine[3 * PAGE + 1] = mine[9 * PAGE] = 0
        twice[0] = 0
        not_mine[0] = 0
        assert overwritten_bytes(os.getpid(), folder) == 3 * PAGE
        path.unlink()
        assert overwritten_bytes(os.getpid(), folder) == 3 * PAGE, "a bundle that was removed is mapped still"
        assert overwritten_bytes(os.getpid(), tmp_path / "weigh") == 0
