"""Whole frames over a blocking socket: the worker's side of the data stream. Called by worker/loop.py."""

from __future__ import annotations

import socket

from nbserve.errors import EndOfFile, ShortRead
from nbserve.wire.frames import HEADER, Frame, frame_bytes, pack, unpack

__all__ = ["read_frame", "write_frame"]


def read_frame(sock: socket.socket) -> Frame:
    """One whole frame from a blocking socket. Raises EndOfFile, ShortRead, GarbageFrame, OversizedFrame."""
    header = bytearray(HEADER.size)
    _read_exactly(sock, memoryview(header), start_of_frame=True)
    raw = bytearray(frame_bytes(header))
    raw[: HEADER.size] = header
    _read_exactly(sock, memoryview(raw)[HEADER.size :])
    return unpack(raw)


def write_frame(sock: socket.socket, frame: Frame) -> None:
    """One whole frame to a blocking socket, vectored; bodies are not copied."""
    buffers = [memoryview(part) for part in pack(frame) if len(part)]
    while buffers:
        sent = sock.sendmsg(buffers[:512])  # IOV_MAX is 1024 on Linux
        while buffers and sent >= len(buffers[0]):
            sent -= len(buffers.pop(0))
        if sent:
            buffers[0] = buffers[0][sent:]


def _read_exactly(sock: socket.socket, view: memoryview, *, start_of_frame: bool = False) -> None:
    done = 0
    while done < len(view):
        count = sock.recv_into(view[done:])
        if count == 0:
            if start_of_frame and done == 0:
                raise EndOfFile("the gateway closed the stream")
            raise ShortRead(f"the gateway closed after {done} of {len(view)} bytes")
        done += count
