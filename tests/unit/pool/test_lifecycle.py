"""The worker's life as a table: closed, reachable, and illegal moves tell their story."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.gateway.pool.lifecycle import MOVES, IllegalMove, Lifecycle
from nbserve.wire.management import WorkerState

EVENTS = sorted({event for moves in MOVES.values() for event in moves})


def test_table_is_closed_over_the_states() -> None:
    states = set(get_args(WorkerState))
    assert set(MOVES) == states
    assert {target for moves in MOVES.values() for target in moves.values()} == states


@given(st.lists(st.sampled_from(EVENTS), max_size=200))
def test_any_events_follow_the_table_or_are_refused(events: list[str]) -> None:
    life = Lifecycle("digits worker 0")
    for event in events:
        expected = MOVES[life.state].get(event)
        if expected is None:
            before = life.state
            with pytest.raises(IllegalMove, match=f"digits worker 0: '{event}' in {before}"):
                life.move(event)
            assert life.state == before
        else:
            assert life.move(event) == expected


def test_every_state_can_come_to_an_end() -> None:
    for start in MOVES:
        seen, front = {start}, [start]
        while front:
            for target in MOVES[front.pop()].values():
                if target not in seen:
                    seen.add(target)
                    front.append(target)
        assert "STOPPED" in seen, start
