"""The cost model: finds s(b) = a + c*b through stalls and outliers, in bounded memory."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.gateway.cost import KEPT_PER_CLASS, Cost, CostModel

SIZES = [1, 2, 4, 8, 16, 32]


def test_nothing_is_known_before_the_first_batch() -> None:
    assert CostModel().cost is None


@given(a_ms=st.floats(0, 50), c_ms=st.floats(0.01, 5))
def test_an_exact_line_is_found_exactly(a_ms: float, c_ms: float) -> None:
    model = CostModel()
    model.seed((size, (a_ms + c_ms * size) / 1e3) for size in SIZES)
    assert model.cost is not None
    assert model.cost.a_s == pytest.approx(a_ms / 1e3, abs=1e-9)
    assert model.cost.c_s == pytest.approx(c_ms / 1e3, abs=1e-9)
    assert model.cost.margin_s == pytest.approx(0, abs=1e-9)


def test_stalls_do_not_move_the_line() -> None:
    chance = random.Random(1)
    model = CostModel()
    for _ in range(500):
        size = chance.choice(SIZES)
        stall_s = 0.5 if chance.random() < 0.05 else 0.0
        model.observe(size, (0.004 + 0.00025 * size) * chance.uniform(0.95, 1.05) + stall_s)
    assert model.cost is not None
    assert model.cost.a_s == pytest.approx(0.004, rel=0.15)
    assert model.cost.c_s == pytest.approx(0.00025, rel=0.15)
    assert model.cost.margin_s < 0.002, "one stall in twenty is beyond the 90th percentile"


def test_the_margin_is_the_90th_percentile_of_what_takes_longer() -> None:
    model = CostModel()
    for i in range(KEPT_PER_CLASS * 20):
        model.observe(1 + i % 8, 0.010 + (0.005 if i % 5 == 0 else 0.0))
    model.refit()
    assert model.cost is not None
    assert model.cost.margin_s == pytest.approx(0.005, rel=0.05)


def test_it_follows_a_handler_that_becomes_slower() -> None:
    model = CostModel()
    model.seed((size, 0.001 * size) for size in SIZES)
    for _ in range(KEPT_PER_CLASS):
        for size in SIZES:
            model.observe(size, 0.003 * size)
    model.refit()
    assert model.cost is not None
    assert model.cost.c_s == pytest.approx(0.003, rel=0.05)


def test_one_batch_size_alone_is_taken_as_proportional() -> None:
    model = CostModel()
    model.observe(4, 0.008)
    assert model.cost == Cost(0.0, 0.002, 0.0)


@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(1e-6, 60)), min_size=1, max_size=200))
def test_the_fit_is_never_negative_and_memory_is_bounded(batches: list[tuple[int, float]]) -> None:
    model = CostModel()
    model.seed(batches)
    cost = model.cost
    assert cost is not None
    assert cost.a_s >= 0
    assert cost.c_s >= 0
    assert cost.margin_s >= 0
    assert cost.predict_s(64) >= cost.predict_s(1)
    assert len(model._classes) <= 48
    assert all(len(seen) <= KEPT_PER_CLASS for seen in model._classes.values())
