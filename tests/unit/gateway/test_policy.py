"""The policy's decisions, one rule a test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.config import ModelConfig
from nbserve.gateway.cost import Cost
from nbserve.gateway.policy import (
    LONGEST_LINE_S,
    TICK_S,
    Dispatch,
    QueueView,
    Reject,
    ReturnLine,
    Wait,
    WaitUntil,
    admit,
    admit_in_time,
    batch_cap,
    count_expired,
    decide,
)

PLAIN = ModelConfig()
DELAYED = ModelConfig(max_batch_delay_ms=10, max_batch_size=8)
SLO = ModelConfig(slo_ms=100, max_batch_size=32)
COST = Cost(0.004, 0.001)

costs = st.builds(Cost, st.floats(0, 0.05), st.floats(1e-5, 0.01), st.floats(0, 0.02))
slos = st.builds(
    ModelConfig, slo_ms=st.floats(5, 500), max_batch_size=st.integers(1, 64), max_batch_delay_ms=st.floats(0, 20)
)


def queue(items: int, oldest_s: float = 0.0, size_bytes: int = 0) -> QueueView:
    return QueueView(items, size_bytes, oldest_s)


def test_an_idle_worker_gets_at_once_what_there_is() -> None:
    assert decide(queue(3), 0.0, 1, None, PLAIN) == Dispatch(3)


def test_no_more_than_the_batch_size() -> None:
    assert decide(queue(100), 0.0, 1, None, PLAIN) == Dispatch(32)


def test_what_waits_is_spread_over_the_idle_workers() -> None:
    assert decide(queue(9), 0.0, 4, None, PLAIN) == Dispatch(3)


def test_nothing_to_do_without_requests_or_without_workers() -> None:
    assert decide(queue(0), 0.0, 3, None, PLAIN) == Wait()
    assert decide(queue(5), 0.0, 0, None, PLAIN) == Wait()


def test_the_delay_counts_from_the_oldest_arrival() -> None:
    decision = decide(queue(3, oldest_s=5.0), 5.004, 1, None, DELAYED)
    assert isinstance(decision, WaitUntil)
    assert decision.at_s == pytest.approx(5.010)
    assert decide(queue(3, oldest_s=5.0), 5.010, 1, None, DELAYED) == Dispatch(3)
    assert decide(queue(8, oldest_s=5.0), 5.001, 1, None, DELAYED) == Dispatch(8)


def test_the_delay_gives_way_to_the_objective() -> None:
    config = ModelConfig(slo_ms=100, max_batch_delay_ms=90)
    decision = decide(queue(1), 0.0, 1, Cost(0.004, 0.001, 0.010), config)
    assert isinstance(decision, WaitUntil)
    assert decision.at_s <= 0.100 - 0.010 - 0.036 + 1e-9


def test_a_batch_takes_at_most_half_of_the_objective() -> None:
    assert batch_cap(COST, SLO) == 32
    assert batch_cap(Cost(0.004, 0.002), SLO) == 23
    assert batch_cap(Cost(0.004, 0.002, 0.040), SLO) == 13
    assert batch_cap(Cost(0.2, 0.002), SLO) == 1
    assert batch_cap(None, SLO) == 32
    assert batch_cap(Cost(9, 9), PLAIN) == 32


@given(cost=costs, config=slos)
def test_the_cap_is_the_largest_batch_that_fits(cost: Cost, config: ModelConfig) -> None:
    assert config.slo_ms is not None
    half_s = (config.slo_ms / 1e3 - cost.margin_s) / 2
    cap = batch_cap(cost, config)
    assert 1 <= cap <= config.max_batch_size
    assert cap == 1 or cost.predict_s(cap) <= half_s + 1e-9
    assert cap == config.max_batch_size or cost.predict_s(cap + 1) > half_s - 1e-9


def test_expiry_knows_the_batch_that_a_request_will_be_in() -> None:
    """s(1) = 5 ms would still do for the oldest; but it would be in a batch of 32, which takes 36 ms."""
    assert count_expired([0.0] + [0.060] * 31, 32, 0.070, COST, SLO) == 1
    assert count_expired([0.0], 1, 0.070, COST, SLO) == 0
    assert count_expired([0.0], 1, 0.096, COST, SLO) == 1
    assert count_expired([0.0], 1, 9.0, COST, PLAIN) == 0


def test_what_could_never_be_in_time_is_not_expired() -> None:
    """Admission lets one in when a worker is idle, so that a wrong estimate mends itself."""
    assert count_expired([0.0], 1, 0.0, Cost(0.5, 0.1), SLO) == 0


@given(cost=costs, config=slos, waits=st.lists(st.floats(0, 1), min_size=1, max_size=64))
def test_what_is_left_after_expiry_can_be_in_time(cost: Cost, config: ModelConfig, waits: list[float]) -> None:
    now_s = 10.0
    arrivals = sorted(now_s - wait for wait in waits)
    expired = count_expired(arrivals, len(arrivals), now_s, cost, config)
    assert 0 <= expired <= len(arrivals)
    assert config.slo_ms is not None
    if expired < len(arrivals) and cost.predict_s(1) + cost.margin_s <= config.slo_ms / 1e3:
        batch = min(len(arrivals) - expired, batch_cap(cost, config))
        assert now_s + cost.predict_s(batch) + cost.margin_s <= arrivals[expired] + config.slo_ms / 1e3


@given(cost=costs, config=slos, items=st.integers(1, 50), age_s=st.floats(0, 1))
def test_a_wait_always_ends_later_than_now(cost: Cost, config: ModelConfig, items: int, age_s: float) -> None:
    """A timer in the past would be a busy loop: after expiry, with nothing left to do, the time lies ahead."""
    now_s = 10.0
    arrivals = [now_s - age_s] * items
    items -= count_expired(arrivals, items, now_s, cost, config)
    for idle in (0, 1):
        decision = decide(queue(items, arrivals[0]), now_s, idle, cost, config)
        if isinstance(decision, WaitUntil):
            assert decision.at_s > now_s


def test_admission_says_which_of_the_three() -> None:
    small = ModelConfig(max_queue_size=2, max_queue_bytes=100)
    no_worker = admit(0, 0, 1, 0, None, small)
    full = admit(2, 2, 1, 1, None, small)
    heavy = admit(1, 60, 41, 1, None, small)
    late = admit_in_time(64, [0.036], COST, SLO)
    assert isinstance(no_worker, Reject)
    assert "no worker is ready" in no_worker.reason
    assert isinstance(full, Reject)
    assert "queue is full: 2 requests" in full.reason
    assert isinstance(heavy, Reject)
    assert "60 bytes of 100" in heavy.reason
    assert isinstance(late, Reject)
    assert "deadline of 100 ms" in late.reason
    assert admit(1, 60, 40, 1, None, small) is None


def test_a_request_is_admitted_where_its_batch_ends_in_time() -> None:
    """s(32) = 36 ms. One worker, done in 20 ms: batches end after 56, 92 and 128 ms; 64 requests are in the first two.
    A second worker that is done in 23 ms: 56, 59, 92, 95."""
    assert admit_in_time(63, [0.020], COST, SLO) is None
    assert isinstance(admit_in_time(64, [0.020], COST, SLO), Reject)
    assert isinstance(admit_in_time(32, [0.030], COST, SLO), Reject)
    assert admit_in_time(127, [0.023, 0.020], COST, SLO) is None
    assert isinstance(admit_in_time(128, [0.023, 0.020], COST, SLO), Reject)
    assert admit_in_time(10**6, [9.0], COST, PLAIN) is None


def test_admission_leaves_a_margin_for_each_batch_and_a_reserve() -> None:
    """Two batches of 36 ms in 96: 24 ms are over for both margins."""
    assert admit_in_time(32, [0.0], Cost(0.004, 0.001, 0.0119), SLO) is None
    assert isinstance(admit_in_time(32, [0.0], Cost(0.004, 0.001, 0.0121), SLO), Reject)


def test_an_idle_worker_always_gets_one() -> None:
    hopeless = Cost(5.0, 1.0)
    assert admit_in_time(0, [0.1, 0.0], hopeless, SLO) is None
    assert isinstance(admit_in_time(1, [0.0], hopeless, SLO), Reject)
    assert isinstance(admit_in_time(0, [0.1], hopeless, SLO), Reject)


def test_retry_after_is_the_time_until_the_queue_is_done() -> None:
    decision = admit(1000, 1000, 1, 2, Cost(0.0, 0.032), ModelConfig())
    assert isinstance(decision, Reject)
    assert decision.retry_after_s == pytest.approx(1000 * 0.032 / 2)


def test_the_refused_come_back_one_after_the_other() -> None:
    line = ReturnLine()
    assert [line.join(10.0, 0.5, 0.1) for _ in range(3)] == pytest.approx([0.6, 0.7, 0.8])
    assert line.join(10.6, 0.1, 0.1) == pytest.approx(0.3)  # behind those
    assert line.join(20.0, 0.5, 0.1) == pytest.approx(0.6)  # they have long been here
    assert max(line.join(20.0, 0.0, 0.1) for _ in range(100)) == LONGEST_LINE_S
    assert line.join(20.0, 60.0, 0.1) == pytest.approx(60.1), "a queue that takes longer is not hidden"


def test_a_tick_is_shorter_than_what_anybody_measures() -> None:
    assert TICK_S <= 1e-3


def test_a_full_batch_of_a_quick_model_goes_ahead_to_a_busy_worker() -> None:
    quick, slow = Cost(0.0001, 0.00001), Cost(0.01, 0.001)
    assert decide(queue(40), 0.0, 0, quick, PLAIN, ahead=True) == Dispatch(32)
    assert decide(queue(31), 0.0, 0, quick, PLAIN, ahead=True) == Wait()  # it may still grow
    assert decide(queue(40), 0.0, 0, slow, PLAIN, ahead=True) == Wait()  # the way there is nothing beside it
    assert decide(queue(40), 0.0, 0, None, PLAIN, ahead=True) == Wait()
    assert decide(queue(40), 0.0, 0, quick, PLAIN, ahead=False) == Wait()
