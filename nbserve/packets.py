"""Packets with file descriptors beside them, over a pair of unix sockets: how gateway and zygote hear of each other.

Used by gateway/pool (forked, zygote) and worker/zygote; what is in the packets is wire/zygote.py's.
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import Sequence

from nbserve.errors import EndOfFile, WireError

__all__ = ["MAX_PACKET_BYTES", "receive_packet", "send_packet", "socket_pair"]

MAX_PACKET_BYTES = 1 << 17
"""What a socket takes in one packet by default (net.core.wmem_default is 208 KiB), with room for its bookkeeping."""
MAX_FDS = 8


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """The two ends; packets keep their bounds, and the end of either process is the end of file of the other."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send_packet(sock: socket.socket, packet: bytes, fds: Sequence[int] = ()) -> None:
    """Send one packet; the descriptors are copied. Raises WireError where it is too large, OSError."""
    if len(packet) > MAX_PACKET_BYTES:
        raise WireError(f"a packet has {len(packet)} bytes, at most {MAX_PACKET_BYTES} can be sent")
    socket.send_fds(sock, [packet], fds)


def receive_packet(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One packet and the descriptors that came with it, which are the caller's to close.

    Raises EndOfFile, WireError, OSError (BlockingIOError where the socket does not block).
    """
    fds = array("i")
    # not socket.recv_fds, which drops its flags (seen in CPython 3.11): the descriptors would be inherited
    room = socket.CMSG_LEN(MAX_FDS * fds.itemsize)
    packet, beside, flags, _ = sock.recvmsg(MAX_PACKET_BYTES + 1, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in beside:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if not packet:
        raise EndOfFile("the other end has closed")
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise WireError("a packet is larger than any that is sent")
    return packet, list(fds)
