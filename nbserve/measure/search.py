"""The highest rate that meets a latency objective: what to try next, decided purely. Called by `bench.py`."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import NamedTuple

from hdrh.histogram import HdrHistogram

from nbserve.errors import UsageError
from nbserve.measure.result import Run
from nbserve.measure.stats import percentile_ms

__all__ = ["Slo", "keeps_up", "meets", "parse_slo", "search_rates"]

_KEEPS_UP = 0.95
"""Answers a second over requests a second that were due: below this the queue grows, and a longer run would be late."""
_IN_FLIGHT = 3
"""So many requests may be unanswered at the end of any run, however few there were."""
_PRECISION = 1.05
"""The search ends when the lowest rate that failed is within 5 % of the highest that did not."""
_TRIES = 24
_LOWEST_RATE = 0.5

_SLO = re.compile(r"(mean|p(\d{1,2}(?:\.\d+)?))\s*<=?\s*(\d+(?:\.\d+)?)\s*(us|µs|ms|s)", re.ASCII | re.IGNORECASE)
_MS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}


class Slo(NamedTuple):
    """A latency objective. `percent` None = the mean."""

    text: str
    percent: float | None
    limit_ms: float


def parse_slo(text: str) -> Slo:
    """ "p99<10ms", "p50 < 800us", "mean<0.2s". Raises UsageError naming what is wrong with it."""
    match = _SLO.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--slo {text!r} is not an objective", hint=_why_no_slo(text))
    limit_ms = float(match[3]) * _MS[match[4].lower()]
    if limit_ms <= 0:
        raise UsageError(f"--slo {text!r}: nothing is answered in no time", hint="e.g. p99<10ms")
    percent = float(match[2]) if match[2] else None
    if percent == 0:
        raise UsageError(f"--slo {text!r}: there is no p0", hint="e.g. p99<10ms, p50<5ms, mean<5ms")
    return Slo(text.strip().replace(" ", ""), percent, limit_ms)


def _why_no_slo(text: str) -> str:
    left, sign, right = (part.strip() for part in text.partition("<"))
    if not sign:
        return "it needs a '<', as in p99<10ms (in a shell in quotes: --slo 'p99<10ms')"
    if not re.fullmatch(r"(?i)mean|p\d{1,2}(\.\d+)?", left):
        return f"{left!r} is neither mean nor a percentile below 100: p50, p99, p99.9"
    return f"{right!r} is not a time with its unit: 800us, 10ms, 0.2s"


def keeps_up(run: Run) -> bool:
    """Whether an open loop's answers came as fast as its requests."""
    unanswered = (run.offered - run.rate) * run.load.duration_s
    return run.rate >= _KEEPS_UP * run.offered or unanswered <= _IN_FLIGHT


def meets(slo: Slo, histogram: HdrHistogram, failed: int) -> bool:
    """Whether these latencies meet the objective; a failed request counts as infinitely late."""
    answered = histogram.total_count
    if not answered:
        return False
    if slo.percent is None:
        return not failed and float(histogram.get_mean_value()) / 1e3 < slo.limit_ms
    among_answers = slo.percent * (answered + failed) / answered
    return among_answers <= 100 and percentile_ms(histogram, among_answers) < slo.limit_ms


def search_rates(first: float) -> Generator[float, bool, float]:
    """Yields rates to try and is sent whether each met the objective; returns the highest that did, 0 for none.

    Doubling (or halving) from `first` until one meets it and the double does not, then bisection to within 5 %.
    """
    met, missed = 0.0, float("inf")
    rate = first
    for _ in range(_TRIES):
        if (yield rate):
            met = max(met, rate)
        else:
            missed = min(missed, rate)
        if missed <= _LOWEST_RATE or (met and missed / met <= _PRECISION):
            break
        if not met:
            rate = max(missed / 2, _LOWEST_RATE)
        elif missed == float("inf"):
            rate = met * 2
        else:
            rate = (met + missed) / 2
    return met
