"""The batches that a worker has in hand and how long each may take; the clock stops while the worker is paused.

Used by worker.py. Acts through the callbacks it is given; the loop is only asked for the time and for timers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["INTERRUPT_GRACE_S", "InHand"]

INTERRUPT_GRACE_S = 5.0
"""How long interrupted user code may take to come back before its worker is killed."""


class InHand:
    """Batches by id. One over its limit is handed to `interrupt`; if that does not end it in time, `kill` is called.

    A worker does one batch after the other, so only the clock of the first runs. One timer serves all: it is left alone
    when a batch ends in time, as nearly all do, and looks again when it fires.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, interrupt: Callable[[int], None], kill: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._interrupt = interrupt
        self._kill = kill
        self._left_s: dict[int, float | None] = {}  # by batch, in the order they were sent; None = no limit
        self._late: set[int] = set()
        self._since_s: float | None = None  # when the clock of the first was last started; None = it stands still
        self._is_paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._rings_s = 0.0

    def __contains__(self, batch_id: int) -> bool:
        return batch_id in self._left_s

    def __len__(self) -> int:
        return len(self._left_s)

    def add(self, batch_id: int, limit_s: float | None) -> None:
        """A batch that may take so long; None = as long as it likes."""
        self._left_s[batch_id] = limit_s
        if len(self._left_s) == 1:
            self._run_first()

    def remove(self, batch_id: int) -> None:
        """It has been answered."""
        was_first = next(iter(self._left_s)) == batch_id
        del self._left_s[batch_id]
        self._late.discard(batch_id)
        if was_first:
            self._since_s = None
            if self._left_s:
                self._run_first()

    def pause(self) -> None:
        """Stop the clock."""
        self._is_paused = True
        if self._since_s is not None and (first := self._first()) is not None:
            batch_id, left_s = first
            self._left_s[batch_id] = max(0.0, left_s - (self._loop.time() - self._since_s))
        self._since_s = None

    def resume(self) -> None:
        """The clock goes on."""
        self._is_paused = False
        if self._since_s is None:
            self._run_first()

    def lose(self) -> dict[int, bool]:
        """The worker has died: what it had, and whether each was over its limit. Nothing is in hand afterwards."""
        lost = {batch_id: batch_id in self._late for batch_id in self._left_s}
        self._left_s.clear()
        self._late.clear()
        self._since_s, self._is_paused = None, False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return lost

    def _first(self) -> tuple[int, float] | None:
        """The batch that the worker is at and the seconds it had left when its clock was started; None = no limit."""
        for batch_id, left_s in self._left_s.items():
            return None if left_s is None else (batch_id, left_s)
        return None

    def _run_first(self) -> None:
        if not self._is_paused and (first := self._first()) is not None:
            self._since_s = now_s = self._loop.time()
            self._ring_at(now_s + first[1])

    def _ring_at(self, at_s: float) -> None:
        if self._timer is not None:
            if self._rings_s <= at_s:
                return
            self._timer.cancel()
        self._rings_s = at_s
        self._timer = self._loop.call_at(at_s, self._look)

    def _look(self) -> None:
        """The timer has fired: is the first over its limit?"""
        self._timer = None
        first, since_s = self._first(), self._since_s
        if first is None or since_s is None:
            return
        batch_id, left_s = first
        if self._rings_s < since_s + left_s:
            self._ring_at(since_s + left_s)
        elif batch_id in self._late:
            self._since_s = None
            self._kill()
        else:
            self._late.add(batch_id)
            self._left_s[batch_id] = INTERRUPT_GRACE_S
            self._run_first()
            self._interrupt(batch_id)
