"""A simulated clock, loop and workers for the batcher: thousands of seconds of traffic in milliseconds, repeatable."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from nbserve.errors import ErrorInfo
from nbserve.gateway.batcher import Answered, Batcher, Request
from nbserve.gateway.cost import Cost
from nbserve.wire.frames import Buffer, Flag
from nbserve.wire.messages import AnswerItem, AnswerMeta, RequestItem, Timings


class Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class SimLoop:
    """The part of an event loop that the batcher uses."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...], Handle]] = []
        self._order = itertools.count()
        self.turns = 0

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> Handle:
        assert delay_s >= 0
        handle = Handle()
        heapq.heappush(self._heap, (self.now_s + delay_s, next(self._order), callback, args, handle))
        return handle

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> Handle:
        return self.call_later(0.0, callback, *args)

    def run(self, after_each_instant: Callable[[], None] = lambda: None) -> None:
        """Until nothing is left to happen."""
        while self._heap:
            at_s, _, callback, args, handle = heapq.heappop(self._heap)
            if handle.cancelled:
                continue
            self.turns += 1
            assert self.turns < 200_000, "a busy loop"
            self.now_s = at_s
            callback(*args)
            if not self._heap or self._heap[0][0] > at_s:
                after_each_instant()


class SimWorker:
    """Answers after s(b), or dies `dies_at` the n-th batch and comes back a second later."""

    def __init__(self, id: int, loop: SimLoop, cost: Cost, deaths: set[int]) -> None:  # noqa: A002
        self.id = id
        self.loop = loop
        self.cost = cost
        self.deaths = deaths
        self.batches = 0
        self.busy = False
        self.alive = True
        self.listener: Batcher | None = None
        self.sent: list[tuple[float, list[str], Flag]] = []

    def send(
        self, batch_id: int, items: list[RequestItem], bodies: Sequence[Buffer], flags: Flag, timeout_s: float | None
    ) -> None:
        assert self.alive, "a dead worker was sent a batch"
        assert not self.busy, "a busy worker was sent another batch"
        assert len(items) == len(bodies)
        assert items
        self.busy = True
        self.batches += 1
        self.sent.append((self.loop.now_s, [item.request_id for item in items], flags))
        fate = self._die if self.batches in self.deaths else self._answer
        self.loop.call_later(self.cost.predict_s(len(items)), fate, batch_id, len(items))

    def kill(self) -> None:
        raise AssertionError("nothing here cannot be sent")

    def _answer(self, batch_id: int, count: int) -> None:
        self.busy = False
        items = [AnswerItem(i, "whole", 200, "text/plain") for i in range(count)]
        assert self.listener is not None
        self.listener.batch_answered(self, batch_id, AnswerMeta(items, Timings()), [b"ok"] * count)  # type: ignore[arg-type]

    def _die(self, batch_id: int, _count: int) -> None:
        self.busy, self.alive = False, False
        assert self.listener is not None
        info = ErrorInfo(type="WorkerDied", message="the worker was killed by SIGKILL in inference")
        self.listener.worker_gone(self, info.message)  # type: ignore[arg-type]
        self.listener.batch_lost(self, batch_id, info)  # type: ignore[arg-type]
        self.loop.call_later(1.0, self._restart)

    def _restart(self) -> None:
        self.alive = True
        assert self.listener is not None
        self.listener.worker_ready(self)  # type: ignore[arg-type]


class SimRequest(Request):
    """Notes when it was answered, and that it was so once."""

    __slots__ = ("answer", "answered_s", "loop")

    def __init__(self, number: int, loop: SimLoop, body: bytes = b"x") -> None:
        super().__init__(RequestItem("text/plain", str(number)), body, loop.now_s)
        self.loop = loop
        self.answer: Answered | None = None
        self.answered_s = 0.0

    def answered(self, answer: Answered) -> None:
        assert self.answer is None, f"request {self.item.request_id} was answered twice"
        self.answer = answer
        self.answered_s = self.loop.now_s
