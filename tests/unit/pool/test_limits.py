"""Time limits of batches, in simulated time: they interrupt, then kill, and stand still while the worker is paused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nbserve.gateway.pool.limits import INTERRUPT_GRACE_S, InHand
from tests.unit.gateway.simulation import SimLoop


class Limits:
    """What happened to a worker's batches, and when."""

    def __init__(self) -> None:
        self.loop: Any = SimLoop()
        self.seen: list[tuple[float, str]] = []
        self.in_hand = InHand(self.loop, lambda batch_id: self.note(f"interrupt {batch_id}"), lambda: self.note("kill"))

    def note(self, what: str) -> None:
        self.seen.append((pytest.approx(self.loop.now_s), what))

    def at(self, at_s: float, callback: Any, *args: Any) -> None:
        self.loop.call_later(at_s, callback, *args)

    def run(self) -> list[tuple[float, str]]:
        self.loop.run()
        return self.seen


def test_over_its_limit_it_is_interrupted_and_then_killed() -> None:
    limits = Limits()
    limits.in_hand.add(1, 2.0)
    limits.in_hand.add(2, None)
    assert limits.run() == [(2.0, "interrupt 1"), (2.0 + INTERRUPT_GRACE_S, "kill")]
    assert limits.in_hand.lose() == {1: True, 2: False}
    assert len(limits.in_hand) == 0


def test_a_batch_sent_ahead_of_its_turn_does_not_age() -> None:
    limits = Limits()
    limits.in_hand.add(1, 10.0)
    limits.at(1.0, limits.in_hand.add, 2, 2.0)
    limits.at(2.0, limits.in_hand.pause)
    limits.at(6.0, limits.in_hand.remove, 1)  # while paused
    limits.at(7.0, limits.in_hand.resume)
    assert limits.run() == [(9.0, "interrupt 2"), (9.0 + INTERRUPT_GRACE_S, "kill")]


def test_an_answer_ends_the_clock_also_of_an_interrupted_batch() -> None:
    limits = Limits()
    limits.in_hand.add(1, 2.0)
    limits.in_hand.add(2, 3.0)
    limits.at(1.0, limits.in_hand.remove, 1)
    limits.at(5.0, limits.in_hand.remove, 2)
    assert limits.run() == [(4.0, "interrupt 2")]  # its time began when the worker came to it
    assert limits.in_hand.lose() == {}


def test_the_clock_stands_still_while_paused_and_goes_on_with_what_was_left() -> None:
    limits = Limits()
    limits.in_hand.add(1, 2.0)
    limits.at(1.5, limits.in_hand.pause)
    limits.at(60.0, limits.in_hand.resume)
    limits.at(61.5, limits.in_hand.pause)  # in the grace after the interrupt
    limits.at(70.0, limits.in_hand.resume)
    assert limits.run() == [(60.5, "interrupt 1"), (70.0 + INTERRUPT_GRACE_S - 1.0, "kill")]


@given(st.floats(0.1, 10), st.lists(st.tuples(st.floats(0.001, 3), st.floats(0.001, 3)), max_size=6))
def test_only_running_time_counts(seconds: float, pauses: list[tuple[float, float]]) -> None:
    limits = Limits()
    limits.in_hand.add(1, seconds)
    at_s, paused_s, left_s = 0.0, 0.0, seconds
    for running_s, standing_s in pauses:
        limits.at(at_s + running_s, limits.in_hand.pause)
        limits.at(at_s + running_s + standing_s, limits.in_hand.resume)
        at_s += running_s + standing_s
        left_s -= running_s
        assume(abs(left_s) > 1e-6)  # paused in the moment it fires: either is right
        if left_s > 0:
            paused_s += standing_s
    assert limits.run()[0] == (pytest.approx(seconds + paused_s), "interrupt 1")


@given(st.lists(st.tuples(st.floats(0.0, 2), st.floats(0.1, 4)), min_size=1, max_size=20), st.floats(0.5, 3))
def test_one_timer_does_for_many_batches(batches: list[tuple[float, float]], limit_s: float) -> None:
    """One after the other, with gaps: those that take longer than the limit are interrupted when they reach it."""
    limits, at_s = Limits(), 0.0
    late = []
    for number, (gap_s, takes_s) in enumerate(batches):
        assume(abs(takes_s - limit_s) > 1e-6)
        at_s += gap_s
        limits.at(at_s, limits.in_hand.add, number, limit_s)
        if takes_s > limit_s:
            late.append((pytest.approx(at_s + limit_s), f"interrupt {number}"))
        at_s += takes_s + 1e-6
        limits.at(at_s - 5e-7, limits.in_hand.remove, number)
    assert limits.run() == late


def test_after_the_end_nothing_rings() -> None:
    limits = Limits()
    limits.in_hand.add(1, 2.0)
    assert limits.in_hand.lose() == {1: False}
    assert limits.run() == []
    assert limits.loop.now_s == 0.0
