"""How many workers a version with `--workers MIN:MAX` should run: a pure decision over queue time and busy time.

Called by gateway/registry at a fixed tick. Up quickly: requests wait longer than they should for three ticks in a row.
Down slowly: for half a minute the work would have kept one worker less busy by no more than two thirds. After every
change nothing is decided until the new number has had time to show. The two thresholds lie apart, so that the number
does not swing: what makes it go up (waiting) cannot hold while what makes it go down (idle workers) does.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["TICK_S", "Autoscaler", "Load"]

TICK_S = 0.5
UP_AFTER_TICKS = 3
WAIT_S = 0.05
"""Queue time that is too long, where there is no `slo_ms`; else a quarter of that."""
DOWN_AFTER_S = 30.0
DOWN_BELOW = 2 / 3
"""One worker less is enough where it would be busy no more than this share of the time."""
SETTLE_S = 3.0


class Load(NamedTuple):
    """One tick: seconds that the oldest request has waited; worker-seconds of work done since the last tick."""

    oldest_wait_s: float
    busy_s: float


class Autoscaler:
    """The decision for one version, between `least` and `most` workers."""

    def __init__(self, least: int, most: int, slo_ms: float | None = None) -> None:
        self.least = least
        self.most = most
        self._wait_s = slo_ms / 4e3 if slo_ms is not None else WAIT_S
        self._slow_ticks = 0
        self._quiet_since_s: float | None = None
        self._last_s: float | None = None
        self._settled_s = 0.0

    def decide(self, now_s: float, workers: int, load: Load) -> int:
        """How many workers to run; `workers` = no change."""
        elapsed_s = now_s - self._last_s if self._last_s is not None else TICK_S
        self._last_s = now_s
        self._slow_ticks = self._slow_ticks + 1 if load.oldest_wait_s > self._wait_s else 0
        fewer = max(1, workers - 1)
        quiet = self._slow_ticks == 0 and load.busy_s <= DOWN_BELOW * fewer * max(elapsed_s, 1e-9)
        if not quiet:
            self._quiet_since_s = None
        elif self._quiet_since_s is None:
            self._quiet_since_s = now_s
        if now_s < self._settled_s:
            return workers
        target = workers
        if self._slow_ticks >= UP_AFTER_TICKS:
            target = workers + 1
        elif self._quiet_since_s is not None and now_s - self._quiet_since_s >= DOWN_AFTER_S:
            target = workers - 1
        target = max(self.least, min(self.most, target))
        if target != workers:
            self._settled_s = now_s + SETTLE_S
            self._slow_ticks, self._quiet_since_s = 0, None
        return target
