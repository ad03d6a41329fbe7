"""One batch through decode, preprocess, inference, postprocess, encode.

Owns how a handler is called and how its failures become answers. Used by the worker's loop for traffic, and in the
notebook for the proof and for replaying a failed request: the very same code, so that what was proven is what runs.

The steps are written once, as a generator that yields what is to be awaited: `run_async` does so for coroutine
handlers; for ordinary handlers, whom `run` serves, nothing is.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from nbserve.errors import BadRequest, ErrorInfo, HandlerError
from nbserve.handler import Context, Handler, Row, to_answers
from nbserve.intake import Intake, intake_of
from nbserve.isolation import BatchFailed, Pace, isolate
from nbserve.tracebacks import Locate, describe
from nbserve.wire.codec import decode_row, encode_value, shape_of
from nbserve.wire.frames import Buffer
from nbserve.wire.messages import Timings

__all__ = ["Answer", "DeviceLost", "Item", "Outcome", "Pipeline", "is_device_lost"]


class Item(NamedTuple):
    """One request of a batch."""

    body: Buffer
    content_type: str = "application/json"
    request_id: str = ""
    route: str = "predict"
    headers: Mapping[str, str] = MappingProxyType({})


class Answer(NamedTuple):
    """One answer: a body, or an error and no body."""

    body: bytes
    content_type: str
    status: int = 200
    error: ErrorInfo | None = None


class Outcome(NamedTuple):
    """One answer per item, in order, and the seconds each stage took."""

    answers: list[Answer]
    timings: Timings
    isolation_s: float = 0.0
    """Of these, spent on running parts of a failed batch again."""
    memory_fits: int = 0
    """Where memory ran out: the largest batch that may fit; else 0."""


_Steps = Generator[Any, Any, list[Answer]]


class Pipeline:
    """A handler that is ready to be called.

    handler: a class (instantiated here), an instance, or a function `predict(batch) -> answers`.
    locate: maps file and line to the user's place for tracebacks.
    sample_shape: shape of the sample's payload; a failing row of another shape is told so (status 400).
    on_stage: called with the stage's name before each stage (progress, for crash reports).
    isolate: whether a failed batch is run again in parts, to find the rows at fault.
    raises: what goes wrong is raised as it was, instead of becoming an answer: for a replay in a notebook.
    """

    def __init__(
        self,
        handler: Any,
        context: Context,
        *,
        locate: Locate = lambda _file, _line: None,
        sample_shape: tuple[int, ...] | None = None,
        on_stage: Callable[[str], None] = lambda _stage: None,
        isolate: bool = True,
        raises: bool = False,
    ) -> None:
        self.context = context
        self._locate = locate
        self._sample_shape = sample_shape
        self._on_stage = on_stage
        self._isolate = isolate
        self._raises = raises
        self._pace = Pace()
        self.handler: Any = handler() if inspect.isclass(handler) else handler
        self._preprocess, self._inference, self._postprocess = _stages(self.handler, context)
        self._intake = self._find_intake(sample_shape)
        self.is_async = any(
            inspect.iscoroutinefunction(step) for step in (self._preprocess, self._inference, self._postprocess)
        )

    def _find_intake(self, sample_shape: tuple[int, ...] | None) -> Intake | None:
        """How bodies are read, where not as rows."""
        offer = getattr(self.handler, "__nbserve_intake__", None)
        if offer is not None:
            found: Intake | None = offer(sample_shape)
            return found
        is_default = getattr(self._preprocess, "__func__", None) is Handler.preprocess
        return intake_of(self._inference, sample_shape) if is_default else None

    def set_on_stage(self, on_stage: Callable[[str], None]) -> None:
        """Who is told of each stage from now on."""
        self._on_stage = on_stage

    def initialize(self) -> Any:
        """Call the handler's `initialize(context)` where it has one; returns what it returned (maybe a coroutine)."""
        handler = self.handler
        if not inspect.isfunction(handler):
            with contextlib.suppress(AttributeError):  # slots or a frozen class: it gets them through initialize
                handler.context, handler.metrics = self.context, self.context.metrics
        initialize = getattr(handler, "initialize", None)
        return initialize(self.context) if callable(initialize) else None

    def run(self, items: Sequence[Item]) -> Outcome:
        """One batch, called from plain code. Never raises for what a handler or a body did wrong, but with `raises`."""
        clock = _Clock()
        steps = self._steps(items, clock)
        with _inference_mode():
            try:
                next(steps)
                while True:
                    steps.throw(TypeError("this handler is a coroutine; it needs a running event loop"))
            except StopIteration as done:
                return Outcome(done.value, clock.timings, clock.isolation_s, clock.memory_fits)

    async def run_async(self, items: Sequence[Item]) -> Outcome:
        """One batch, awaiting the steps of a coroutine handler. Cancelling the task ends it between steps."""
        clock = _Clock()
        steps = self._steps(items, clock)
        try:
            value = next(steps)
            while True:
                try:
                    with _inference_mode():
                        result = await value
                except Exception as exc:
                    value = steps.throw(exc)
                    continue
                value = steps.send(result)
        except StopIteration as done:
            return Outcome(done.value, clock.timings, clock.isolation_s, clock.memory_fits)

    def _steps(self, items: Sequence[Item], clock: _Clock) -> _Steps:
        self._on_stage("decode")
        answers: list[Answer | None] = [None] * len(items)
        rows, places = self._read(items, answers)
        clock.lap("decode_s")
        if rows:
            read = items if len(rows) == len(items) else [items[place] for place in places]
            self.context.request_ids = [item.request_id for item in read]
            self.context.headers = [item.headers for item in read]
            found = yield from self._isolated(rows, clock, read)
            if read is items:
                return found
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
        return [answer if answer is not None else _error(_lost()) for answer in answers]

    def _read(self, items: Sequence[Item], answers: list[Answer | None]) -> tuple[list[Any], list[int]]:
        """Bodies -> rows, and the places that they are of; the others have their answer, an error, already."""
        rows: list[Any] = []
        places: list[int] = []
        read = decode_row
        if self._intake is not None:
            self._intake.begin(len(items))
            read = self._intake.read
        for place, item in enumerate(items):
            try:
                rows.append(read(item.content_type, item.body))
                places.append(place)
            except BadRequest as exc:
                if self._raises:
                    raise
                answers[place] = _error(describe(exc, self._locate, stage="decode"))
        return rows, places

    def _isolated(self, rows: list[Any], clock: _Clock, items: Sequence[Item] = ()) -> _Steps:
        """All rows together; where that fails, in parts, so that one bad row costs one error.

        items: what the rows were read from; they are read again for the parts, as the handler may have written on them.
        """
        try:
            return (yield from self._together(rows, clock))
        except BatchFailed as failure:
            info = failure.answer.error or _lost()
            if len(rows) == 1:
                return [_error(self._blame(rows[0], info))]
            if not self._isolate:
                return [_error(info)] * len(rows)
        began = time.perf_counter()
        if items:
            rows, _ = self._read(items, [None] * len(items))
        if info.status == 507:
            return (yield from self._in_halves(rows, clock))

        def run(indices: Sequence[int]) -> _Steps:
            part = [rows[index] for index in indices]
            if len(part) == 1:
                return (yield from self._isolated(part, clock))
            return (yield from self._together(part, clock))

        answers = yield from isolate(len(rows), run, self._pace)
        clock.isolation_s += time.perf_counter() - began
        return answers

    def _in_halves(self, rows: list[Any], clock: _Clock) -> _Steps:
        """The batch was too large for the memory: smaller ones, and the gateway is told."""
        middle = len(rows) // 2
        clock.memory_fits = min(middle, clock.memory_fits or middle)
        return [
            *(yield from self._isolated(rows[:middle], clock)),
            *(yield from self._isolated(rows[middle:], clock)),
        ]

    def _together(self, rows: list[Any], clock: _Clock) -> _Steps:
        stage, began = "preprocess", time.perf_counter()
        try:
            self._on_stage(stage)
            if self._intake is not None:
                batch = self._intake.batch(rows)
            else:
                batch = self._preprocess(rows) if self._preprocess is not None else rows
                if hasattr(type(batch), "__await__"):
                    batch = yield batch
            clock.lap("preprocess_s")
            stage = "inference"
            self._on_stage(stage)
            outputs = self._inference(batch)
            if hasattr(type(outputs), "__await__"):
                outputs = yield outputs
            clock.lap("inference_s")
            stage = "postprocess"
            self._on_stage(stage)
            values = self._postprocess(outputs) if self._postprocess is not None else outputs
            if hasattr(type(values), "__await__"):
                values = yield values
            if not isinstance(values, (list, tuple)):
                values = to_answers(values)
            if len(values) != len(rows):
                raise HandlerError(
                    f"the handler returned {len(values)} answers for a batch of {len(rows)}",
                    hint="return a list with one answer per row, in order",
                )
            clock.lap("postprocess_s")
        except Exception as exc:
            if self._raises:
                raise
            if is_device_lost(exc):
                raise DeviceLost(f"{type(exc).__name__}: {exc}") from exc
            clock.lap(f"{stage}_s")
            raise BatchFailed(_error(describe(exc, self._locate, stage=stage))) from exc
        self._pace.record(len(rows), time.perf_counter() - began)
        self._on_stage("encode")
        answers = [self._encode(value) for value in values]
        clock.lap("encode_s")
        return answers

    def _encode(self, value: Any) -> Answer:
        try:
            body, content_type = encode_value(value)
        except HandlerError as exc:
            if self._raises:
                raise
            return _error(describe(exc, self._locate, stage="encode"))
        return Answer(body, content_type)

    def _blame(self, row: Any, info: ErrorInfo) -> ErrorInfo:
        """A row that failed alone: the client's fault where it is ragged or not shaped like the sample."""
        if (
            info.status != 500
            or self._sample_shape is None
            or not isinstance(row, Row)
            or info.stage not in ("preprocess", "inference")
        ):
            return info
        shape = shape_of(row.payload)
        if shape == self._sample_shape:
            return info
        seen = "is ragged or not numbers" if shape is None else f"has shape {list(shape)}"
        return ErrorInfo(
            type="BadRequest",
            message=f"the payload {seen}, the sample's is {list(self._sample_shape)}",
            status=400,
            where=info.where,
            stage=info.stage,
            traceback=info.traceback,
            details={"cause": f"{info.type}: {info.message}"},
        )


