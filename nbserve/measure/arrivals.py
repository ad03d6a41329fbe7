"""When requests are due in an open loop: pure schedules, the same for the same seed. Called by `load.py`."""

from __future__ import annotations

import random
from collections.abc import Iterator

from nbserve.measure.result import Arrivals

__all__ = ["BURST", "arrivals"]

BURST = 8.0
"""Mean number of requests that come at the same moment where arrivals are bursty."""


def arrivals(kind: Arrivals, rate: float, seed: int, *, share: int = 0, shares: int = 1) -> Iterator[float]:
    """Seconds from the start at which one of `shares` load processes sends, in order, without end.

    All shares together make `rate` requests a second. poisson: independent clients, exponential gaps. constant: equal
    gaps. bursty: a compound Poisson process, bursts of geometric size with a mean of 8 requests.
    """
    if rate <= 0:
        raise ValueError(f"rate must be positive, not {rate}")
    draw = random.Random(f"{kind} {seed} {share}")
    if kind == "constant":
        return _constant(rate, share, shares)
    if kind == "poisson":
        return _poisson(rate / shares, draw)
    if kind == "bursty":
        return _bursty(rate / shares, draw)
    raise ValueError(f"{kind} requests come when they came")  # measure/replay has them


def _constant(rate: float, share: int, shares: int) -> Iterator[float]:
    turn = share
    while True:
        yield turn / rate
        turn += shares


def _poisson(rate: float, draw: random.Random) -> Iterator[float]:
    at_s = 0.0
    while True:
        at_s += draw.expovariate(rate)
        yield at_s


def _bursty(rate: float, draw: random.Random) -> Iterator[float]:
    for at_s in _poisson(rate / BURST, draw):
        yield at_s
        while draw.random() > 1 / BURST:
            yield at_s
