"""Two counts of a gateway -> rates and percentiles; when a widget is looked at."""

from __future__ import annotations

import bisect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.gateway.metrics import BOUNDS_S
from nbserve.notebook.widgets.attention import PRESUMED_S, UNSEEN, Attention
from nbserve.notebook.widgets.rates import between, cpu_use, fingerprint, quantile
from nbserve.wire.management import Event, WorkerStatus
from nbserve.wire.numbers import HandlerSeries, Numbers


def worker(**fields: Any) -> WorkerStatus:
    return WorkerStatus(**{"id": 0, "state": "READY", "pid": 7, "cores": [0], "threads": 1} | fields)


def counted(at: float = 0.0, latencies_s: tuple[float, ...] = (), **fields: Any) -> Numbers:
    counts = [0] * (len(BOUNDS_S) + 1)
    for latency in latencies_s:
        counts[bisect.bisect_left(BOUNDS_S, latency)] += 1
    defaults: dict[str, Any] = {
        "name": "digits",
        "version": "1",
        "state": "READY",
        "default": True,
        "at": at,
        "requests": {"200": len(latencies_s)} if latencies_s else {},
        "latency_bounds_s": list(BOUNDS_S),
        "latency_counts": counts,
        "stages_s": {},
        "batch_sizes": {},
        "queue_items": 0,
        "queue_bytes": 0,
        "workers": [],
        "handler": [],
    }
    return Numbers(**defaults | fields)


def test_what_happened_between_two_looks() -> None:
    earlier = counted(10.0, (0.001,), stages_s={"inference": 1.0}, batch_sizes={"1": 1})
    later = counted(
        12.0,
        (0.001, 0.003, 0.003, 0.003),
        requests={"200": 4, "500": 2},
        stages_s={"inference": 1.3, "queue": 0.06},
        batch_sizes={"1": 1, "3": 1},
        queue_items=5,
    )
    found = between(earlier, later)
    assert found["requests_per_s"] == 2.5
    assert found["errors_per_s"] == 1.0
    assert found["stages_ms"] == pytest.approx({"inference": 100.0, "queue": 20.0})
    assert found["batch_sizes"] == {"3": 1}, "the batch of one had been there"
    assert found["statuses"] == {"200": 3, "500": 2}
    assert (found["queue"], found["answered"]) == (5, 3)


def test_nothing_answered_has_no_percentiles() -> None:
    found = between(counted(1.0, (0.1,)), counted(2.0, (0.1,)))
    assert (found["p50_ms"], found["p99_ms"], found["stages_ms"]) == (None, None, None)
    assert found["requests_per_s"] == 0.0


@given(st.lists(st.floats(1e-6, 59.0), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(latencies_s: list[float], share: float) -> None:
    numbers = counted(0.0, tuple(latencies_s))
    found = quantile(BOUNDS_S, numbers.latency_counts, share)
    ordered = sorted(latencies_s)
    rank = share * len(ordered)
    true = next(value for at, value in enumerate(ordered, 1) if at >= rank)
    place = bisect.bisect_left(BOUNDS_S, true)
    assert found is not None
    assert (BOUNDS_S[place - 1] if place else 0.0) <= found <= BOUNDS_S[place]


def test_cpu_use_leaves_out_a_worker_that_was_started_anew() -> None:
    before = [worker(id=0, pid=1, cpu_s=2.0), worker(id=1, pid=2, cpu_s=9.0)]
    after = [worker(id=0, pid=1, cpu_s=5.0), worker(id=1, pid=3, cpu_s=0.5), worker(id=2, pid=4, cpu_s=None)]
    assert cpu_use(before, after, 2.0) == {0: 1.5}


SEEN = [
    {"requests": {"200": 1}},
    {"queue_items": 1},
    {"state": "DRAINING"},
    {"version": "2"},
    {"workers": [worker(state="BUSY", cpu_s=1.0)]},
    {"workers": [worker(restarts=1)]},
    {"handler": [HandlerSeries(name="rows", kind="counter", value=1.0)]},
    {"events": [Event(seq=1, at=0.0, kind="log", text="a")]},
]


@pytest.mark.parametrize("change", SEEN, ids=lambda change: next(iter(change)))
def test_what_a_reader_sees_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(counted(workers=[worker()])) != fingerprint(counted(**{"workers": [worker()]} | change))


def test_memory_and_cpu_time_alone_do_not() -> None:
    one = counted(1.0, workers=[worker(cpu_s=1.0, pss_bytes=5, rss_bytes=6)])
    other = counted(2.0, workers=[worker(cpu_s=1.1, pss_bytes=7, rss_bytes=8)])
    assert fingerprint(one) == fingerprint(other)


# -- attention ---------------------------------------------------------------------------------------------------------


def test_it_is_presumed_for_a_while_and_as_long_as_nothing_can_be_heard() -> None:
    attention = Attention(100.0)
    assert attention.is_given(100.0, hears=True)
    assert not attention.is_given(100.0 + PRESUMED_S, hears=True)
    assert attention.is_given(100.0 + 10 * PRESUMED_S, hears=False)


def test_it_is_given_while_any_view_is_in_sight() -> None:
    attention = Attention(0.0)
    attention.view("a", True)
    attention.view("b", True)
    attention.view("a", False)
    assert attention.is_given(1e6, hears=True)
    attention.view("b", False)
    assert not attention.is_given(1.0, hears=True)
    assert not attention.is_given(1.0, hears=False), "the last word was that nobody looks"


def test_a_reader_who_acknowledges_nothing_is_gone() -> None:
    attention = Attention(0.0)
    attention.view("a", True)
    for _ in range(UNSEEN):
        assert attention.is_given(0.0, hears=True)
        attention.sent()
    assert not attention.is_given(0.0, hears=True)
    assert attention.is_given(0.0, hears=False), "it may have answered"
    attention.seen()
    assert attention.is_given(0.0, hears=True)
