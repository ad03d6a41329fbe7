"""The status page: 64 shared bytes between the gateway and one worker, beside the stream.

The worker writes where it is (batch, stage, item), so that the gateway can tell what a worker was doing when it died or
hung. The gateway writes the batch it wants cancelled, and then sends SIGINT: the worker's guard compares the two in its
signal handler, so a late signal never hits the next batch. Layout in docs/worker-protocol.md.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from typing import NamedTuple

__all__ = ["ARENA_AT", "PAGE_BYTES", "STAGES", "Progress", "StatusPage"]

PAGE_BYTES = 64
ARENA_AT = 65536
"""Where the arena (wire/arena.py) begins in the same memfd: whole pages on every system."""
ARENA_BYTES = 64 * 1024 * 1024
"""Room for three batches of 32 bodies of 600 KB. What does not fit goes over the stream: a batch is copied in one turn
of the gateway's loop, at some 0.1 ms a megabyte. Memory only where it was written."""
_PROGRESS = struct.Struct("<QII")  # at 0: batch id, stage, item; written by the worker
_CANCEL = struct.Struct("<Q")  # at 32: batch id; written by the gateway
_CANCEL_AT = 32

STAGES = (
    "idle",
    "start",
    "import",
    "values",
    "initialize",
    "decode",
    "preprocess",
    "inference",
    "postprocess",
    "encode",
)
_CODES = {stage: code for code, stage in enumerate(STAGES)}


class Progress(NamedTuple):
    """Where a worker is: batch id (0 = none), stage, item."""

    batch_id: int
    stage: str
    item: int


class StatusPage:
    """One mapped page. The creator passes `fd` to the other process, which opens it with `StatusPage(fd)`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, PAGE_BYTES)

    @classmethod
    def create(cls) -> StatusPage:
        """A new page, and an empty arena, in anonymous memory (memfd) that keeps its size."""
        fd = os.memfd_create("nbserve-shared", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, ARENA_AT + ARENA_BYTES)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd)

    def close(self) -> None:
        """Unmap and close; safe to call twice."""
        if self.fd >= 0:
            self._map.close()
            os.close(self.fd)
            self.fd = -1

    def set_progress(self, batch_id: int, stage: str, item: int = 0) -> None:
        """Worker: what it is about to do."""
        _PROGRESS.pack_into(self._map, 0, batch_id, _CODES[stage], item)

    @property
    def progress(self) -> Progress:
        """Gateway: what the worker last said it was about to do."""
        batch_id, code, item = _PROGRESS.unpack_from(self._map, 0)
        return Progress(batch_id, STAGES[code] if code < len(STAGES) else "idle", item)

    @property
    def cancelled(self) -> int:
        """Worker: the batch that the gateway no longer wants."""
        return int(_CANCEL.unpack_from(self._map, _CANCEL_AT)[0])

    @cancelled.setter
    def cancelled(self, batch_id: int) -> None:
        _CANCEL.pack_into(self._map, _CANCEL_AT, batch_id)
