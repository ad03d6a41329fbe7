"""What happens, as a stream: stages, states, prints, errors, rates. One bus for the gateway.

The pool, the registry and gateway/inference emit; GET /events (gateway/management) subscribes. The bus stamps `seq`
and `at`, remembers the last events in bounded memory, and never waits for a reader: who falls behind is cut off with a
note.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from nbserve.wire.management import Event

__all__ = ["EventBus", "Rates", "Subscriber"]

RING_BYTES = 4 * 1024 * 1024
SUBSCRIBER_BYTES = 8 * 1024 * 1024
"""What a reader may be behind; more than the ring, so that a new reader gets all of that."""
TEXT_LIMIT_CHARS = 64 * 1024
"""Of one print; the rest is cut."""
RATES_INTERVAL_S = 1.0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Event).decode


class _Remembered(msgspec.Struct, frozen=True, gc=False):
    """An event as its line. Thousands of them do not make each full garbage collection longer."""

    seq: int
    kind: str
    model: str
    version: str
    line: bytes


class Subscriber:
    """One reader: lines to send, and whether it was cut off or the stream has ended."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._changed = asyncio.Event()
        self.ended = False
        self.last_seq = 0

    async def next(self) -> bytes:
        """Everything that is there, as whole lines; waits for something. Empty at the end of the stream."""
        while not self._lines and not self.ended:
            self._changed.clear()
            await self._changed.wait()
        data = b"".join(self._lines)
        self._lines.clear()
        self._size = 0
        return data

    def push(self, seq: int, line: bytes) -> bool:
        """Add an event's line; False where the reader is too far behind for it."""
        if self._size + len(line) > SUBSCRIBER_BYTES:
            return False
        self.last_seq = seq
        self._lines.append(line)
        self._size += len(line)
        self._changed.set()
        return True

    def end(self, line: bytes) -> None:
        """The last line, always accepted."""
        self._lines.append(line)
        self.ended = True
        self._changed.set()


class EventBus:
    """Stamps, remembers, hands on."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seq = 0
        self._ring: deque[_Remembered] = deque()
        self._ring_bytes = 0
        self._subscribers: set[Subscriber] = set()
        self._ended = False
        self.on_listeners: Callable[[bool], None] = lambda _listening: None
        """Called with True when the first reader comes, with False when the last one has gone."""

    def emit(self, event: Event) -> None:
        """Stamp `seq` and `at`, remember (rates are not), and hand on."""
        self._seq += 1
        event.seq, event.at = self._seq, self._clock()
        if len(event.text) > TEXT_LIMIT_CHARS:
            event.text = f"{event.text[:TEXT_LIMIT_CHARS]}\n... ({len(event.text) - TEXT_LIMIT_CHARS} characters cut)\n"
        line = _line(event)
        if event.kind != "rates":
            self._remember(event, line)
        for subscriber in list(self._subscribers):
            if not subscriber.push(event.seq, line):
                self._end(subscriber, "this reader is too slow: ask again, since the sequence number of this note")

    def note(self, text: str, **data: Any) -> None:
        """Emit an event of the gateway itself."""
        self.emit(Event(seq=0, at=0.0, kind="gateway", text=text, data=data))

    def since(self, seq: int) -> bytes:
        """Lines of what is remembered after `seq`, oldest first."""
        return b"".join(one.line for one in self._ring if one.seq > seq)

    def logs(self, model: str, lines: int, version: str = "") -> list[Event]:
        """The last prints and errors of a model that are remembered, oldest first; at most `lines` events."""
        mine = (
            one.line
            for one in reversed(self._ring)
            if one.model == model and (not version or one.version == version) and one.kind in ("log", "error")
        )
        return [_decode(line) for line in itertools.islice(mine, lines)][::-1]

    @property
    def seq(self) -> int:
        """The number of the last event."""
        return self._seq

    def of_model(self, model: str, since: int, most: int) -> list[Event]:
        """What is remembered of a model after `since`, oldest first: the last `most` of it."""
        late = itertools.takewhile(lambda one: one.seq > since, reversed(self._ring))
        mine = (one.line for one in late if one.model == model)
        return [_decode(line) for line in itertools.islice(mine, most)][::-1]

    def subscribe(self, since: int) -> Subscriber:
        """A reader of what came after `since` and of all that comes. Give it back with `unsubscribe`."""
        subscriber = Subscriber()
        for one in self._ring:
            if one.seq > since:
                subscriber.push(one.seq, one.line)
        if self._ended:
            subscriber.end(b"")
            return subscriber
        self._subscribers.add(subscriber)
        if len(self._subscribers) == 1:
            self.on_listeners(True)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """The reader is gone."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)
            if not self._subscribers:
                self.on_listeners(False)

    def close(self, text: str) -> None:
        """End all streams with this note."""
        self._ended = True
        for subscriber in list(self._subscribers):
            self._end(subscriber, text)

    def _end(self, subscriber: Subscriber, text: str) -> None:
        """A last note, numbered as the last event that this reader got: `since` goes on from there."""
        note = Event(seq=subscriber.last_seq, at=self._clock(), kind="gateway", text=text)
        subscriber.end(_line(note))
        self.unsubscribe(subscriber)

    def _remember(self, event: Event, line: bytes) -> None:
        self._ring.append(_Remembered(event.seq, event.kind, event.model, event.version, line))
        self._ring_bytes += len(line)
        while self._ring_bytes > RING_BYTES:
            self._ring_bytes -= len(self._ring.popleft().line)


class Rates:
    """The "rates" events: once a second while somebody listens, for each version whose numbers changed."""

    def __init__(self, bus: EventBus, sample: Callable[[float], Iterable[Event]]) -> None:
        """`sample(seconds)`: events for what changed since it was last called, so many seconds ago."""
        self._bus = bus
        self._sample = sample
        self._timer: asyncio.TimerHandle | None = None
        self._last_s = 0.0
        bus.on_listeners = self._listen

    def _listen(self, listening: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if listening:
            loop = asyncio.get_running_loop()
            self._last_s = loop.time()
            self._sample(0.0)
            self._timer = loop.call_later(RATES_INTERVAL_S, self._tick)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        events = list(self._sample(now_s - self._last_s))
        self._last_s = now_s
        self._timer = loop.call_later(RATES_INTERVAL_S, self._tick)
        for event in events:
            self._bus.emit(event)


def _line(event: Event) -> bytes:
    return _encode(event) + b"\n"
