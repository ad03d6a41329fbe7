"""Who may get work: random moves against what a plain reading of the rules says."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nbserve.gateway.roster import Roster

WORKERS: list[Any] = ["a", "b", "c"]
moves = st.lists(
    st.tuples(
        st.sampled_from(["joins", "leaves", "sent", "sent alone", "done first", "done last"]), st.sampled_from(WORKERS)
    )
)


@given(moves)
def test_random_moves(moves: list[tuple[str, Any]]) -> None:
    roster = Roster()
    ready: set[Any] = set()
    held: dict[Any, list[tuple[int, bool]]] = {worker: [] for worker in WORKERS}
    for number, (move, worker) in enumerate(moves):
        mine = held[worker]
        if move == "joins":
            roster.joins(worker, number)
            ready.add(worker)
        elif move == "leaves":
            roster.leaves(worker)
            ready.discard(worker)
        elif move.startswith("sent"):
            alone = move == "sent alone"
            if len(mine) == 2 or (mine and (alone or mine[0][1])):
                continue
            roster.sent(worker, number, alone=alone)
            mine.append((number, alone))
        elif mine:
            gone = mine.pop(0 if move == "done first" else -1)
            first_changed = bool(mine) and mine[0][0] > gone[0]
            assert roster.done(worker, gone[0], number) == (mine[0][0] if first_changed else None)
        assert roster.ready == ready
        assert set(roster.idle) == {one for one in ready if not held[one]}
        assert roster.holds(worker) == bool(mine)
        ahead = roster.may_get_ahead
        if ahead is not None:
            assert ahead in ready
            assert len(held[ahead]) == 1
            assert not held[ahead][0][1]


def test_the_one_that_is_done_first_gets_ahead() -> None:
    roster, (one, two, _) = Roster(), WORKERS
    for worker in (one, two):
        roster.joins(worker, 0.0)
    roster.sent(two, 1, alone=False)
    roster.sent(one, 2, alone=False)
    assert roster.may_get_ahead == two
    roster.sent(two, 3, alone=False)
    assert roster.may_get_ahead == one
    assert roster.done(two, 1, 1.0) == 3
    assert roster.may_get_ahead == one
