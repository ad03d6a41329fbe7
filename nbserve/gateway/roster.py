"""Which workers of a version may get work: the idle ones, and the busy ones that may get a batch ahead.

Plain bookkeeping of gateway/batcher, which acts on it. A worker is handed batches in order and answers them in order,
so the first of those it holds is the one it works on.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbserve.gateway.pool.supervisor import Worker

__all__ = ["Roster"]


class Roster:
    """Workers by what they do now. `ready` ones are loaded and take traffic."""

    def __init__(self) -> None:
        self.ready: set[Worker] = set()
        self.idle: dict[Worker, float] = {}
        """-> idle since, in seconds; longest idle first."""
        self._held: dict[Worker, deque[int]] = {}
        self._open: dict[Worker, None] = {}  # busy with one ordinary batch, and ready: in the order of their dispatch

    def joins(self, worker: Worker, now_s: float) -> None:
        """It takes traffic from now on."""
        self.ready.add(worker)
        if worker not in self._held:
            self.idle[worker] = now_s

    def leaves(self, worker: Worker) -> None:
        """It gets nothing more; what it holds it may still answer."""
        self.ready.discard(worker)
        self.idle.pop(worker, None)
        self._open.pop(worker, None)

    def holds(self, worker: Worker) -> bool:
        """Whether it has a batch."""
        return worker in self._held

    def sent(self, worker: Worker, batch_id: int, *, alone: bool) -> None:
        """It has got a batch. `alone`: none may be sent after it before it is answered."""
        self.idle.pop(worker, None)
        held = self._held.setdefault(worker, deque())
        held.append(batch_id)
        if len(held) == 1 and not alone and worker in self.ready:
            self._open[worker] = None
        else:
            self._open.pop(worker, None)

    def done(self, worker: Worker, batch_id: int, now_s: float) -> int | None:
        """A batch was answered, or is lost -> the one that the worker goes on with, if any."""
        held = self._held.get(worker)
        if held is None or batch_id not in held:
            return None
        was_first = held[0] == batch_id
        held.remove(batch_id)
        self._open.pop(worker, None)
        if held:
            if worker in self.ready:
                self._open[worker] = None
            return held[0] if was_first else None
        del self._held[worker]
        if worker in self.ready:
            self.idle[worker] = now_s
        return None

    @property
    def may_get_ahead(self) -> Worker | None:
        """The worker that will be the first to be done with the one batch that it has."""
        return next(iter(self._open), None)
