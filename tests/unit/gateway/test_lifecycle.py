"""Lives as tables: closed, reachable, and illegal moves tell their story."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.gateway.lifecycle import POOL_MOVES, VERSION_MOVES, WORKER_MOVES, IllegalMove, Lifecycle, PoolState
from nbserve.wire.management import VersionState, WorkerState

TABLES: dict[str, tuple[Any, Any, str]] = {
    "worker": (WORKER_MOVES, WorkerState, "STOPPED"),
    "pool": (POOL_MOVES, PoolState, "STARTING"),
    "version": (VERSION_MOVES, VersionState, "LOADING"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_table_is_closed_over_the_states(kind: str) -> None:
    moves, states, start = TABLES[kind]
    assert set(moves) == set(get_args(states))
    reached = {start} | {target for events in moves.values() for target in events.values()}
    assert reached == set(get_args(states))


@pytest.mark.parametrize("kind", TABLES)
@given(data=st.data())
def test_any_events_follow_the_table_or_are_refused(kind: str, data: st.DataObject) -> None:
    moves, _, start = TABLES[kind]
    known = sorted({event for events in moves.values() for event in events})
    life = Lifecycle(f"digits {kind}", moves, start)
    for event in data.draw(st.lists(st.sampled_from(known), max_size=100)):
        expected = moves[life.state].get(event)
        if expected is None:
            before = life.state
            with pytest.raises(IllegalMove, match=f"digits {kind}: '{event}' in {before}; so far: {start}"):
                life.move(event)
            assert life.state == before
        else:
            assert life.move(event) == expected


@pytest.mark.parametrize(("kind", "end"), [("worker", "STOPPED"), ("pool", "STOPPED"), ("version", "DRAINING")])
def test_every_state_can_come_to_an_end(kind: str, end: str) -> None:
    moves = TABLES[kind][0]
    for start in moves:
        seen, front = {start}, [start]
        while front:
            for target in moves[front.pop()].values():
                if target not in seen:
                    seen.add(target)
                    front.append(target)
        assert end in seen, start
