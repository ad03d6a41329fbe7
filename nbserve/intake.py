"""Payloads as arrays or raw bytes, for handlers that ask for them. Called by pipeline.py.

A handler without a `preprocess` of its own says what it takes by the hint on the first parameter of `inference` (or
`predict`):

    no hint, list             the payloads, as the codec decodes them
    numpy.ndarray             one array of float64, a row for each request; NDArray[numpy.float32] has another dtype
    torch.Tensor              one tensor of torch's default dtype; LongTensor, DoubleTensor ... of theirs
    list[memoryview]          the bodies themselves, read-only and not copied, whatever their content type

A handler that has a `preprocess`, and knows that numbers of the sample's shape need none, offers an intake itself:
`__nbserve_intake__(sample_shape)`. That of modules served in one line is `SampleIntake`.

Numbers go from the JSON text into the batch's own memory, without a Python object for each: 784 of them take 10 us,
27 us by way of a list, 53 us by way of a list and a tensor (pysimdjson 7.0 against msgspec 0.22). Where pysimdjson is
missing, or a payload is anything but an array of numbers of the sample's shape, the codec decodes it.
"""

from __future__ import annotations

import inspect
import math
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from nbserve.errors import BadRequest
from nbserve.handler import Row
from nbserve.wire.codec import decode_row, is_json, shape_of
from nbserve.wire.frames import Buffer

simdjson: Any
try:
    import simdjson
except ImportError:  # no wheel for this Python yet
    simdjson = None

__all__ = ["ArrayIntake", "Intake", "SampleIntake", "ViewIntake", "intake_of"]

_TENSORS = {
    "LongTensor": "int64",
    "IntTensor": "int32",
    "ShortTensor": "int16",
    "DoubleTensor": "float64",
    "FloatTensor": "float32",
    "HalfTensor": "float16",
}


class Intake(Protocol):
    """How the bodies of a batch become what the handler takes."""

    def begin(self, count: int) -> None:
        """A batch of so many bodies comes."""

    def read(self, content_type: str, body: Buffer) -> Any:
        """One body -> one row. Raises BadRequest."""

    def batch(self, rows: Sequence[Any]) -> Any:
        """Rows, all or some of those that were read -> the batch."""


def intake_of(step: Callable[..., Any], shape: tuple[int, ...] | None) -> Intake | None:
    """What the hint on the first parameter asks for; None = nothing special. shape: of the sample, if there is one."""
    hint = _first_hint(step)
    if typing.get_origin(hint) in (list, Sequence) and typing.get_args(hint) == (memoryview,):
        return ViewIntake()
    origin = typing.get_origin(hint) or hint
    module, name = getattr(origin, "__module__", ""), getattr(origin, "__qualname__", "")
    if (module, name) == ("numpy", "ndarray"):
        return ArrayIntake(_dtype_in(hint) or "float64", shape)
    if module in ("torch", "torch._tensor") and (name == "Tensor" or name in _TENSORS):
        return ArrayIntake(_TENSORS.get(name, ""), shape, torch=True)
    return None


class ViewIntake:
    """Bodies as they came."""

    def begin(self, count: int) -> None:
        """Nothing to prepare."""

    def read(self, content_type: str, body: Buffer) -> memoryview:
        """The body, read-only."""
        return memoryview(body).toreadonly()

    def batch(self, rows: Sequence[memoryview]) -> list[memoryview]:
        """A list."""
        return list(rows)


