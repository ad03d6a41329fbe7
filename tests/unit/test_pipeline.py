"""One batch through a handler: forms of handlers, isolation of bad rows, what failures say."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.errors import BadRequest
from nbserve.handler import Context, Handler, Row
from nbserve.pipeline import Answer, Item, Pipeline

HERE = __file__


def locate(file: str, line: int) -> str | None:
    return f"In[7], line {line}" if file == HERE else None


def build(handler: Any, **options: Any) -> Pipeline:
    pipeline = Pipeline(handler, Context(name="test"), locate=locate, **options)
    pipeline.initialize()
    return pipeline


def items(*values: Any) -> list[Item]:
    return [Item(json.dumps(value).encode(), request_id=f"r{i}") for i, value in enumerate(values)]


def bodies(answers: list[Answer]) -> list[Any]:
    return [json.loads(answer.body) if answer.error is None else answer.status for answer in answers]


class Double(Handler):
    def inference(self, batch: list[int]) -> list[int]:
        return [2 * x for x in batch]


def double(batch: list[int]) -> list[int]:
    return [2 * x for x in batch]


class Plain:
    def initialize(self, context: Context) -> None:
        self.factor = 2

    def inference(self, batch: list[int]) -> list[int]:
        return [self.factor * x for x in batch]


class OneStep:
    def handle(self, rows: list[Row], context: Context) -> list[int]:
        return [2 * row.payload for row in rows]


class Predicts:
    def predict(self, batch: list[int]) -> list[int]:
        return [2 * x for x in batch]


class Coroutine(Handler):
    async def inference(self, batch: list[int]) -> list[int]:
        await asyncio.sleep(0)
        if 13 in batch:
            raise ValueError("13")
        return [2 * x for x in batch]


@pytest.mark.parametrize("handler", [Double, Double(), double, Plain, OneStep, Predicts])
def test_every_form_of_handler(handler: Any) -> None:
    assert bodies(build(handler).run(items(1, 2, 3)).answers) == [2, 4, 6]


def test_coroutine_handler_and_its_isolation() -> None:
    pipeline = build(Coroutine)
    assert pipeline.is_async
    outcome = asyncio.run(pipeline.run_async(items(1, 13, 3)))
    assert bodies(outcome.answers) == [2, 500, 6]


def test_coroutine_handler_called_from_plain_code_says_so() -> None:
    class Sneaky(Handler):
        def inference(self, batch: list[int]) -> Any:
            async def later() -> None:
                pass

            coroutine = later()
            coroutine.close()
            return asyncio.Future(loop=loop)

    loop = asyncio.new_event_loop()
    try:
        answer = build(Sneaky).run(items(1)).answers[0]
    finally:
        loop.close()
    assert answer.error is not None
    assert "coroutine" in answer.error.message


@given(st.lists(st.sampled_from(["ok", "decode", "preprocess", "inference"]), min_size=1, max_size=12))
def test_exactly_the_bad_ones_fail(kinds: list[str]) -> None:
    class Picky(Handler):
        def preprocess(self, rows: list[Row]) -> list[str]:
            values = [row.payload for row in rows]
            if "preprocess" in values:
                raise TypeError("preprocess")
            return values

        def inference(self, batch: list[str]) -> list[str]:
            if "inference" in batch:
                raise RuntimeError("inference")
            return batch

    batch = [Item(b"{" if kind == "decode" else json.dumps(kind).encode()) for kind in kinds]
    expected = {"ok": 200, "decode": 400, "preprocess": 500, "inference": 500}
    answers = build(Picky).run(batch).answers
    assert [answer.status for answer in answers] == [expected[kind] for kind in kinds]


def test_error_says_class_message_place_and_stage() -> None:
    class Broken(Handler):
        def inference(self, batch: Any) -> Any:
            return batch[0] / 0

    (answer,) = build(Broken).run(items(1)).answers
    assert answer.error is not None
    assert answer.error.type == "ZeroDivisionError"
    assert answer.error.stage == "inference"
    assert answer.error.where.startswith("In[7], line ")
    assert any("return batch[0] / 0" in line for line in answer.error.traceback)
    assert not any("pipeline" in line for line in answer.error.traceback)


def test_cause_is_told_too() -> None:
    class Chained(Handler):
        def inference(self, batch: Any) -> Any:
            try:
                raise KeyError("label")
            except KeyError as exc:
                raise ValueError("no such label") from exc

    (answer,) = build(Chained).run(items(1)).answers
    assert answer.error is not None
    text = "\n".join(answer.error.traceback)
    assert text.index("KeyError") < text.index("ValueError: no such label")


@pytest.mark.parametrize("count", [0, 1, 5])
def test_wrong_number_of_answers_says_how_many(count: int) -> None:
    def predict(batch: list[Any]) -> list[Any]:
        return [0] * count if len(batch) > 1 else [0, 0]

    answers = build(predict).run(items(1, 2, 3)).answers
    assert {answer.status for answer in answers} == {500}
    assert answers[0].error is not None
    assert "2 answers for a batch of 1" in answers[0].error.message


def test_unencodable_answer_fails_alone_and_names_the_type() -> None:
    def predict(batch: list[int]) -> list[Any]:
        return [object() if x == 2 else x for x in batch]

    answers = build(predict).run(items(1, 2, 3)).answers
    assert [answer.status for answer in answers] == [200, 500, 200]
    assert answers[1].error is not None
    assert "object" in answers[1].error.message
    assert answers[1].error.stage == "encode"


def test_missing_field_is_the_clients_fault() -> None:
    class Texts(Handler):
        def preprocess(self, rows: list[Row]) -> list[str]:
            return [row["text"] for row in rows]

        def inference(self, batch: list[str]) -> list[int]:
            return [len(text) for text in batch]

    answers = build(Texts).run(items({"text": "abc"}, {"txt": "abc"})).answers
    assert [answer.status for answer in answers] == [200, 400]
    assert answers[1].error is not None
    assert answers[1].error.message == "field 'text' is missing"


def test_shape_unlike_the_sample_is_the_clients_fault_only_when_it_fails() -> None:
    class Sums(Handler):
        def inference(self, batch: list[list[float]]) -> list[float]:
            return [a + b for a, b in batch]

    answers = build(Sums, sample_shape=(2,)).run(items([1, 2], [1, 2, 3])).answers
    assert [answer.status for answer in answers] == [200, 400]
    assert answers[1].error is not None
    assert answers[1].error.message == "the payload has shape [3], the sample's is [2]"
    assert "too many values" in answers[1].error.details["cause"]


def test_handler_may_refuse_a_request_itself() -> None:
    def predict(batch: list[int]) -> list[int]:
        if 2 in batch:
            raise BadRequest("two is not welcome")
        return batch

    answers = build(predict).run(items(1, 2)).answers
    assert [answer.status for answer in answers] == [200, 400]


def test_out_of_memory_is_tried_in_halves_and_told() -> None:
    calls = []

    def predict(batch: list[int]) -> list[int]:
        calls.append(len(batch))
        if len(batch) > 2:
            raise MemoryError
        return batch

    outcome = build(predict).run(items(*range(8)))
    assert bodies(outcome.answers) == list(range(8))
    assert calls == [8, 4, 2, 2, 4, 2, 2]
    assert outcome.memory_fits == 2


def test_one_that_needs_too_much_memory_alone_is_507() -> None:
    def predict(batch: list[int]) -> list[int]:
        if 3 in batch:
            raise MemoryError
        return batch

    outcome = build(predict).run(items(*range(4)))
    assert bodies(outcome.answers) == [0, 1, 2, 507]


def test_without_isolation_the_whole_batch_fails() -> None:
    calls = []

    def predict(batch: list[int]) -> list[int]:
        calls.append(len(batch))
        raise ValueError("no")

    assert bodies(build(predict, isolate=False).run(items(1, 2)).answers) == [500, 500]
    assert calls == [2]


def test_inference_mode_and_tensor_answers() -> None:
    import torch

    seen = []

    class Net(Handler):
        def preprocess(self, rows: list[Row]) -> Any:
            return torch.tensor([row.payload for row in rows])

        def inference(self, batch: Any) -> Any:
            seen.append(torch.is_inference_mode_enabled())
            return {"sum": batch.sum(1), "max": batch.max(1).values}

    answers = build(Net).run(items([1.0, 2.0], [3.0, 4.0])).answers
    assert bodies(answers) == [{"sum": 3.0, "max": 2.0}, {"sum": 7.0, "max": 4.0}]
    assert seen == [True]
    assert not torch.is_inference_mode_enabled()


def test_stages_are_told_in_order_and_timed() -> None:
    stages: list[str] = []
    pipeline = build(Double, on_stage=stages.append)
    timings = pipeline.run(items(1)).timings
    assert stages == ["decode", "preprocess", "inference", "postprocess", "encode"]
    assert min(timings.decode_s, timings.preprocess_s, timings.inference_s, timings.postprocess_s, timings.encode_s) > 0


def test_request_ids_follow_the_rows_that_decoded() -> None:
    seen = []

    class Ids(Handler):
        def inference(self, batch: list[int]) -> list[int]:
            seen.append(list(self.context.request_ids))
            return batch

    build(Ids).run([Item(b"{", request_id="bad"), Item(b"1", request_id="good")])
    assert seen == [["good"]]
