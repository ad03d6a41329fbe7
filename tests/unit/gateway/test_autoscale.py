"""Autoscaling as a pure decision: it follows a simulated load, stays in its bounds, and does not swing."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from nbserve.gateway.autoscale import TICK_S, Autoscaler, Load


def follow(scaler: Autoscaler, offered: list[float], workers: int = 1) -> list[int]:
    """A fluid queue: `offered` worker-seconds of work a second at each tick -> workers at each tick."""
    queue_s, seen = 0.0, []
    for tick, rate in enumerate(offered):
        work = queue_s + rate * TICK_S
        done = min(work, workers * TICK_S)
        queue_s = work - done
        workers = scaler.decide(tick * TICK_S, workers, Load(queue_s / workers, done))
        seen.append(workers)
    return seen


def minutes(count: float) -> int:
    return int(count * 60 / TICK_S)


def test_goes_up_with_the_load_within_seconds_and_down_within_minutes() -> None:
    seen = follow(Autoscaler(1, 4), [2.5] * minutes(1) + [0.2] * minutes(3))
    assert max(seen[: int(15 / TICK_S)]) >= 3
    assert seen[-1] == 1


def test_constant_load_does_not_swing() -> None:
    for rate in (0.3, 0.9, 1.5, 2.2, 3.1):
        seen = follow(Autoscaler(1, 6), [rate] * minutes(20))
        late = seen[minutes(5) :]
        changes = sum(a != b for a, b in itertools.pairwise(late))
        assert changes <= 1, (rate, changes)
        assert late[-1] >= rate


@given(st.lists(st.floats(0, 10), min_size=1, max_size=400), st.integers(1, 3), st.integers(0, 4))
def test_stays_in_its_bounds_and_moves_one_at_a_time(offered: list[float], least: int, more: int) -> None:
    seen = follow(Autoscaler(least, least + more), offered, workers=least)
    assert all(least <= workers <= least + more for workers in seen)
    assert all(abs(a - b) <= 1 for a, b in zip([least, *seen], seen, strict=False))


def test_an_objective_makes_it_more_eager() -> None:
    load = [Load(0.03, TICK_S)] * 10
    for slo_ms, expected in ((None, 1), (40.0, 2)):
        scaler, workers = Autoscaler(1, 2, slo_ms), 1
        for tick, each in enumerate(load):
            workers = scaler.decide(tick * TICK_S, workers, each)
        assert workers == expected