class ArrayIntake:
    """Numbers in one array.

    dtype: a numpy name; "" = torch's default. shape: of a row; where it is known, rows are read into their places in
    the batch, and other shapes are refused one by one. torch: the batch is a tensor on the same memory.
    """

    def __init__(self, dtype: str, shape: tuple[int, ...] | None, *, torch: bool = False) -> None:
        import numpy

        self._numpy = numpy
        self._torch = torch
        if not dtype:
            dtype = str(sys.modules["torch"].get_default_dtype()).removeprefix("torch.")
        self._dtype: Any = numpy.dtype(dtype)
        self._shape = shape
        self._parse = simdjson.Parser().parse if simdjson is not None else None
        self._letter = "i" if self._dtype.kind in "iu" else "d"
        self._narrows = self._dtype in (numpy.float16, numpy.float32)
        self._arrays = sum(math.prod(shape[:depth]) for depth in range(len(shape))) if shape else 0
        self._room: Any = None
        self._taken = 0

    def begin(self, count: int) -> None:
        """Make room."""
        self._taken = 0
        if self._shape is not None:
            self._room = self._numpy.empty((count, *self._shape), self._dtype)

    def read(self, content_type: str, body: Buffer) -> Any:
        """The next row, as an array. Raises BadRequest where the payload is not numbers, or of another shape."""
        row = self._numbers(content_type, body)
        if row is None:
            row = self._decoded(content_type, body)
        return row if self._room is None else self._put(row)

    def batch(self, rows: Sequence[Any]) -> Any:
        """All of the batch without a copy; parts of it, and rows of unknown shape, stacked."""
        room = self._room
        if room is not None and len(rows) == self._taken and rows[0].base is room:
            array = room[: self._taken]
        else:
            array = self._numpy.stack(rows)
        return sys.modules["torch"].from_numpy(array) if self._torch else array

    def _put(self, row: Any) -> Any:
        """A row to its place in the batch, which is returned."""
        place = self._room[self._taken]
        if self._narrows:
            with self._numpy.errstate(over="ignore"):  # beyond the range is infinity, as it is in torch
                place[...] = row
        else:
            place[...] = row
        self._taken += 1
        return place

    def _numbers(self, content_type: str, body: Buffer) -> Any:
        """The quick way; None where it is not sure that these are numbers of the known shape."""
        shape = self._shape
        if not shape or self._parse is None or not is_json(content_type):
            return None
        text = bytes(body)
        if text.count(b"[") != self._arrays:
            return None
        try:
            found = self._parse(text)
            if isinstance(found, simdjson.Object):
                found = found["data"]
            if not _has_shape(found, shape):
                return None
            flat = self._numpy.frombuffer(found.as_buffer(of_type=self._letter), "i8" if self._letter == "i" else "f8")
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
            return None  # the codec says what is wrong
        return flat.reshape(shape) if flat.size == math.prod(shape) else None

    def _decoded(self, content_type: str, body: Buffer) -> Any:
        payload = decode_row(content_type, body).payload
        shape = shape_of(payload)
        if shape is None:
            raise BadRequest("the payload is ragged or not numbers; an array of numbers is wanted")
        if self._shape is not None and shape != self._shape:
            raise BadRequest(f"the payload has shape {list(shape)}, the sample's is {list(self._shape)}")
        array = self._numpy.asarray(payload)
        if self._letter == "i" and array.size and array.dtype.kind not in "iub":
            raise BadRequest(f"the payload has fractions; whole numbers ({self._dtype}) are wanted")
        with self._numpy.errstate(over="ignore"):
            return array.astype(self._dtype)


class SampleIntake(ArrayIntake):
    """Numbers of the sample's shape in one tensor; a batch that holds anything else goes through `preprocess`.

    dtype: one of DTYPES. finish: what is still to be done with the tensor.
    """

    DTYPES = frozenset({"float16", "float32", "float64", "int64"})
    """Those that both ways understand alike: numpy has no bfloat16, and wraps small integers where torch refuses."""

    def __init__(
        self,
        dtype: str,
        shape: tuple[int, ...],
        preprocess: Callable[[list[Row]], Any],
        finish: Callable[[Any], Any],
    ) -> None:
        super().__init__(dtype, shape, torch=True)
        self._preprocess, self._finish = preprocess, finish

    def read(self, content_type: str, body: Buffer) -> Any:
        """An array, or a Row. Raises BadRequest where the body is not what its content type says."""
        row = self._numbers(content_type, body)
        return decode_row(content_type, body) if row is None else self._put(row)

    def batch(self, rows: Sequence[Any]) -> Any:
        """Raises what `preprocess` does."""
        if any(isinstance(row, Row) for row in rows):
            return self._preprocess([row if isinstance(row, Row) else Row(body=row) for row in rows])
        return self._finish(super().batch(rows))


def _has_shape(array: Any, shape: tuple[int, ...]) -> bool:
    """Whether a parsed array and those in it are as long as they should be."""
    if len(array) != shape[0]:
        return False
    return len(shape) == 1 or all(_has_shape(part, shape[1:]) for part in array)


def _first_hint(step: Callable[..., Any]) -> Any:
    try:
        first = next(iter(inspect.signature(step).parameters.values()), None)
    except (TypeError, ValueError):
        return None
    if first is None or first.annotation is inspect.Parameter.empty:
        return None
    if not isinstance(first.annotation, str):
        return first.annotation
    function = getattr(step, "__func__", step)
    try:
        return typing.get_type_hints(function).get(first.name)
    except Exception:  # a hint that names what is not there is a comment to us
        return None


def _dtype_in(hint: Any) -> str:
    """NDArray[numpy.float32] -> "float32"; "" where it says none."""
    for part in typing.get_args(hint)[1:]:
        for scalar in typing.get_args(part):
            if isinstance(scalar, type) and scalar.__module__ == "numpy":
                return scalar.__name__
    return ""