class DeviceLost(BaseException):
    """The accelerator reported an error after which every further call in this process fails too."""


def is_device_lost(exc: BaseException) -> bool:
    """Sticky errors, such as a device-side assert. Out of memory is none: the process can go on.

    torch raises AcceleratorError, a RuntimeError, with a message that starts with "CUDA error:" (torch.cuda's docs).
    """
    if type(exc).__name__ == "OutOfMemoryError":
        return False
    return type(exc).__name__ == "AcceleratorError" or (isinstance(exc, RuntimeError) and "CUDA error:" in str(exc))


class _Clock:
    """Adds up the time since the last lap under a stage's name."""

    def __init__(self) -> None:
        self.timings = Timings()
        self.isolation_s = 0.0
        self.memory_fits = 0
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        setattr(self.timings, name, getattr(self.timings, name) + now - self._last)
        self._last = now


def _stages(handler: Any, context: Context) -> tuple[Any, Any, Any]:
    """(preprocess, inference, postprocess) of whatever was given; preprocess and postprocess may be None."""
    if inspect.isfunction(handler) or inspect.ismethod(handler) or inspect.isbuiltin(handler):
        return Handler.preprocess.__get__(Handler()), handler, None
    if callable(getattr(handler, "inference", None)):
        default = Handler()
        return (
            getattr(handler, "preprocess", default.preprocess),
            handler.inference,
            getattr(handler, "postprocess", default.postprocess),
        )
    if callable(getattr(handler, "handle", None)):  # TorchServe's one-step form
        return None, lambda rows: handler.handle(rows, context), None
    if callable(getattr(handler, "predict", None)):
        return Handler.preprocess.__get__(Handler()), handler.predict, None
    if callable(handler):
        return Handler.preprocess.__get__(Handler()), handler, None
    raise TypeError(f"{type(handler).__name__} has none of inference, handle, predict")


def _inference_mode() -> contextlib.AbstractContextManager[Any]:
    torch = sys.modules.get("torch")
    return torch.inference_mode() if torch is not None else contextlib.nullcontext()


def _error(info: ErrorInfo) -> Answer:
    return Answer(b"", "", info.status, info)


def _lost() -> ErrorInfo:
    return ErrorInfo(type="HandlerError", message="the handler gave no answer for this request", status=500)
