"""Objectives as they are written, and the search for the rate that meets one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.errors import UsageError
from nbserve.measure.result import ClientCheck, Load, Run
from nbserve.measure.search import Slo, keeps_up, meets, parse_slo, search_rates
from nbserve.measure.stats import new_histogram


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("p99<10ms", Slo("p99<10ms", 99.0, 10.0)),
        (" P50 < 800us ", Slo("P50<800us", 50.0, 0.8)),
        ("p99.9<=1.5s", Slo("p99.9<=1.5s", 99.9, 1500.0)),
        ("mean<0.2s", Slo("mean<0.2s", None, 200.0)),
    ],
)
def test_objectives(text: str, slo: Slo) -> None:
    parsed = parse_slo(text)
    assert parsed[:2] == slo[:2]
    assert parsed.limit_ms == pytest.approx(slo.limit_ms)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("p99", "needs a '<'"),
        ("p99=10ms", "needs a '<'"),
        ("p101<10ms", "'p101' is neither mean nor a percentile"),
        ("median<10ms", "'median' is neither mean nor a percentile"),
        ("p99<10", "'10' is not a time with its unit"),
        ("p99<fast", "'fast' is not a time with its unit"),
        ("p99<0ms", "p99<10ms"),
        ("p0<5ms", "p99<10ms"),
    ],
)
def test_what_is_wrong_with_an_objective_is_said(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_slo(text)
    assert text in raised.value.message
    assert hint in raised.value.hint


def test_a_failed_request_counts_as_infinitely_late() -> None:
    histogram = new_histogram()
    for _ in range(990):
        histogram.record_value(5_000)
    p99, mean = parse_slo("p99<10ms"), parse_slo("mean<10ms")
    assert meets(p99, histogram, 0)
    assert meets(p99, histogram, 10)
    assert not meets(p99, histogram, 11)
    assert not meets(mean, histogram, 1)
    assert not meets(parse_slo("p99<4ms"), histogram, 0)
    assert not meets(p99, new_histogram(), 0)


@pytest.mark.parametrize(
    ("offered", "rate", "seconds", "kept"),
    [(100.0, 96.0, 10.0, True), (100.0, 94.0, 10.0, False), (5.0, 4.0, 3.0, True), (5.0, 4.0, 10.0, False)],
)
def test_keeping_up_is_95_percent_or_all_but_three(offered: float, rate: float, seconds: float, kept: bool) -> None:
    load = Load(mode="open", rate=offered, duration_s=seconds)
    client = ClientCheck(processes=1, cores=[], lag_p99_ms=0.0, cpu=0.0)
    answers = {"latency_ms": {}, "histogram": "", "client": client}
    assert keeps_up(Run(load=load, sent=1, answered=1, rate=rate, offered=offered, **answers)) == kept  # type: ignore[arg-type]


def run(first: float, capacity: float) -> tuple[float, list[float]]:
    """Search an endpoint that meets the objective up to `capacity`."""
    search, tried = search_rates(first), []
    rate = next(search)
    try:
        while True:
            tried.append(rate)
            rate = search.send(rate <= capacity)
    except StopIteration as stop:
        return stop.value, tried


@given(st.floats(1, 10_000), st.floats(1, 10_000))
def test_the_search_ends_within_five_percent_below_the_capacity(first: float, capacity: float) -> None:
    found, tried = run(first, capacity)
    assert capacity / 1.05 <= found <= capacity
    assert len(tried) <= 24
    assert len(set(tried)) == len(tried)


def test_doubling_then_bisection() -> None:
    assert run(100, 330)[1] == [100, 200, 400, 300, 350, 325, pytest.approx(337.5)]


def test_an_endpoint_that_never_meets_it_is_found_out() -> None:
    found, tried = run(64, 0.0)
    assert found == 0
    assert tried[-1] == 0.5
