"""Modules served in one line: numbers read straight into the batch answer, and fail, as those read by way of lists."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbserve import intake
from nbserve.bundle.module_handler import ModuleHandler
from nbserve.handler import Context, Row
from nbserve.pipeline import Item, Outcome, Pipeline


class ByLists(ModuleHandler):
    """As all of them were read before: a `preprocess` of its own is never passed over."""

    def preprocess(self, rows: list[Row]) -> Any:
        return super().preprocess(rows)


class Twice(torch.nn.Module):
    """Says what it got, in place where it can; some values it does not like."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        batch *= 2
        if (batch == 14).any():
            raise ValueError("seven")
        return batch


def run(
    handler: ModuleHandler, shape: tuple[int, ...] | None, *bodies: bytes, kind: str = "application/json"
) -> Outcome:
    pipeline = Pipeline(handler, Context(name="test"), sample_shape=shape)
    pipeline.initialize()
    return pipeline.run([Item(body, kind) for body in bodies])


def said(outcome: Outcome) -> list[Any]:
    """What clients see."""
    return [
        (answer.status, bytes(answer.body))
        if answer.error is None
        else (answer.status, answer.error.type, answer.error.message, answer.error.stage, answer.error.details)
        for answer in outcome.answers
    ]


number = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-9, 9),
    st.integers(-(2**70), 2**70),
    st.sampled_from([7, 7.0, -0.0, 1e39, 1e-46, 65504, 65520, 2**53 + 1, 2**63]),
)
right = st.lists(st.integers(-9, 9), min_size=2, max_size=2) | st.lists(number, min_size=2, max_size=2)
odd = st.one_of(
    st.lists(number, max_size=4),
    st.lists(st.lists(number, max_size=2), max_size=3),
    st.sampled_from([None, "12", [True, 1], [1, None], ["1", 2], [1, [2]], {"other": [1, 2]}, {"data": "x"}, 3, {}]),
)
payload = right | right | right | odd
body = st.one_of(
    payload.map(json.dumps),
    payload.map(lambda value: json.dumps({"data": value})),
    payload.map(lambda value: json.dumps({"note": "[", "data": value})),
    st.sampled_from(["{", "", "[1, 2", "[1, 2] 3", '{"data": [1, 2], "data": [3, 4]}', "[NaN, 1]", "[1e400, 1]"]),
).map(str.encode)


@given(st.lists(body, min_size=1, max_size=6), st.sampled_from(["float16", "float32", "float64", "int64", "int16"]))
def test_it_answers_and_fails_as_by_way_of_lists(bodies: list[bytes], dtype: str) -> None:
    module = Twice()
    assert said(run(ModuleHandler(module, dtype), (2,), *bodies)) == said(run(ByLists(module, dtype), (2,), *bodies))


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("sample", [[1, 2], [[1, 2], [3, 4], [5, 6]], [[[1, 2]], [[3, 4]]]])
def test_numbers_of_the_samples_shape_make_no_rows(
    monkeypatch: pytest.MonkeyPatch, dtype: str, sample: list[Any]
) -> None:
    monkeypatch.setattr(ModuleHandler, "preprocess", lambda self, rows: pytest.fail(f"{rows} were read as lists"))
    handler = ModuleHandler(torch.nn.Identity(), dtype)
    bodies = [json.dumps(sample).encode(), json.dumps({"data": sample}).encode()]
    found = said(run(handler, tuple(torch.tensor(sample).shape), *bodies))
    assert [(status, json.loads(raw)) for status, raw in found] == [(200, sample)] * 2


def test_other_lengths_are_answered_apart() -> None:
    handler = ModuleHandler(torch.nn.EmbeddingBag(10, 3, mode="sum"), "int64")
    found = said(run(handler, (2,), b"[1, 2]", b"[1, 2, 3]", b"[4, 5]", b"[9, 10]"))
    assert [status for status, *_ in found] == [200, 200, 200, 500]


@pytest.mark.parametrize("is_quick", [True, False])
def test_a_module_that_writes_on_its_input_gives_the_others_their_answers(
    monkeypatch: pytest.MonkeyPatch, *, is_quick: bool
) -> None:
    if not is_quick:
        monkeypatch.setattr(intake, "simdjson", None)
    found = said(run(ModuleHandler(Twice(), "float32"), (1,), b"[1]", b"[7]", b"[3]", b"[4]"))
    assert [status for status, *_ in found] == [200, 500, 200, 200]
    assert [found[place][1] for place in (0, 2, 3)] == [b"[2.0]", b"[6.0]", b"[8.0]"]


def test_only_json_is_read_as_numbers() -> None:
    answers = said(run(ModuleHandler(Twice(), "float32"), (2,), b"[1, 2]", kind="application/json-seq"))
    assert answers[0][:2] == (400, "BadRequest")
