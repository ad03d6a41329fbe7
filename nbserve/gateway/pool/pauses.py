"""Why a worker takes no requests although it runs: somebody uses its shell, or holds it aside for a look inside.

Owned by worker.py. Both may be true at once; it serves again when neither is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from nbserve.gateway.pool.limits import InHand

__all__ = ["Hold", "Pauses"]


class Hold(NamedTuple):
    """A worker is held for a look inside. `ends_s`: by the loop's clock."""

    serves: bool
    ends_s: float
    timer: asyncio.TimerHandle


class Pauses:
    """Stops the clocks of what is in hand, and calls `stand_aside` and `come_back`, which may be called needlessly."""

    def __init__(self, in_hand: InHand, stand_aside: Callable[[], None], come_back: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._in_hand, self._stand_aside, self._come_back = in_hand, stand_aside, come_back
        self._shell_in_use = False
        self.hold: Hold | None = None
        """Somebody looks inside."""

    def shell_taken(self) -> None:
        """Somebody uses the worker's shell: no new batches, and the clocks of its batches stop."""
        self._shell_in_use = True
        self._in_hand.pause()
        self._stand_aside()

    def shell_free(self) -> None:
        """Nobody does any more."""
        self._shell_in_use = False
        self._resume()

    def take_hold(self, seconds: float, *, serves: bool) -> None:
        """No requests (`serves`: requests with no time limit), for so long or until `release`."""
        if self.hold is not None:
            self.hold.timer.cancel()
        self.hold = Hold(serves, self._loop.time() + seconds, self._loop.call_later(seconds, self.release))
        self._in_hand.pause()
        if serves:
            self._resume()
        else:
            self._stand_aside()

    def release(self) -> None:
        """Give it back: it serves as before."""
        if self.hold is not None:
            self.hold.timer.cancel()
            self.hold = None
            self._resume()

    def end(self) -> None:
        """Its process is gone."""
        self._shell_in_use = False
        self.release()

    def _resume(self) -> None:
        if self._shell_in_use or (self.hold is not None and not self.hold.serves):
            return
        if self.hold is None:
            self._in_hand.resume()
        self._come_back()
