"""Arrays and raw bodies by type hint: the same numbers as by way of lists, bad rows alone refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbserve import intake
from nbserve.handler import Context, Handler
from nbserve.pipeline import Item, Outcome, Pipeline


def run(
    handler: Any, *raw: bytes, shape: tuple[int, ...] | None = None, content_type: str = "application/json"
) -> Outcome:
    pipeline = Pipeline(handler, Context(name="test"), sample_shape=shape)
    pipeline.initialize()
    return pipeline.run([Item(body, content_type) for body in raw])


def seen(outcome: Outcome) -> list[Any]:
    return [json.loads(answer.body) if answer.error is None else answer.error.message for answer in outcome.answers]


def describe(batch: Any) -> list[Any]:
    return [[type(batch).__name__, str(batch.dtype), list(row.shape), row.tolist()] for row in batch]


def as_array(batch: np.ndarray[Any, Any]) -> list[Any]:
    return describe(batch)


def as_floats(batch: npt.NDArray[np.float32]) -> list[Any]:
    return describe(batch)


def as_integers(batch: npt.NDArray[np.int64]) -> list[Any]:
    return describe(batch)


def as_tensor(batch: torch.Tensor) -> list[Any]:
    return describe(batch)


def as_long(batch: torch.LongTensor) -> list[Any]:
    return describe(batch)


def no_hint(batch: Any) -> list[Any]:
    return [type(batch).__name__ for _ in batch]


@pytest.fixture(params=["simdjson", "codec"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "codec":
        monkeypatch.setattr(intake, "simdjson", None)
    else:
        assert intake.simdjson is not None
    return str(request.param)


@pytest.mark.parametrize("shape", [(2,), None])
@pytest.mark.parametrize(
    ("handler", "kind", "dtype"),
    [
        (as_array, "ndarray", "float64"),
        (as_floats, "ndarray", "float32"),
        (as_integers, "ndarray", "int64"),
        (as_tensor, "Tensor", "torch.float32"),
        (as_long, "Tensor", "torch.int64"),
    ],
)
def test_the_hint_says_what_the_handler_gets(
    reader: str, handler: Any, kind: str, dtype: str, shape: tuple[int, ...] | None
) -> None:
    answers = seen(run(handler, b"[1, 2]", b'{"data": [3, 4]}', shape=shape))
    assert answers == [[kind, dtype, [2], [1, 2]], [kind, dtype, [2], [3, 4]]]


def test_without_a_hint_there_are_payloads() -> None:
    assert seen(run(no_hint, b"[1, 2]")) == ["list"]


def test_a_preprocess_of_its_own_gets_rows(reader: str) -> None:
    class Own(Handler):
        def preprocess(self, rows: list[Any]) -> Any:
            return [row.payload for row in rows]

        def inference(self, batch: torch.Tensor) -> Any:
            return [type(batch).__name__ for _ in batch]

    assert seen(run(Own, b"[1]", shape=(1,))) == ["list"]


def test_one_bad_row_costs_one_error(reader: str) -> None:
    bad = [b"[1, 2, 3]", b"[[1], [2]]", b"[1, null]", b'["1", 2]', b"{", b'{"other": [1, 2]}', b"[[1, 2]]", b"7"]
    outcome = run(as_tensor, b"[1, 2]", *bad, b"[8, 9]", shape=(2,))
    first, *refused, last = seen(outcome)
    assert (first[3], last[3]) == ([1.0, 2.0], [8.0, 9.0])
    assert [answer.status for answer in outcome.answers] == [200, *[400] * len(bad), 200]
    assert refused[0] == "the payload has shape [3], the sample's is [2]"
    assert refused[1] == "the payload has shape [2, 1], the sample's is [2]"
    assert refused[2] == refused[3] == "the payload is ragged or not numbers; an array of numbers is wanted"
    assert "not valid JSON" in refused[4]


@pytest.mark.parametrize(
    "body", [b"[[1, 2, 3], [4]]", b"[[1, 2], [3, [4]]]", b"[1, 2, 3, 4]", b"[[[1], [2]], [[3], [4]]]"]
)
def test_rows_of_another_shape_with_as_many_numbers_are_refused(reader: str, body: bytes) -> None:
    good, other = seen(run(as_array, b"[[1, 2], [3, 4]]", body, shape=(2, 2)))
    assert good[3] == [[1, 2], [3, 4]]
    assert other.startswith("the payload ")


def test_fractions_are_no_whole_numbers(reader: str) -> None:
    assert seen(run(as_long, b"[1, 2.5]", b"[1, 2]", shape=(2,)))[0].startswith("the payload has fractions")


def test_without_a_sample_rows_that_do_not_fit_together_are_run_apart(reader: str) -> None:
    assert [answer[3] for answer in seen(run(as_array, b"[1, 2]", b"[3]"))] == [[1, 2], [3]]


def test_a_row_that_fails_in_the_handler_does_not_harm_the_others(reader: str) -> None:
    def picky(batch: np.ndarray[Any, Any]) -> list[Any]:
        if (batch < 0).any():
            raise ValueError("negative")
        return describe(batch)

    picky.__annotations__["batch"] = np.ndarray
    outcome = run(picky, b"[1]", b"[-1]", b"[2]", b"[3]", shape=(1,))
    assert [answer.status for answer in outcome.answers] == [200, 500, 200, 200]
    assert [answer[3] for answer in (seen(outcome)[0], *seen(outcome)[2:])] == [[1], [2], [3]]


def test_a_batch_is_not_overwritten_by_the_next(reader: str) -> None:
    kept: list[Any] = []

    def keep(batch: np.ndarray) -> list[Any]:  # type: ignore[type-arg]
        kept.append(batch)
        return [0] * len(batch)

    pipeline = Pipeline(keep, Context(name="test"), sample_shape=(1,))
    for number in range(3):
        pipeline.run([Item(b"[%d]" % number)])
    assert [batch.tolist() for batch in kept] == [[[0]], [[1]], [[2]]]


def test_raw_bodies_are_not_copied() -> None:
    body = b"\x00\x01raw"

    def raw(batch: list[memoryview]) -> list[Any]:
        assert all(view.readonly and view.obj is body for view in batch)
        return [len(view) for view in batch]

    assert seen(run(raw, body, content_type="application/octet-stream")) == [5]


numbers = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53))


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=1, max_size=5)))
def test_the_numbers_are_those_of_the_codec(rows: list[list[float]]) -> None:
    outcome = run(as_array, *(json.dumps(row).encode() for row in rows), shape=(len(rows[0]),))
    assert [answer[3] for answer in seen(outcome)] == [[float(x) for x in row] for row in rows]
