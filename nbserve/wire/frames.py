"""Frames v1 between gateway and worker: what goes over the one AF_UNIX stream of each worker.

Owns the byte layout (written down for other languages in docs/worker-protocol.md) and nothing else: packing to a list
of buffers for a vectored write, and an incremental reader. Called by gateway/pool (asyncio) and worker/loop (blocking).

    header, 32 bytes little-endian
      0  magic      2  b"nb"
      2  version    u8
      3  kind       u8   Kind
      4  flags      u16  Flag
      6  reserved   u16  0
      8  batch_id   u64  0 where the frame concerns no batch
     16  count      u32  items
     20  meta_bytes u32
     24  body_bytes u64
    then  u32 * count   length of each item's body
          meta_bytes    msgpack
          body_bytes    the bodies, concatenated, in item order; with Flag.MEMFD they lie in the arena instead
                        (wire/arena.py), and a u64 says where the first begins
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum, IntFlag
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import msgspec

from nbserve.errors import EndOfFile, GarbageFrame, OversizedFrame, ShortRead, UnsupportedVersion

if TYPE_CHECKING:
    from nbserve.wire.arena import ArenaView

__all__ = [
    "HEADER",
    "MAX_BODY_BYTES",
    "MAX_ITEMS",
    "MAX_META_BYTES",
    "VERSION",
    "Buffer",
    "Flag",
    "Frame",
    "FrameReader",
    "Kind",
    "decode_meta",
    "encode_meta",
    "pack",
]

VERSION = 1
MAGIC = b"nb"
HEADER = struct.Struct("<2sBBHHQIIQ")
assert HEADER.size == 32

MAX_ITEMS = 65_536
MAX_META_BYTES = 64 * 1024 * 1024
MAX_BODY_BYTES = 4 * 1024**3

COPIED_BYTES = 16 * 1024
"""Bodies of a frame that are together no larger are copied into one buffer, which costs less than to hand over each."""

Buffer = bytes | bytearray | memoryview


class Kind(IntEnum):
    """What a frame says. g = sent by the gateway, w = by the worker."""

    HELLO = 1  # both: the handshake; meta = Hello
    READY = 2  # w: the handler is initialized; meta = Ready
    FAILED = 3  # w: it is not; meta = ErrorInfo
    BATCH = 4  # g: work; meta = list[RequestItem]; bodies = request bodies
    ANSWER = 5  # w: results; meta = AnswerMeta; bodies = answer bodies
    CANCEL = 6  # g: the named batch is no longer wanted
    PAUSED = 7  # w: somebody uses this worker's shell; send nothing and stop its clocks
    RESUMED = 8  # w: the shell is free again
    DRAIN = 9  # g: finish what you have, then close
    RELEASE = 10  # w: nothing looks at the bodies of this batch any more, which lie in the arena
    LOAD = 11  # g: initialize the handler of a bundle; meta = Load
    PLACE = 12  # g: run on other cores, with another number of threads, from now on; meta = Place
    PROFILE = 13  # g: profile batches from now on, or stop; meta = wire.profile.Profile; only if HELLO said `profile`
    PROFILED = 14  # w: a profile has ended; meta = wire.profile.Profiled
    NOTICE = 15  # w: something that the user should know of this handler; meta = Notice


class Flag(IntFlag):
    """Bits of the header's flags."""

    NONE = 0
    WARMUP = 1  # BATCH: keep it out of metrics and of the cost model
    SEEDED = 2  # BATCH: set random seeds to 0 before running (the proof of random handlers)
    RETRY = 4  # BATCH: these items were tried before
    MEMFD = 8  # BATCH: the bodies lie in the arena


class Frame(NamedTuple):
    """One frame. `bodies` has one buffer per item; views into the reader's memory, valid until let go.

    arena_at: with Flag.MEMFD, where the first body begins in the arena, else -1; only the lengths are then sent.
    """

    kind: Kind
    flags: Flag = Flag.NONE
    batch_id: int = 0
    meta: Buffer = b""
    bodies: Sequence[Buffer] = ()
    arena_at: int = -1


Head = tuple[int, int, int, int, int, int, int]
"""Of a frame: bytes of all of it, kind, flags, batch id, items, bytes of meta, bytes of bodies."""


def pack(frame: Frame) -> list[Buffer]:
    """Frame -> buffers for one vectored write (`sendmsg`, `transport.writelines`); large bodies are not copied.

    Raises OversizedFrame where a limit of this version is passed.
    """
    count = len(frame.bodies)
    lengths = [len(body) for body in frame.bodies]
    body_bytes = sum(lengths)
    _check_sizes(count, len(frame.meta), body_bytes)
    head = HEADER.pack(MAGIC, VERSION, frame.kind, frame.flags, 0, frame.batch_id, count, len(frame.meta), body_bytes)
    start = head + struct.pack(f"<{count}I", *lengths) + bytes(frame.meta)
    if frame.arena_at >= 0:  # not by the flag: `&` of two enums costs a microsecond
        return [start + _PLACE.pack(frame.arena_at)]
    if body_bytes <= COPIED_BYTES:
        return [b"".join([start, *frame.bodies])]
    return [start, *frame.bodies]


