"""Shared memory for the bodies of large batches, behind the status page in the same memfd.

A body of 600 KB costs two copies through the kernel on the stream, one here. The gateway lays the bodies of a batch
into an `Arena` and names the place in the BATCH frame; the worker reads them through an `ArenaView`, without another
copy, and says RELEASE when nothing looks at them any more: until then the place is not used again, so that a handler
that keeps a view never sees another request's bytes. Layout in docs/worker-protocol.md.

The memfd is sealed against shrinking: neither side can take the memory from under the other. It takes up no memory
where nothing was written.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections import deque
from collections.abc import Sequence

from nbserve.errors import GarbageFrame
from nbserve.wire.statuspage import ARENA_AT

__all__ = ["ALIGN", "LARGE_BYTES", "Arena", "ArenaView"]

LARGE_BYTES = 256 * 1024
"""From here on a batch goes this way. (Measured: below 64 KB the stream costs as much, at 600 KB a body 2.6 times.)"""
ALIGN = 64
"""Each body begins at a multiple of this from the first: a cache line, and what numpy and torch like best."""
KEEP_BYTES = 24 * 1024 * 1024
"""Memory that stays when nothing is in use; what was touched beyond is given back to the system."""


class Arena:
    """The gateway's side, for one worker. Mapped when it is first used."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = max(0, os.fstat(fd).st_size - ARENA_AT)
        self._map: mmap.mmap | None = None
        self._used: dict[int, tuple[int, int]] = {}  # batch -> (begin, end)
        self._touched = 0

    def lay(self, batch_id: int, bodies: Sequence[bytes | bytearray | memoryview]) -> int | None:
        """Copy bodies in -> where the first begins, in bytes from the arena's start; None where there is no room."""
        size = sum(_aligned(len(body)) for body in bodies)
        begin = self._room_for(size)
        if begin is None:
            return None
        if self._map is None:
            self._map = mmap.mmap(self._fd, self._size, offset=ARENA_AT)
        self._used[batch_id] = begin, begin + size
        self._touched = max(self._touched, begin + size)
        at = begin
        for body in bodies:
            self._map[at : at + len(body)] = body
            at += _aligned(len(body))
        return begin

    def release(self, batch_id: int) -> None:
        """The worker is done with the bodies of this batch. Raises GarbageFrame where it never had them."""
        if self._used.pop(batch_id, None) is None:
            raise GarbageFrame(f"RELEASE of batch {batch_id}, which has nothing in the arena")
        if not self._used and self._touched > KEEP_BYTES and self._map is not None:
            self._map.madvise(mmap.MADV_REMOVE, 0, _paged(self._touched))
            self._touched = 0

    def close(self) -> None:
        """Unmap; safe to call twice."""
        if self._map is not None:
            self._map.close()
            self._map = None
        self._used.clear()
        self._size = 0

    def _room_for(self, size: int) -> int | None:
        """The first gap that is large enough: memory that was used before is in the page tables of both sides."""
        begin = 0
        for used_begin, used_end in sorted(self._used.values()):
            if used_begin - begin >= size:
                return begin
            begin = used_end
        return begin if self._size - begin >= size else None


class ArenaView:
    """The worker's side: views that tell when they are gone."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = max(0, os.fstat(fd).st_size - ARENA_AT)
        self._map: mmap.mmap | None = None
        self._all_of_it = ctypes.c_ubyte * self._size
        self.released: deque[int] = deque()
        """Batches whose bodies nothing looks at any more; the owner of the stream tells the gateway."""

    def take(self, batch_id: int, begin: int, lengths: Sequence[int]) -> list[memoryview]:
        """Read-only views of the bodies of one batch. Raises GarbageFrame where they are not within the arena."""
        size = sum(_aligned(length) for length in lengths)
        if begin + size > self._size:
            raise GarbageFrame(f"batch {batch_id} lies at {begin} to {begin + size} of an arena of {self._size} bytes")
        if self._map is None:
            # ctypes wants memory that may be written: copy-on-write, which the views then forbid
            self._map = mmap.mmap(self._fd, self._size, offset=ARENA_AT, access=mmap.ACCESS_COPY)
        # Every view, and an array made of one, keeps this object; it goes with the last of them. (A memoryview itself
        # will not do: its slices do not keep it.)
        block = self._all_of_it.from_buffer(self._map)
        weakref.finalize(block, self.released.append, batch_id).atexit = False
        whole = memoryview(block).cast("B").toreadonly()
        views, at = [], begin
        for length in lengths:
            views.append(whole[at : at + length])
            at += _aligned(length)
        return views


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _paged(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
