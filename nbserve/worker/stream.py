"""Whole frames over a blocking socket: the worker's side of the data stream. Owned by worker/loop.py.

One read takes what has come, a whole small frame as a rule: header and bodies in one system call. What it took of the
next frame waits in the buffer, where `holds_frame` sees it and the event loop does not.

Who expects the next frame soon may wait for it here (`poll`): that saves the turn of the event loop that every batch
would cost. It is poll(2) that waits, not the read: a read of a unix socket also wakes when the other end has taken what
was written to it, which is once a batch.
"""

from __future__ import annotations

import select
import socket

from nbserve.errors import EndOfFile, ShortRead
from nbserve.wire.arena import ArenaView
from nbserve.wire.frames import HEADER, Buffer, Frame, pack, read_head, unpack

__all__ = ["DataStream"]

READ_BYTES = 64 * 1024
"""A batch of 64 small requests fits; larger frames are read into memory of their own size."""


class DataStream:
    """Reads and writes whole frames; both block."""

    def __init__(self, sock: socket.socket, arena: ArenaView | None = None) -> None:
        self.sock = sock
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)
        self._arena = arena
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._begin = self._end = 0  # of what was read and not taken

    @property
    def holds_frame(self) -> bool:
        """Whether the beginning of a frame has been read already: then `read` need not be waited for."""
        return self._begin < self._end

    def poll(self, patience_ms: int) -> Frame | None:
        """The next frame, or None where none has begun within so many milliseconds. Raises as `read` does."""
        if self._begin == self._end and not self._poller.poll(patience_ms):
            return None
        return self.read()

    def read(self) -> Frame:
        """The next frame. Raises EndOfFile, ShortRead, GarbageFrame, OversizedFrame, UnsupportedVersion."""
        if self._begin == self._end:
            self._begin = self._end = 0
            self._end = self.sock.recv_into(self._buffer)
            if not self._end:
                raise EndOfFile("the gateway closed the stream")
        if self._end - self._begin < HEADER.size:
            self._fill(HEADER.size, "bytes of a header")
        head = read_head(self._buffer, self._begin)
        size = head[0]
        if size > READ_BYTES:
            return unpack(self._read_large(size), self._arena, head)
        if self._end - self._begin < size:
            self._fill(size, f"of {size} bytes")
        raw = bytes(self._view[self._begin : self._begin + size])  # its own memory: handlers may keep views
        self._begin += size
        return unpack(raw, self._arena, head)

    def write(self, frame: Frame) -> None:
        """One whole frame, vectored; bodies are not copied."""
        buffers = pack(frame)
        sent = self.sock.sendmsg(buffers[:IOV_MAX])
        if len(buffers) <= IOV_MAX and sent == sum(map(len, buffers)):
            return
        rest = [memoryview(part) for part in buffers if len(part)]
        while True:
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if not rest:
                return
            rest[0] = rest[0][sent:]
            sent = self.sock.sendmsg(rest[:IOV_MAX])

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def _fill(self, size: int, wanted: str) -> None:
        """Read until the buffer holds so many bytes of the frame that has begun."""
        if self._begin + size > READ_BYTES:  # to the front, so that there is room
            held = bytes(self._view[self._begin : self._end])
            self._view[: len(held)] = held
            self._begin, self._end = 0, len(held)
        while self._end - self._begin < size:
            count = self.sock.recv_into(self._view[self._end :])
            if not count:
                raise ShortRead(f"the gateway closed after {self._end - self._begin} {wanted}")
            self._end += count

    def _read_large(self, size: int) -> Buffer:
        raw = bytearray(size)
        view, done = memoryview(raw), self._end - self._begin
        view[:done] = self._view[self._begin : self._end]
        self._begin = self._end = 0
        while done < size:
            count = self.sock.recv_into(view[done:])
            if not count:
                raise ShortRead(f"the gateway closed after {done} of {size} bytes")
            done += count
        return raw


IOV_MAX = 1024
"""Buffers of one call, on Linux."""
