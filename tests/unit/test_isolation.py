"""Isolation: exactly the bad rows fail, whatever they are, and what it costs is bounded."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.isolation import BatchFailed, Pace, isolate


def paced(fixed_s: float, per_item_s: float) -> Pace:
    pace = Pace()
    for size in (1, 32):
        pace.record(size, fixed_s + per_item_s * size)
    return pace


def work(count: int, bad: set[int], pace: Pace) -> tuple[list[str], list[int]]:
    """Answers and the sizes of all runs."""
    sizes: list[int] = []

    def run(indices: Sequence[int]) -> Generator[Any, Any, list[str]]:
        sizes.append(len(indices))
        yield
        if bad & set(indices):
            raise BatchFailed("bad")
        return [f"ok {index}" for index in indices]

    steps = isolate(count, run, pace)
    try:
        while True:
            next(steps)
    except StopIteration as done:
        return done.value, sizes


@given(
    st.integers(2, 64), st.sets(st.integers(0, 63), min_size=1), st.sampled_from([(0.0, 1.0), (1.0, 0.0), (1.0, 0.1)])
)
def test_exactly_the_bad_ones_fail(count: int, bad: set[int], pace: tuple[float, float]) -> None:
    bad = {index for index in bad if index < count} or {0}
    answers, _ = work(count, bad, paced(*pace))
    assert answers == ["bad" if index in bad else f"ok {index}" for index in range(count)]


@pytest.mark.parametrize("bad", range(32))
def test_one_bad_row_of_a_linear_model_costs_twice_the_batch(bad: int) -> None:
    _, sizes = work(32, {bad}, paced(0.0, 1.0))
    assert 32 + sum(sizes) <= 2 * 32


@pytest.mark.parametrize("bad", range(32))
def test_one_bad_row_of_a_fixed_cost_model_takes_few_runs(bad: int) -> None:
    _, sizes = work(32, {bad}, paced(1.0, 0.0))
    assert len(sizes) <= math.log2(32) + 2
    assert sum(sizes) <= 2 * 32


@given(st.integers(2, 64), st.sets(st.integers(0, 63), min_size=1))
def test_work_is_bounded_however_many_are_bad(count: int, bad: set[int]) -> None:
    """Each bad row costs at most one search; a search costs at most log2(n) + 2 runs."""
    bad = {index for index in bad if index < count} or {0}
    _, sizes = work(count, bad, paced(1.0, 0.0))
    assert len(sizes) <= len(bad) * (math.ceil(math.log2(count)) + 2) + 1
