"""The warm-up sweep: whole for a new model, its ends where the model that it replaces says what to expect. Pure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.config import ModelConfig
from nbserve.gateway.cost import Cost, CostModel
from nbserve.gateway.sweep import BUDGET_S, Known, Observation, Subject, between, fits, is_alike, next_size

QUICK = Cost(0.001, 0.0001)
WEIGHTS = {"weights/model.safetensors": "aa", "handler.py": "bb"}
SUBJECT = Subject(WEIGHTS, ModelConfig(), 2)


def sweep(
    takes: Callable[[int], float], most: int = 32, known: Known | None = None, seen: tuple[Observation, ...] = ()
) -> list[Observation]:
    """The whole sweep where a batch takes so long."""
    observed = list(seen)
    while (size := next_size(observed, most, known)) is not None:
        assert size not in dict(observed)
        observed.append((size, takes(size)))
    return observed


def sizes(observed: list[Observation]) -> list[int]:
    return [size for size, _ in observed]


def known_of(takes: Callable[[int], float], most: int = 32) -> Known:
    observed = sweep(takes, most)
    model = CostModel()
    model.seed(observed)
    assert model.cost is not None
    return Known(model.cost, model.points, observed[-1][0])


@pytest.mark.parametrize(("most", "expected"), [(1, [1]), (2, [1, 2]), (24, [1, 2, 4, 8, 16, 24])])
def test_a_new_model_is_swept_by_doubling(most: int, expected: list[int]) -> None:
    assert sizes(sweep(QUICK.predict_s, most)) == expected


def test_a_sweep_ends_at_what_would_not_fit_into_its_time() -> None:
    observed = sweep(lambda size: 0.03 * size)
    assert sizes(observed) == [1, 2, 4]
    assert sum(seconds for size, seconds in observed if size > 1) <= BUDGET_S


def test_where_the_old_model_holds_the_ends_are_enough() -> None:
    """The proof's batch is one of them, where it took as long as was to be expected."""
    known = known_of(lambda size: 0.03 * size)
    assert sizes(sweep(lambda size: 0.033 * size, known=known)) == [1, 4]
    assert sizes(sweep(lambda size: 0.033 * size, known=known, seen=((1, 0.031),))) == [1, 4]


def test_the_sizes_in_between_are_taken_from_the_old_model() -> None:
    known = known_of(QUICK.predict_s)
    observed = sweep(lambda size: 1.1 * QUICK.predict_s(size), known=known)
    filled = between(observed, known)
    assert sizes(filled) == [2, 4, 8, 16]
    model = CostModel()
    model.seed([*filled, *observed])
    assert model.cost is not None
    assert model.cost.predict_s(32) == pytest.approx(QUICK.predict_s(32), rel=0.15)


@pytest.mark.parametrize("slower_at", [1, 32], ids=["smallest", "largest"])
def test_one_end_that_does_not_fit_has_all_swept(slower_at: int) -> None:
    known = known_of(QUICK.predict_s)
    observed = sweep(lambda size: QUICK.predict_s(size) * (2 if size >= slower_at else 1), known=known)
    assert sorted(sizes(observed)) == [1, 2, 4, 8, 16, 32]
    assert between(observed, known) == []


def test_one_far_off_at_the_largest_size_is_not_made_longer_still() -> None:
    known = known_of(QUICK.predict_s)
    observed = sweep(lambda size: 1.0 if size > 1 else QUICK.predict_s(1), known=known)
    assert sizes(observed) == [1, 32]


@given(
    a_s=st.floats(0, 0.05),
    c_s=st.floats(1e-5, 0.05),
    factor=st.floats(0.1, 10),
    most=st.integers(1, 64),
)
def test_a_sweep_always_ends_and_knows_the_ends(a_s: float, c_s: float, factor: float, most: int) -> None:
    cost = Cost(a_s, c_s)
    known = known_of(cost.predict_s, most)
    observed = sweep(lambda size: factor * cost.predict_s(size), most, known)
    assert {1, known.largest} <= set(sizes(observed)) or not fits(known.cost, *observed[0])
    assert all(1 <= size <= most for size in sizes(observed))


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        (SUBJECT._replace(files=WEIGHTS | {"handler.py": "another"}), True),
        (SUBJECT._replace(files=WEIGHTS | {"weights/model.safetensors": "another"}), False),
        (SUBJECT._replace(files={"handler.py": "bb"}), False),
        (SUBJECT._replace(threads=1), False),
        (SUBJECT._replace(config=ModelConfig(max_batch_size=8)), False),
        (SUBJECT._replace(config=ModelConfig(device="cuda:0")), False),
        (SUBJECT._replace(config=ModelConfig(env={"OMP_WAIT_POLICY": "ACTIVE"})), False),
        (SUBJECT._replace(config=ModelConfig(slo_ms=100)), True),
    ],
)
def test_versions_are_alike_by_weights_and_machine(other: Subject, *, alike: bool) -> None:
    assert is_alike(SUBJECT, other) is alike


def test_without_weights_nothing_is_known() -> None:
    """The cost of a handler that is code alone may be anything after an edit."""
    code = SUBJECT._replace(files={"handler.py": "bb"})
    assert not is_alike(code, code)
