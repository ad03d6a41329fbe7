"""Whole frames over a blocking socket: the worker's side of the data stream. Owned by worker/loop.py.

One read takes what has come, a whole small frame as a rule: header and bodies in one system call. What it took of the
next frame waits in the buffer, where `holds_frame` sees it and the event loop does not.
"""

from __future__ import annotations

import socket

from nbserve.errors import EndOfFile, ShortRead
from nbserve.wire.arena import ArenaView
from nbserve.wire.frames import HEADER, Buffer, Frame, frame_bytes, pack, unpack

__all__ = ["DataStream"]

READ_BYTES = 64 * 1024
"""A batch of 64 small requests fits; larger frames are read into memory of their own size."""


class DataStream:
    """Reads and writes whole frames; both block."""

    def __init__(self, sock: socket.socket, arena: ArenaView | None = None) -> None:
        self.sock = sock
        self._arena = arena
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._begin = self._end = 0  # of what was read and not taken

    @property
    def holds_frame(self) -> bool:
        """Whether the beginning of a frame has been read already: then `read` need not be waited for."""
        return self._begin < self._end

    def read(self) -> Frame:
        """The next frame. Raises EndOfFile, ShortRead, GarbageFrame, OversizedFrame, UnsupportedVersion."""
        if not self._fill(HEADER.size):
            raise EndOfFile("the gateway closed the stream")
        size = frame_bytes(self._view[self._begin : self._end])
        if size <= READ_BYTES:
            if not self._fill(size):
                raise ShortRead(f"the gateway closed after {self._end - self._begin} of {size} bytes")
            raw: Buffer = bytes(self._view[self._begin : self._begin + size])  # its own memory: handlers may keep views
            self._begin += size
        else:
            raw = self._read_large(size)
        return unpack(raw, self._arena)

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

    def _fill(self, size: int) -> bool:
        """Read until the buffer holds so many bytes; False where the stream ends first, between two frames or not."""
        if self._begin == self._end:
            self._begin = self._end = 0
        while self._end - self._begin < size:
            if self._begin + size > READ_BYTES:  # to the front, so that there is room
                held = bytes(self._view[self._begin : self._end])
                self._view[: len(held)] = held
                self._begin, self._end = 0, len(held)
            count = self.sock.recv_into(self._view[self._end :])
            if count == 0:
                if 0 < self._end - self._begin < HEADER.size:
                    raise ShortRead(f"the gateway closed after {self._end - self._begin} bytes of a header")
                return False
            self._end += count
        return True

    def _read_large(self, size: int) -> bytearray:
        raw = bytearray(size)
        view, done = memoryview(raw), self._end - self._begin
        view[:done] = self._view[self._begin : self._end]
        self._begin = self._end = 0
        while done < size:
            count = self.sock.recv_into(view[done:])
            if count == 0:
                raise ShortRead(f"the gateway closed after {done} of {size} bytes")
            done += count
        return raw


IOV_MAX = 1024
"""Buffers of one call, on Linux."""
