"""Percentiles against brute force, intervals against a reference, comparisons on simulated noise."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from nbserve.measure.stats import (
    Interval,
    change_between,
    decoded,
    encoded,
    is_stable,
    latencies_ms,
    mean_interval,
    merged,
    new_histogram,
    paired_change,
    percentile_ms,
    t_quantile,
)


def histogram_of(values_us: list[int]) -> str:
    histogram = new_histogram()
    for value in values_us:
        histogram.record_value(value)
    return encoded(histogram)


@given(
    st.lists(st.lists(st.integers(1, 60_000_000), min_size=1, max_size=60), min_size=1, max_size=4),
    st.sampled_from([50.0, 90.0, 99.0, 99.9, 100.0]),
)
def test_merged_percentiles_are_those_of_all_values(parts: list[list[int]], percent: float) -> None:
    everything = sorted(value for part in parts for value in part)
    rank = max(1, math.floor(percent / 100 * len(everything) + 0.5))  # HdrHistogram rounds the rank
    total = merged(histogram_of(part) for part in parts)
    assert total.total_count == len(everything)
    assert percentile_ms(total, percent) * 1e3 == pytest.approx(everything[rank - 1], rel=1.1e-3, abs=1)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 3_600_000_000), min_size=1, max_size=30))
def test_latencies_survive_the_way_as_text(values_us: list[int]) -> None:
    found = latencies_ms(decoded(histogram_of(values_us)))
    assert found["max"] == pytest.approx(max(values_us) / 1e3, rel=1.1e-3, abs=1e-3)
    assert found["mean"] == pytest.approx(sum(values_us) / len(values_us) / 1e3, rel=1.1e-3, abs=1e-3)
    assert found["p50"] <= found["p90"] <= found["p99"] <= found["p99.9"] <= found["max"]


def test_nothing_answered_has_no_latency() -> None:
    assert latencies_ms(new_histogram()) == {}
    assert percentile_ms(new_histogram(), 99) == 0


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 9, 30, 101])
@pytest.mark.parametrize("probability", [0.5, 0.9, 0.975, 0.9917, 0.9999])
def test_t_quantiles_are_those_of_scipy(probability: float, degrees: int) -> None:
    expected = float(student.ppf(probability, degrees))
    assert t_quantile(probability, degrees) == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_intervals_hold_the_mean_19_times_in_20() -> None:
    draw = random.Random(5)
    held = 0
    for _ in range(2000):
        interval = mean_interval([draw.gauss(10, 3) for _ in range(5)])
        assert interval is not None
        held += abs(interval.mean - 10) <= interval.half_width
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_one_value_has_no_interval() -> None:
    assert mean_interval([3.0]) is None
    assert paired_change([1.0, 0.0], [1.1, 2.0]) is None  # one pair, once the empty one is left out


def simulated(draw: random.Random, speed: float) -> tuple[list[float], list[float]]:
    """Ten turns of two versions on a machine that drifts and hiccups; the second one is `speed` times as fast."""
    before, after = [], []
    pace = 100.0
    for _ in range(10):
        pace *= math.exp(draw.gauss(0, 0.05))
        hiccup = 0.7 if draw.random() < 0.1 else 1.0
        before.append(pace * hiccup * math.exp(draw.gauss(0, 0.03)))
        after.append(pace * hiccup * speed * math.exp(draw.gauss(0, 0.03)))
    return before, after


def test_two_identical_versions_are_rarely_called_different() -> None:
    """Three metrics of each comparison, as `bench` has them: no more than 5 % of comparisons have a false one."""
    draw = random.Random(7)
    wrong = 0
    for _ in range(1000):
        changes = [paired_change(*simulated(draw, 1.0), 1 - 0.05 / 3) for _ in range(3)]
        wrong += any(change is not None and change[2] for change in changes)
    assert wrong / 1000 <= 0.065  # 5 %, and two standard deviations of a thousand draws


def test_a_difference_is_found_and_its_size_is_right() -> None:
    draw = random.Random(8)
    found = [paired_change(*simulated(draw, 1.08), 1 - 0.05 / 3) for _ in range(300)]
    assert sum(change is not None and change[2] for change in found) / 300 > 0.9
    assert sum(change[0] for change in found if change) / 300 == pytest.approx(8, abs=0.5)


def test_changes_between_runs_add_their_errors() -> None:
    change, half_width, different = change_between(Interval(200.0, 4.0), Interval(216.0, 4.32))
    assert (change, different) == (pytest.approx(8.0), True)
    assert half_width == pytest.approx(100 * math.hypot(0.02, 0.02) * 1.08)
    assert not change_between(Interval(200.0, 20.0), Interval(216.0, 20.0))[2]


def test_a_change_below_one_percent_is_none_however_sure() -> None:
    before = [10.0, 10.01, 9.99, 10.0]
    for change, different in ((0.991, False), (1.009, False), (0.985, True), (1.015, True)):
        after = [one * change for one in before]
        paired = paired_change(before, [*after[:3], after[3] * 1.0001])
        assert paired is not None
        assert paired[2] is different
        assert change_between(Interval(10.0, 0.001), Interval(10.0 * change, 0.001))[2] is different


@pytest.mark.parametrize(
    ("values", "stable"),
    [
        ([100, 101, 99], True),
        ([50, 80, 100, 104, 98], True),
        ([100, 120, 100, 120, 100], False),
        ([100, 101], False),
        ([], False),
    ],
)
def test_stable_is_three_windows_in_a_row_within_ten_percent(values: list[float], stable: bool) -> None:
    assert is_stable(values) == stable
    assert is_stable(values, noise=30) == (len(values) >= 3)
