"""How long a batch takes: s(b) = a + c*b, learnt from the batches themselves. Pure: durations come in as numbers.

One `CostModel` per model version, seeded by the warm-up sweep and fed by gateway/batcher with every ordinary batch
(retried ones stay out). The policy reads `cost`, a plain tuple.

The fit is Theil-Sen over the median of each batch size: a stall of the machine, or a handler's first slow call, does
not move it. Memory is bounded: a few durations for each of at most some forty classes of batch sizes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

__all__ = ["Cost", "CostModel"]

KEPT_PER_CLASS = 16
"""Durations remembered for each class of batch sizes; older ones are forgotten."""
REFIT_EVERY = 16
REFIT_EVERY_S = 0.05
"""Between two fits lie so many batches at least, and so many seconds of them: a fit takes up to 0.2 ms."""
EXACT_UP_TO = 16
"""Batch sizes up to here are classes of their own; above, four classes to each doubling."""


class Cost(NamedTuple):
    """s(b) = a_s + c_s * b seconds; nine of ten batches take at most `margin_s` longer."""

    a_s: float
    c_s: float
    margin_s: float = 0.0

    def predict_s(self, batch_size: int) -> float:
        """Seconds that a batch of this size takes."""
        return self.a_s + self.c_s * batch_size


class CostModel:
    """Learns the cost of one model version."""

    def __init__(self) -> None:
        self._classes: dict[int, deque[tuple[int, float]]] = {}
        self._since_fit, self._since_fit_s = 0, 0.0
        self._cost: Cost | None = None

    @property
    def cost(self) -> Cost | None:
        """The fit; None before the first batch. At most REFIT_EVERY batches old, or REFIT_EVERY_S."""
        return self._cost

    @property
    def points(self) -> list[tuple[int, float]]:
        """The median of each class of batch sizes: size, seconds."""
        return [(round(size), seconds) for size, seconds in map(_middle, self._classes.values())]

    def observe(self, batch_size: int, seconds: float) -> None:
        """Take in one batch: for how long it kept its worker from the next one."""
        seen = self._classes.setdefault(_size_class(batch_size), deque(maxlen=KEPT_PER_CLASS))
        seen.append((batch_size, seconds))
        self._since_fit += 1
        self._since_fit_s += seconds
        if self._cost is None or (self._since_fit >= REFIT_EVERY and self._since_fit_s >= REFIT_EVERY_S):
            self.refit()

    def seed(self, observations: Iterable[tuple[int, float]]) -> None:
        """Take in the warm-up sweep, (batch size, seconds) each, and fit at once."""
        for batch_size, seconds in observations:
            self.observe(batch_size, seconds)
        self.refit()

    def refit(self) -> None:
        """Fit now."""
        self._since_fit, self._since_fit_s = 0, 0.0
        points = [_middle(seen) for seen in self._classes.values()]
        if not points:
            return
        a_s, c_s = _theil_sen(points)
        over = sorted(max(0.0, s - (a_s + c_s * b)) for seen in self._classes.values() for b, s in seen)
        self._cost = Cost(a_s, c_s, over[int(0.9 * (len(over) - 1))])


def _size_class(batch_size: int) -> int:
    if batch_size <= EXACT_UP_TO:
        return batch_size
    low = 1 << (batch_size.bit_length() - 1)
    step = low // 4
    return low + (batch_size - low) // step * step


def _middle(seen: Iterable[tuple[int, float]]) -> tuple[float, float]:
    sizes, durations = zip(*seen, strict=True)
    return median(sizes), median(durations)


def _theil_sen(points: list[tuple[float, float]]) -> tuple[float, float]:
    """(a, c), neither negative. With one batch size only: proportional, which errs on the long side for larger ones."""
    slopes = [(s2 - s1) / (b2 - b1) for i, (b1, s1) in enumerate(points) for b2, s2 in points[i + 1 :] if b1 != b2]
    if not slopes:
        b, s = points[0]
        return 0.0, s / b
    c_s = max(0.0, median(slopes))
    return max(0.0, median([s - c_s * b for b, s in points])), c_s