class FrameReader:
    """Incremental reader: feed it bytes as they come, take whole frames out. Holds at most one partial frame.

    Raises GarbageFrame, OversizedFrame or UnsupportedVersion as soon as a header shows it; the stream cannot be
    used after that.
    """

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._buffer = bytearray()
        self._max_body_bytes = max_body_bytes
        self._need = HEADER.size

    def feed(self, data: bytes) -> Iterable[Frame]:
        """Add bytes -> every frame that they complete; to be gone through before the next call."""
        if not self._buffer and len(data) >= HEADER.size:
            head = read_head(data, 0, self._max_body_bytes)
            if head[0] == len(data):  # one whole frame, as nearly always: it may keep these bytes
                return [unpack(data, head=head)]
        self._buffer += data
        return self._complete()

    def _complete(self) -> Iterator[Frame]:
        while len(self._buffer) >= self._need:
            head = read_head(self._buffer, 0, self._max_body_bytes)
            self._need = head[0]
            if len(self._buffer) < self._need:
                return
            # Hand the frame its own memory: callers may keep views while later bytes arrive.
            raw: Buffer
            if len(self._buffer) == self._need:
                raw, self._buffer = self._buffer, bytearray()
            else:
                raw = bytes(memoryview(self._buffer)[: self._need])
                del self._buffer[: self._need]
            self._need = HEADER.size
            yield unpack(raw, head=head)

    def eof(self) -> None:
        """The peer closed: raises EndOfFile between frames, ShortRead inside one."""
        if self._buffer:
            raise ShortRead(f"peer closed after {len(self._buffer)} of {self._need} bytes of a frame")
        raise EndOfFile("peer closed")


def read_head(data: Buffer, at: int = 0, max_body_bytes: int = MAX_BODY_BYTES) -> Head:
    """The header in the 32 bytes from `at`, checked. Raises GarbageFrame, OversizedFrame, UnsupportedVersion."""
    magic, version, kind, flags, _, batch_id, count, meta_bytes, body_bytes = HEADER.unpack_from(data, at)
    if magic != MAGIC:
        raise GarbageFrame(f"bad magic {magic!r}")
    if version != VERSION:
        raise UnsupportedVersion(f"peer speaks frames v{version}, this side v{VERSION}")
    if kind not in _KINDS:
        raise GarbageFrame(f"unknown frame kind {kind}")
    _check_sizes(count, meta_bytes, body_bytes, max_body_bytes)
    size = HEADER.size + 4 * count + meta_bytes + (_PLACE.size if flags & _MEMFD else body_bytes)
    return size, kind, flags, batch_id, count, meta_bytes, body_bytes


def unpack(raw: Buffer, arena: ArenaView | None = None, head: Head | None = None) -> Frame:
    """One whole frame's bytes -> Frame. Raises GarbageFrame where the lengths do not add up, or an arena is missing.

    head: as `read_head` found it in these bytes, where it has read them.
    """
    _, kind, flags, batch_id, count, meta_bytes, body_bytes = head or read_head(raw)
    view = memoryview(raw)
    at = HEADER.size + 4 * count
    meta = view[at : at + meta_bytes]
    at += meta_bytes
    if not (count or body_bytes or flags):  # as most that are no batches
        return Frame(_KINDS[kind], _FLAGS[flags & 15], batch_id, meta)
    lengths = struct.unpack_from(f"<{count}I", raw, HEADER.size)
    if sum(lengths) != body_bytes:
        raise GarbageFrame(f"{count} lengths sum to {sum(lengths)}, the header says {body_bytes} bytes")
    if flags & _MEMFD:
        if arena is None:
            raise GarbageFrame("the bodies lie in an arena, and there is none on this side")
        (place,) = _PLACE.unpack_from(raw, at)
        return Frame(_KINDS[kind], _FLAGS[flags & 15], batch_id, meta, arena.take(batch_id, place, lengths), place)
    bodies = []
    for length in lengths:
        bodies.append(view[at : at + length])
        at += length
    return Frame(_KINDS[kind], _FLAGS[flags & 15], batch_id, meta, bodies)


_KINDS = {int(kind): kind for kind in Kind}  # a lookup costs a tenth of a call of the enum
_FLAGS = [Flag(bits) for bits in range(16)]
_MEMFD = int(Flag.MEMFD)
_PLACE = struct.Struct("<Q")


def _check_sizes(count: int, meta_bytes: int, body_bytes: int, max_body_bytes: int = MAX_BODY_BYTES) -> None:
    if count > MAX_ITEMS:
        raise OversizedFrame(f"{count} items, at most {MAX_ITEMS}")
    if meta_bytes > MAX_META_BYTES:
        raise OversizedFrame(f"{meta_bytes} bytes of meta, at most {MAX_META_BYTES}")
    if body_bytes > max_body_bytes:
        raise OversizedFrame(f"{body_bytes} bytes of bodies, at most {max_body_bytes}")


_T = TypeVar("_T")
_encoder = msgspec.msgpack.Encoder()


def encode_meta(value: object) -> bytes:
    """Struct or plain data -> msgpack for a frame's meta."""
    return _encoder.encode(value)


def decode_meta(meta: Buffer, type_: type[_T]) -> _T:
    """A frame's meta -> `type_`. Raises GarbageFrame where it is not one."""
    try:
        return cast(_T, _decoder(cast(Any, type_)).decode(meta))
    except msgspec.MsgspecError as exc:
        raise GarbageFrame(f"meta is not a {getattr(type_, '__name__', type_)}: {exc}") from exc


@cache
def _decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type_)
