"""Percentiles, intervals and comparisons of what was measured: pure. Called by `measured.py`, `bench.py`, `search.py`.

Latencies are HdrHistograms of microseconds (1 us to one hour, three significant digits: within 0.1 %), as in wrk2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from hdrh.histogram import HdrHistogram

__all__ = [
    "LONGEST_US",
    "Interval",
    "change_between",
    "decoded",
    "encoded",
    "is_stable",
    "latencies_ms",
    "mean_interval",
    "merged",
    "new_histogram",
    "paired_change",
    "percentile_ms",
    "t_quantile",
]

LONGEST_US = 3_600_000_000
CONFIDENCE = 0.95
SMALLEST_CHANGE_PERCENT = 1.0
"""Less is never called a difference: where a process's memory happens to lie moves the very same code by more than that
(Mytkowicz et al., "Producing Wrong Data Without Doing Anything Obviously Wrong!", ASPLOS 2009)."""
_STABLE_WINDOWS = 3
_STABLE_WITHIN = 0.10


class Interval(NamedTuple):
    """A mean and half of its confidence interval."""

    mean: float
    half_width: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero is no likely value."""
        return abs(self.mean) > self.half_width


def new_histogram() -> HdrHistogram:
    """An empty one; record microseconds."""
    return HdrHistogram(1, LONGEST_US, 3)


def encoded(histogram: HdrHistogram) -> str:
    """As text: base64 of the compressed V2 format, which other HdrHistogram tools read."""
    return str(histogram.encode().decode("ascii"))


def decoded(text: str) -> HdrHistogram:
    """The histogram that was encoded."""
    return HdrHistogram.decode(text)


def merged(texts: Iterable[str]) -> HdrHistogram:
    """All of them in one."""
    total = new_histogram()
    for text in texts:
        total.add(decoded(text))
    return total


def percentile_ms(histogram: HdrHistogram, percent: float) -> float:
    """Milliseconds under which so many percent of the values lie; 0 where there are none."""
    return float(histogram.get_value_at_percentile(percent)) / 1e3 if histogram.total_count else 0.0


def latencies_ms(histogram: HdrHistogram) -> dict[str, float]:
    """ "mean", "p50", "p90", "p99", "p99.9", "max" in milliseconds; empty where nothing was answered."""
    if not histogram.total_count:
        return {}
    percents = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
    values = {name: percentile_ms(histogram, percent) for name, percent in percents.items()}
    return {"mean": float(histogram.get_mean_value()) / 1e3} | values


def is_stable(values: Sequence[float], noise: float = 0.0) -> bool:
    """Whether three windows in a row lie within 10 % of their mean, or within `noise` (what chance alone does)."""
    runs = (values[start : start + _STABLE_WINDOWS] for start in range(len(values) - _STABLE_WINDOWS + 1))
    return any(max(run) - min(run) <= max(_STABLE_WITHIN * fmean(run), noise) for run in runs)


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Mean of repeats (or of windows of one run: batch means) with Student's t interval; None for fewer than two."""
    count = len(values)
    if count < 2:
        return None
    spread = stdev(values) / math.sqrt(count)
    return Interval(fmean(values), t_quantile((1 + confidence) / 2, count - 1) * spread)


def paired_change(
    before: Sequence[float], after: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float, bool] | None:
    """Two versions measured in turns: (change in percent, half width in percent, whether they differ).

    A t interval over the logarithms of the ratios, pair by pair, so that what disturbs both members of a pair cancels.
    None for fewer than two pairs in which both are positive.
    """
    ratios = [math.log(late / early) for early, late in zip(before, after, strict=True) if early > 0 and late > 0]
    interval = mean_interval(ratios, confidence)
    if interval is None:
        return None
    change, low, high = (_percent(interval.mean + sign * interval.half_width) for sign in (0, -1, 1))
    return change, (high - low) / 2, interval.excludes_zero and abs(change) >= SMALLEST_CHANGE_PERCENT


def change_between(before: Interval, after: Interval) -> tuple[float, float, bool]:
    """Two measurements apart from each other: (change in percent, half width in percent, whether they differ).

    Relative errors are added in squares (the delta method for a ratio). Both means must be positive.
    """
    change = _percent(math.log(after.mean / before.mean))
    relative = math.hypot(before.half_width / before.mean, after.half_width / after.mean)
    half_width = 100 * relative * after.mean / before.mean
    return change, half_width, abs(change) > max(half_width, SMALLEST_CHANGE_PERCENT)


def _percent(log_ratio: float) -> float:
    return 100 * math.expm1(log_ratio)


def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t for whole degrees of freedom, 0.5 <= probability < 1.

    By bisection of the closed form of the distribution (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    if not 0.5 <= probability < 1 or degrees < 1:
        raise ValueError(f"no t quantile for probability {probability} and {degrees} degrees of freedom")
    inside = 2 * probability - 1
    low, high = 0.0, 1.0
    while _t_inside(high, degrees) < inside:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, degrees) < inside else (low, middle)
    return (low + high) / 2


def _t_inside(t: float, degrees: int) -> float:
    """Probability that a t variable lies within +-t."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(2 + odd, degrees - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
