"""After a batch was lost or ran out of memory: which requests are tried again, and how large batches may be meanwhile.

Decisions for gateway/batcher; time is an argument. What a worker died of is unknown when it dies: every request of its
batch is a suspect and is tried again alone, `retries` times, on a budget.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo
from nbserve.gateway.policy import Budget
from nbserve.gateway.request import Request, Where

__all__ = ["BatchCap", "Retries", "Suspects"]

log = logging.getLogger("nbserve.batcher")

RETRIES_PER_S, RETRIES_AT_ONCE = 10.0, 200.0
"""Requests whose worker died may be tried again at this rate (10/s is the floor of Finagle's retry budget)."""
ISOLATION_SHARE, ISOLATION_AT_ONCE_S = 0.25, 1.0
"""Seconds a second for finding bad requests in failed batches; when spent, requests go one by one for a while."""
CLEAN_BATCHES = 50
"""So many batches in a row that went well double a lowered batch cap."""


class BatchCap:
    """The largest batch for now: `max_batch_size`, less where memory ran out, 1 where isolation's time is used up."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._size = config.max_batch_size
        self._clean_batches = 0
        workers = config.workers if isinstance(config.workers, int) else 1
        self._isolation = Budget(ISOLATION_SHARE * workers, ISOLATION_AT_ONCE_S)

    def limits(self, now_s: float) -> ModelConfig:
        """The configuration with that batch size."""
        size = 1 if self._isolation.is_spent(now_s) else self._size
        if size == self._config.max_batch_size:
            return self._config
        return msgspec.structs.replace(self._config, max_batch_size=size)

    def lower(self, size: int) -> None:
        """Batches over this size ran out of memory."""
        self._size = max(1, min(self._size, size))
        self._clean_batches = 0
        log.warning("batches are at most %d for now: a larger one ran out of memory or killed its worker", self._size)

    def note_clean(self) -> None:
        """A batch went well."""
        self._clean_batches += 1
        if self._size < self._config.max_batch_size and self._clean_batches >= CLEAN_BATCHES:
            self._size = min(self._config.max_batch_size, 2 * self._size)
            self._clean_batches = 0

    def note_trouble(self, extra: dict[str, Any], now_s: float) -> None:
        """A worker had to run parts of a batch again: for a bad request, or for want of memory (ANSWER's `extra`)."""
        self._isolation.spend(float(extra.get("isolation_s", 0.0)), now_s)
        if fits := int(extra.get("memory_fits", 0)):
            self.lower(fits)


class Suspects:
    """The requests of a batch that was lost, now tried one by one: was it one of them, or were they too many?

    Lost to the time limit it is always one of them (`guilty`); when two have run into it alone, it is the handler.
    """

    __slots__ = ("guilty", "left", "size", "timeouts")

    def __init__(self, size: int, *, guilty: bool) -> None:
        self.size = size
        self.left = size
        self.guilty = guilty
        self.timeouts = 0


class Retries:
    """Requests that wait to be tried again, each alone, before all others."""

    def __init__(self, retries: int, cap: BatchCap) -> None:
        self._retries = retries
        self._cap = cap
        self._budget = Budget(RETRIES_PER_S, RETRIES_AT_ONCE)
        self._waiting: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def pop(self) -> Request:
        """The next one."""
        return self._waiting.popleft()

    def clear(self) -> list[Request]:
        """All of them; none is tried again."""
        waiting, self._waiting = self._waiting, deque()
        return list(waiting)

    def drop(self, request: Request) -> None:
        """Its client has gone."""
        self._waiting = deque(other for other in self._waiting if other is not request)

    def lost(self, requests: Sequence[Request], info: ErrorInfo, now_s: float) -> list[Request]:
        """A worker died at these: takes in what is tried again, and returns those that fail now.

        Those fail that had their tries, that ran into the time limit alone, or for which the budget does not last.
        """
        waiting = [request for request in requests if request.state is not Where.DONE]
        late = info.status == 504
        suspects = None
        if len(waiting) > 1 and (late or info.status == 507):
            suspects = Suspects(len(waiting), guilty=late)
        failed = []
        for request in waiting:
            if request.group is not None:  # it was alone, and its worker died again
                request.group.guilty = True
                request.group.timeouts += late
            alone = late and len(requests) == 1
            if request.tries >= self._retries or alone or self._budget.is_spent(now_s):
                failed.append(request)
                continue
            self._budget.spend(1, now_s)
            request.tries += 1
            request.group = request.group or suspects
            request.state, request.parts = Where.AGAIN, None
            self._waiting.append(request)
        return failed + self._of_slow_groups()

    def put_back(self, requests: Sequence[Request]) -> None:
        """These were sent once more, and their worker died of something else before it began."""
        self._waiting.extendleft(reversed(requests))

    def completed(self, group: Suspects) -> None:
        """One of these has its answer. If all get through alone, it was none of them: they were too many at once."""
        group.left -= 1
        if group.left == 0 and not group.guilty:
            self._cap.lower(group.size // 2)

    def _of_slow_groups(self) -> list[Request]:
        """Two of a group have run into the time limit alone: the others would too, and hold up everybody."""
        slow = [request for request in self._waiting if request.group is not None and request.group.timeouts >= 2]
        for request in slow:
            self.drop(request)
        return slow
