"""Schedules of the open loop: their rates, their shapes, and that shares add up."""

from __future__ import annotations

import heapq
import itertools
from statistics import fmean, stdev
from typing import get_args

import pytest

from nbserve.measure.arrivals import BURST, arrivals
from nbserve.measure.result import Arrivals

KINDS = [kind for kind in get_args(Arrivals) if kind != "recorded"]


def within(kind: Arrivals, rate: float, seconds: float, shares: int = 1, seed: int = 1) -> list[float]:
    """All shares' instants up to `seconds`, in order."""
    parts = [arrivals(kind, rate, seed, share=share, shares=shares) for share in range(shares)]
    return list(itertools.takewhile(lambda at_s: at_s < seconds, heapq.merge(*parts)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shares", [1, 3])
def test_the_rate_is_that_asked_for(kind: Arrivals, shares: int) -> None:
    instants = within(kind, 200.0, 100.0, shares)
    assert instants == sorted(instants)
    # 20 000 requests; bursty ones come 8 at a time, so that their deviation is sqrt(15) times that of Poisson's
    assert len(instants) == pytest.approx(20_000, rel=0.12 if kind == "bursty" else 0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_instants(kind: Arrivals) -> None:
    assert within(kind, 50, 10) == within(kind, 50, 10)
    if kind != "constant":
        assert within(kind, 50, 10) != within(kind, 50, 10, seed=2)


@pytest.mark.parametrize("kind", ["poisson", "bursty"])
def test_shares_do_not_send_together(kind: Arrivals) -> None:
    first, second = (list(itertools.islice(arrivals(kind, 50, 1, share=share, shares=2), 100)) for share in (0, 1))
    assert not set(first) & set(second)


def test_constant_arrivals_are_equally_far_apart_over_all_shares() -> None:
    instants = within("constant", 100, 1.0, shares=3)
    gaps = [late - early for early, late in itertools.pairwise(instants)]
    assert gaps == pytest.approx([0.01] * 99)


def test_poisson_gaps_deviate_as_much_as_they_last() -> None:
    instants = within("poisson", 100, 200)
    gaps = [late - early for early, late in itertools.pairwise(instants)]
    assert stdev(gaps) / fmean(gaps) == pytest.approx(1, abs=0.05)


def test_bursts_hold_eight_requests_in_the_mean() -> None:
    sizes = [len(list(burst)) for _, burst in itertools.groupby(within("bursty", 200, 200))]
    assert fmean(sizes) == pytest.approx(BURST, rel=0.1)
    assert max(sizes) > 3 * BURST


def test_no_rate_is_no_schedule() -> None:
    with pytest.raises(ValueError, match="positive"):
        arrivals("poisson", 0.0, 1)
