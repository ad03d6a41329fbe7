"""A simulated clock, loop and workers for the batcher: thousands of seconds of traffic in milliseconds, repeatable."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from nbserve.errors import ErrorInfo
from nbserve.gateway.batcher import Batcher
from nbserve.gateway.cost import Cost
from nbserve.gateway.request import Answered, Request
from nbserve.wire.frames import Buffer, Flag
from nbserve.wire.messages import AnswerItem, AnswerMeta, RequestItem, Timings


class SimLoop(asyncio.base_events.BaseEventLoop):
    """An asyncio loop whose time is a number: waiting costs nothing, and there is nothing outside to wait for.

    What a callback raises is raised by `run` and `run_for`, and not only logged as asyncio does.
    """

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._clock_resolution = 1e-9
        self._until_s = math.inf
        self._after_instant: Callable[[], None] = lambda: None
        self._failures: list[dict[str, Any]] = []
        self.now_s = 0.0
        self.turns = 0
        self.set_exception_handler(lambda _loop, context: self._failures.append(context))

    def __del__(self) -> None:
        """It holds no file or thread that would have to be closed."""

    def time(self) -> float:
        return self.now_s

    def run(self, after_each_instant: Callable[[], None] = lambda: None) -> None:
        """Until nothing is left to happen."""
        self._run_until(math.inf, after_each_instant)

    def run_for(self, seconds: float) -> None:
        """Everything that happens in this time, its last instant included."""
        self._run_until(self.now_s + seconds, lambda: None)

    def _run_until(self, at_s: float, after_each_instant: Callable[[], None]) -> None:
        self._until_s, self._after_instant, self.turns = at_s, after_each_instant, 0
        self.run_forever()
        for context in self._failures:
            raise context.get("exception") or AssertionError(context["message"])

    # -- what asyncio's loop asks of a selector and of its subclasses --------------------------------------------------

    def select(self, timeout_s: float | None) -> list[Any]:
        self.turns += 1
        assert self.turns < 200_000, "a busy loop"
        if timeout_s is None or timeout_s > 0:
            self._after_instant()
            next_s = math.inf if timeout_s is None else self.now_s + timeout_s
            if next_s > self._until_s or next_s == math.inf:
                self.now_s = self.now_s if self._until_s == math.inf else self._until_s
                self.stop()
            else:
                self.now_s = next_s
        return []

    def _process_events(self, events: list[Any]) -> None:
        assert not events

    def _write_to_self(self) -> None:
        """Nobody wakes it from another thread."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """At once: a thread would live in another time."""
        future = self.create_future()
        future.set_result(func(*args))
        return future


class SimWorker:
    """Answers one batch after the other, each after s(b); or dies at the n-th and comes back a second later.

    `sent`: when each came, the ids in it, its flags. `ends_s`: when each is answered if nothing happens.
    `returned`: the ids of batches that it had not begun when it died; those are not in `sent`.
    """

    def __init__(self, id: int, loop: SimLoop, cost: Cost, deaths: set[int]) -> None:  # noqa: A002
        self.id = id
        self.loop = loop
        self.cost = cost
        self.deaths = deaths
        self.batches = 0
        self.held: deque[tuple[int, int]] = deque()  # batch id and size; the first is the one in hand
        self.alive = True
        self.listener: Batcher | None = None
        self.sent: list[tuple[float, list[str], Flag]] = []
        self.ends_s: list[float] = []
        self.returned: list[list[str]] = []

    def send(
        self, batch_id: int, items: list[RequestItem], bodies: Sequence[Buffer], flags: Flag, timeout_s: float | None
    ) -> None:
        assert self.alive, "a dead worker was sent a batch"
        assert len(self.held) < 2, "a third batch for one worker"
        if self.held:
            assert not flags
            assert not self.sent[-1][2], "a batch after one that must be alone"
        assert len(items) == len(bodies)
        assert items
        begins_s = self.ends_s[-1] if self.held else self.loop.now_s
        self.ends_s.append(begins_s + self.cost.predict_s(len(items)))
        self.sent.append((self.loop.now_s, [item.request_id for item in items], flags))
        self.held.append((batch_id, len(items)))
        if len(self.held) == 1:
            self._begin()

    def _begin(self) -> None:
        self.batches += 1
        batch_id, size = self.held[0]
        fate = self._die if self.batches in self.deaths else self._answer
        self.loop.call_later(self.cost.predict_s(size), fate, batch_id, size)

    def kill(self) -> None:
        raise AssertionError("nothing here cannot be sent")

    def _answer(self, batch_id: int, count: int) -> None:
        self.held.popleft()
        if self.held:
            self._begin()
        items = [AnswerItem(i, "whole", 200, "text/plain") for i in range(count)]
        assert self.listener is not None
        self.listener.batch_answered(self, batch_id, AnswerMeta(items, Timings()), [b"ok"] * count)  # type: ignore[arg-type]

    def _die(self, batch_id: int, _count: int) -> None:
        self.alive = False
        unbegun = [batch_id for batch_id, _ in self.held][1:]
        self.held.clear()
        for _ in unbegun:
            self.returned.append(self.sent.pop()[1])
            self.ends_s.pop()
        assert self.listener is not None
        info = ErrorInfo(type="WorkerDied", message="the worker was killed by SIGKILL in inference")
        self.listener.worker_gone(self, info.message)  # type: ignore[arg-type]
        self.listener.batch_lost(self, batch_id, info, began=True)  # type: ignore[arg-type]
        for lost in unbegun:
            self.listener.batch_lost(self, lost, info, began=False)  # type: ignore[arg-type]
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
