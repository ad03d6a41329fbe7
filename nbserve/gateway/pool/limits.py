"""The batches that a worker has in hand and how long each may take; the clocks stop while the worker is paused.

Used by worker.py. Acts through the callbacks it is given; the loop is only asked for the time and for timers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["INTERRUPT_GRACE_S", "Countdown", "InHand"]

INTERRUPT_GRACE_S = 5.0
"""How long interrupted user code may take to come back before its worker is killed."""


class Countdown:
    """Calls back once after so many seconds, those in which it was paused not counted."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._left_s: float | None = seconds  # None = over: it has called back, or was cancelled
        self._ends_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.resume()

    def resume(self) -> None:
        """Go on with what is left; nothing where it runs already, or is over."""
        if self._timer is None and self._left_s is not None:
            self._ends_s = self._loop.time() + self._left_s
            self._timer = self._loop.call_later(self._left_s, self._fire)

    def pause(self) -> None:
        """Stop the clock; nothing where it stands already."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._left_s = None, max(0.0, self._ends_s - self._loop.time())

    def cancel(self) -> None:
        """It will not call back any more."""
        self.pause()
        self._left_s = None

    def _fire(self) -> None:
        self._timer, self._left_s = None, None
        self._callback()


class InHand:
    """Batches by id. One over its limit is handed to `interrupt`; if that does not end it in time, `kill` is called."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, interrupt: Callable[[int], None], kill: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._interrupt = interrupt
        self._kill = kill
        self._limits: dict[int, Countdown | None] = {}
        self._late: set[int] = set()
        self._is_paused = False

    def __contains__(self, batch_id: int) -> bool:
        return batch_id in self._limits

    def __len__(self) -> int:
        return len(self._limits)

    def add(self, batch_id: int, limit_s: float | None) -> None:
        """A batch that may take so long; None = as long as it likes."""
        limit = Countdown(self._loop, limit_s, lambda: self._expire(batch_id)) if limit_s is not None else None
        if limit is not None and (self._limits or self._is_paused):
            limit.pause()  # sent ahead: its time begins when the worker comes to it
        self._limits[batch_id] = limit

    def remove(self, batch_id: int) -> None:
        """It has been answered."""
        if (limit := self._limits.pop(batch_id)) is not None:
            limit.cancel()
        self._late.discard(batch_id)
        if not self._is_paused:
            self._run_first()

    def pause(self) -> None:
        """Stop all clocks."""
        self._is_paused = True
        for limit in self._limits.values():
            if limit is not None:
                limit.pause()

    def resume(self) -> None:
        """The clocks go on."""
        self._is_paused = False
        self._run_first()

    def _run_first(self) -> None:
        """A worker does one batch after the other: only the clock of the first runs."""
        for limit in self._limits.values():
            if limit is not None:
                limit.resume()
            break

    def lose(self) -> dict[int, bool]:
        """The worker has died: what it had, and whether each was over its limit. Nothing is in hand afterwards."""
        lost = {batch_id: batch_id in self._late for batch_id in self._limits}
        for batch_id in lost:
            self.remove(batch_id)
        self._is_paused = False
        return lost

    def _expire(self, batch_id: int) -> None:
        self._late.add(batch_id)
        self._limits[batch_id] = Countdown(self._loop, INTERRUPT_GRACE_S, self._kill)
        self._interrupt(batch_id)
