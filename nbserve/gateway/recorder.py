"""Records the requests of an endpoint, where somebody asked for it: bounded, sampled, redacted when handed out.

Inference gives it each request of an endpoint in `Recorder.running`, and looks no further where that is empty. The
management API starts, watches and ends recordings, and takes their files. Bodies are in memory only, as they came;
they are redacted by a thread when they are handed out. Of headers there is the content type, nothing else.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

import msgspec

from nbserve.errors import BadRequest, Conflict, NotFound
from nbserve.redaction import redacted
from nbserve.wire.recording import Ended, RecordingHeader, RecordingStatus, RecordRequest, recorded

__all__ = ["HELD_S", "OVERHEAD_BYTES", "Kept", "Recorder", "Recording", "pieces"]

OVERHEAD_BYTES = 300
"""Of memory for each request beside its body: tuple, offset, path, content type, headers of the objects (CPython 3.11
by sys.getsizeof: 285)."""
MAX_BYTES = 4_000_000_000
MAX_SECONDS = 86_400.0
HELD_S = 600.0
"""A recording that nobody takes is dropped so long after its end."""
_PIECE_BYTES = 16_384
"""Written in one turn of the thread, which holds the interpreter's lock meanwhile: half a millisecond."""


class Kept(NamedTuple):
    """One request, as it came. `at_s`: from the begin of the recording."""

    at_s: float
    path: str
    content_type: str
    body: bytes


class Recording:
    """The requests of one endpoint for some time. It is over with the first request that does not fit any more."""

    def __init__(
        self, name: str, asked: RecordRequest, began_s: float, began_at: float, draw: Callable[[], float]
    ) -> None:
        self.name, self.asked, self.began_s, self.began_at = name, asked, began_s, began_at
        self.kept: list[Kept] = []
        self.seen = self.body_bytes = 0
        self.ended: Ended = ""
        self.ended_s = 0.0
        self._draw = draw

    def take(self, path: str, content_type: str, body: bytes, now_s: float) -> bool:
        """A request came. Returns False where it does not fit: the recording is full."""
        self.seen += 1
        if self._draw() >= self.asked.sample:
            return True
        size = self.body_bytes + len(body) + (len(self.kept) + 1) * OVERHEAD_BYTES
        if size > self.asked.max_bytes:
            self.seen -= 1
            return False
        self.body_bytes += len(body)
        self.kept.append(Kept(now_s - self.began_s, path, content_type, body))
        return True

    def end(self, why: Ended, now_s: float) -> None:
        """No more comes."""
        self.ended, self.ended_s = why, now_s

    def status(self, now_s: float) -> RecordingStatus:
        """As of now."""
        return RecordingStatus(
            name=self.name,
            running=not self.ended,
            seen=self.seen,
            kept=len(self.kept),
            body_bytes=self.body_bytes,
            seconds=(self.ended_s if self.ended else now_s) - self.began_s,
            ended=self.ended,
        )

    def header(self) -> RecordingHeader:
        """The file's first line."""
        return RecordingHeader(
            model=self.name,
            began_at=self.began_at,
            seconds=round(self.ended_s - self.began_s, 6),
            sample=self.asked.sample,
            seen=self.seen,
            kept=len(self.kept),
            ended=self.ended,
            redact=self.asked.redact,
        )


class Recorder:
    """The recordings of a gateway, at most one an endpoint. All calls on the loop's thread.

    clock: monotonic seconds, that of the requests' arrival.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.running: dict[str, Recording] = {}
        self._ended: dict[str, Recording] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._clock = clock

    def start(self, name: str, asked: RecordRequest) -> RecordingStatus:
        """Begin; a recording that was not taken is dropped. Raises Conflict, BadRequest."""
        if name in self.running:
            raise Conflict(f"{name} is being recorded already", hint=f"`nbserve record {name} --stop` ends that one")
        _check(asked)
        self._ended.pop(name, None)
        recording = Recording(name, asked, self._clock(), time.time(), random.Random().random)
        self.running[name] = recording
        self._after(asked.seconds, name, lambda: self._end(name, "time"))
        return recording.status(self._clock())

    def take(self, name: str, path: str, content_type: str, body: bytes, now_s: float) -> None:
        """A request of an endpoint; of one that is not recorded too."""
        recording = self.running.get(name)
        if recording is not None and not recording.take(path, content_type, body, now_s):
            self._end(name, "full")

    def status(self, name: str) -> RecordingStatus:
        """Raises NotFound."""
        return self._find(name).status(self._clock())

    def stop(self, name: str) -> Recording:
        """End it, where it is not over, and hand it out; it stays until `drop`. Raises NotFound."""
        if name in self.running:
            self._end(name, "stopped")
        return self._find(name)

    def drop(self, recording: Recording) -> None:
        """Forget what was handed out."""
        if self._ended.get(recording.name) is recording:
            del self._ended[recording.name]
            self._timers.pop(recording.name).cancel()

    def _end(self, name: str, why: Ended) -> None:
        recording = self.running.pop(name)
        recording.end(why, self._clock())
        self._ended[name] = recording
        self._after(HELD_S, name, lambda: self.drop(recording))

    def _find(self, name: str) -> Recording:
        found = self.running.get(name) or self._ended.get(name)
        if found is None:
            raise NotFound(f"{name} is not being recorded", hint=f"`nbserve record {name}` begins")
        return found

    def _after(self, seconds: float, name: str, do: Callable[[], None]) -> None:
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, do)


async def pieces(recording: Recording) -> AsyncIterator[bytes]:
    """The file of a recording that is over, redacted, some whole lines at a time; the work is done by a thread."""
    yield msgspec.json.encode(recording.header()) + b"\n"
    names = {name.lower() for name in recording.asked.redact}
    kept, first = recording.kept, 0
    while first < len(kept):
        end = _piece_end(kept, first)
        yield await asyncio.to_thread(_written, kept[first:end], names)
        first = end


def _piece_end(kept: Sequence[Kept], first: int) -> int:
    size = 0
    for place in range(first, len(kept)):
        size += len(kept[place].body) + OVERHEAD_BYTES
        if size >= _PIECE_BYTES:
            return place + 1
    return len(kept)


def _written(kept: Sequence[Kept], names: set[str]) -> bytes:
    lines = []
    for request in kept:
        body = redacted(request.body, names) if names else request.body
        line = recorded(request.at_s, request.path, request.content_type, body, size=len(request.body))
        lines.append(msgspec.json.encode(line))
    return b"\n".join((*lines, b""))


def _check(asked: RecordRequest) -> None:
    if not 0 < asked.sample <= 1:
        raise BadRequest(f"sample must be above 0 and at most 1, not {asked.sample:g}")
    if not 0 < asked.seconds <= MAX_SECONDS:
        raise BadRequest(f"seconds must be above 0 and at most {MAX_SECONDS:g}, not {asked.seconds:g}")
    if not 0 < asked.max_bytes <= MAX_BYTES:
        raise BadRequest(f"max_bytes must be above 0 and at most {MAX_BYTES}, not {asked.max_bytes}")
