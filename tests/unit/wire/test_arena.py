"""The arena: what was laid is seen, no place is used twice while somebody looks at it, and views are never stale."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbserve.errors import GarbageFrame
from nbserve.wire import arena as arena_module
from nbserve.wire.arena import ALIGN, Arena, ArenaView
from nbserve.wire.frames import Flag, Frame, Kind, pack, read_head, unpack
from nbserve.wire.statuspage import ARENA_AT, ARENA_BYTES, StatusPage


@pytest.fixture
def fd() -> Iterator[int]:
    page = StatusPage.create()
    yield page.fd
    page.close()


def small(fd: int, size: int) -> int:
    """A memfd with an arena of this size; the caller closes it."""
    other = os.memfd_create("small")
    os.ftruncate(other, ARENA_AT + size)
    return other


def test_bodies_arrive_through_the_frame(fd: int) -> None:
    ours, theirs = Arena(fd), ArenaView(fd)
    bodies = [b"a" * 1000, b"", bytearray(b"b" * 65), memoryview(b"c" * 64)]
    place = ours.lay(7, bodies)
    assert place is not None
    frame = Frame(Kind.BATCH, Flag.MEMFD | Flag.RETRY, 7, b"meta", bodies, place)
    raw = b"".join(bytes(part) for part in pack(frame))
    assert read_head(raw)[0] == len(raw) < 100
    got = unpack(raw, theirs)
    assert [bytes(body) for body in got.bodies] == [bytes(body) for body in bodies]
    assert got.flags == Flag.MEMFD | Flag.RETRY
    del got
    assert list(theirs.released) == [7]
    ours.close()


def test_a_view_that_is_kept_never_changes(fd: int) -> None:
    ours, theirs = Arena(fd), ArenaView(fd)
    place = ours.lay(1, [b"first" * 100])
    assert place is not None
    [view] = theirs.take(1, place, [500])
    kept = np.frombuffer(view, np.uint8)[100:200]  # what a handler might keep, of a body that it let go
    del view
    assert not theirs.released
    for batch_id in range(2, 50):
        other = ours.lay(batch_id, [b"x" * 500])
        assert other is not None
        theirs.take(batch_id, other, [500])
        assert theirs.released.pop() == batch_id
        ours.release(batch_id)
    assert kept.tobytes() == b"first" * 20
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1
    del kept
    assert list(theirs.released) == [1]
    ours.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 700), min_size=1, max_size=4)), max_size=40))
def test_places_in_use_never_overlap(fd: int, steps: list[tuple[bool, list[int]]]) -> None:
    room = small(fd, 2048)
    ours, used = Arena(room), dict[int, tuple[int, int]]()
    for batch_id, (frees, lengths) in enumerate(steps):
        if frees and used:
            oldest = next(iter(used))
            ours.release(oldest)
            del used[oldest]
        size = sum(-(-length // ALIGN) * ALIGN for length in lengths)
        begin = ours.lay(batch_id, [bytes(length) for length in lengths])
        if begin is None:
            assert size > 2048 - sum(end - start for start, end in used.values()) or used
            continue
        assert begin % ALIGN == 0
        assert begin + size <= 2048
        assert all(begin + size <= start or end <= begin for start, end in used.values())
        used[batch_id] = begin, begin + size
    ours.close()
    os.close(room)


def test_what_does_not_fit_is_not_laid(fd: int) -> None:
    room = small(fd, 1024)
    ours = Arena(room)
    assert ours.lay(1, [bytes(1025)]) is None
    assert ours.lay(2, [bytes(1024)]) == 0
    assert ours.lay(3, [b"x"]) is None
    ours.release(2)
    assert ours.lay(3, [b"x"]) == 0
    ours.close()
    os.close(room)


def test_memory_is_given_back(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena_module, "KEEP_BYTES", 1 << 20)
    ours = Arena(fd)
    before = os.fstat(fd).st_blocks
    ours.lay(1, [bytes([1]) * (8 << 20)])
    assert os.fstat(fd).st_blocks - before >= (8 << 20) // 512
    ours.release(1)
    assert os.fstat(fd).st_blocks - before <= 8
    assert ours.lay(2, [b"again"]) == 0
    ours.close()


def test_nobody_can_change_its_size(fd: int) -> None:
    assert os.fstat(fd).st_size == ARENA_AT + ARENA_BYTES
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & (fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 100)


def test_nonsense_is_garbage(fd: int) -> None:
    theirs = ArenaView(fd)
    with pytest.raises(GarbageFrame, match="arena of"):
        theirs.take(1, ARENA_BYTES - 10, [100])
    with pytest.raises(GarbageFrame, match="nothing in the arena"):
        Arena(fd).release(5)
    raw = b"".join(bytes(part) for part in pack(Frame(Kind.BATCH, Flag.MEMFD, 1, b"", [b"x"], 0)))
    with pytest.raises(GarbageFrame, match="there is none"):
        unpack(raw)
