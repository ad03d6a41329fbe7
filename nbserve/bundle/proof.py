"""The sample, its expected answer, and whether another answer is the same: pure.

`Sample` is written into the bundle by capture (`sample.json`); the gateway warms workers with it and calls `compare`
on the first worker's answer before a version takes traffic.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import msgspec

from nbserve.errors import BadRequest, BundleError
from nbserve.wire.codec import decode_body

__all__ = ["ATOL", "RTOL", "Difference", "Sample", "compare", "dump_sample", "parse_sample"]

RTOL = 1e-4
"""Relative tolerance: float32 sums in another order (threads, batch size) differ by some 1e-6; half of that in bits."""
ATOL = 1e-5
"""Absolute tolerance, for numbers near 0."""

_SHOWN_CHARS = 600


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A question, and the answer that the handler gave in the notebook under `seed`."""

    content_type: str
    body: bytes
    route: str = "predict"
    expected_content_type: str
    expected_body: bytes
    seed: int = 0
    rtol: float = RTOL
    atol: float = ATOL


class Difference(msgspec.Struct, frozen=True):
    """equal: within the tolerance. max_difference: largest of two numbers, also where equal; nan if not comparable.

    path: JSON path of the first difference, "$.p[3]". text: both answers and where they differ, for people.
    """

    equal: bool
    max_difference: float = 0.0
    path: str = ""
    text: str = ""


def compare(sample: Sample, content_type: str, body: bytes) -> Difference:
    """The worker's answer against the notebook's: floats within rtol and atol, everything else exactly.

    An int and a float compare as floats; a bool is no number; NaN and null are what JSON made of them.
    """
    if _kind(content_type) != _kind(sample.expected_content_type):
        return _differs(
            sample, content_type, body, "$", f"{sample.expected_content_type} became {content_type}", math.nan
        )
    try:
        expected = decode_body(sample.expected_content_type, sample.expected_body)
        answer = decode_body(content_type, body)
    except BadRequest as exc:
        return _differs(sample, content_type, body, "$", exc.message, math.nan)
    walk = _Comparison(sample.rtol, sample.atol)
    walk.compare(expected, answer, "$")
    if not walk.path:
        return Difference(equal=True, max_difference=walk.largest)
    return _differs(sample, content_type, body, walk.path, walk.what, walk.largest)


class _Comparison:
    def __init__(self, rtol: float, atol: float) -> None:
        self.rtol, self.atol = rtol, atol
        self.largest = 0.0
        self.path = self.what = ""

    def compare(self, a: Any, b: Any, path: str) -> None:
        if _number(a) and _number(b):
            self._numbers(a, b, path)
        elif type(a) is not type(b):
            self._found(path, f"{type(a).__name__} {_short(a)} became {type(b).__name__} {_short(b)}")
        elif isinstance(a, dict):
            if missing := a.keys() ^ b.keys():
                self._found(path, f"keys {sorted(missing)} are in one answer only")
            for key in a.keys() & b.keys():
                self.compare(a[key], b[key], f"{path}.{key}")
        elif isinstance(a, list):
            if len(a) != len(b):
                self._found(path, f"{len(a)} items became {len(b)}")
            for index, (left, right) in enumerate(zip(a, b, strict=False)):
                self.compare(left, right, f"{path}[{index}]")
        elif a != b:
            self._found(path, f"{_short(a)} became {_short(b)}")

    def _numbers(self, a: float, b: float, path: str) -> None:
        if a == b:
            return
        difference = abs(a - b)
        self.largest = max(self.largest, float(difference))
        exact = isinstance(a, int) and isinstance(b, int)
        if exact or difference > self.atol + self.rtol * abs(a):
            self._found(path, f"{a!r} became {b!r}, a difference of {difference:.3g}")

    def _found(self, path: str, what: str) -> None:
        if not self.path:
            self.path, self.what = path, what


def _differs(sample: Sample, content_type: str, body: bytes, path: str, what: str, largest: float) -> Difference:
    text = (
        f"at {path}: {what}\n"
        f"  notebook: {_show(sample.expected_content_type, sample.expected_body)}\n"
        f"  worker:   {_show(content_type, body)}"
    )
    return Difference(equal=False, max_difference=largest, path=path, text=text)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _show(content_type: str, body: bytes) -> str:
    kind = _kind(content_type)
    if kind.endswith("json") or kind.startswith("text/"):
        text = body.decode("utf-8", "replace")
        return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."
    return f"{len(body)} bytes of {content_type}, starting {body[:24]!r}"


def dump_sample(sample: Sample) -> bytes:
    """Sample -> sample.json: bodies that are JSON stand there as JSON, byte for byte; others in base64."""
    fields: dict[str, bytes] = {}
    for name in Sample.__struct_fields__:
        value = getattr(sample, name)
        if isinstance(value, bytes):
            kind = sample.content_type if name == "body" else sample.expected_content_type
            fields[name] = _dump_body(kind, value)
        else:
            fields[name] = msgspec.json.encode(value)
    lines = [b'  "%s": %s' % (name.encode(), text) for name, text in fields.items()]
    return b"{\n" + b",\n".join(lines) + b"\n}\n"


def parse_sample(data: bytes) -> Sample:
    """sample.json -> Sample. Raises BundleError."""
    try:
        raw = msgspec.json.decode(data, type=_SampleFile)
        fields = msgspec.structs.asdict(raw)
        fields["body"] = _parse_body(raw.body)
        fields["expected_body"] = _parse_body(raw.expected_body)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise BundleError(f"sample.json cannot be read: {exc}") from exc
    return Sample(**fields)


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    json: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    base64: str | msgspec.UnsetType = msgspec.UNSET


class _SampleFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    content_type: str
    body: _Body
    route: str
    expected_content_type: str
    expected_body: _Body
    seed: int
    rtol: float
    atol: float


def _dump_body(content_type: str, body: bytes) -> bytes:
    if _kind(content_type).endswith("json"):
        try:
            msgspec.json.decode(body)
        except (msgspec.MsgspecError, RecursionError):
            pass
        else:
            return b'{"json": %s}' % body
    return msgspec.json.encode({"base64": base64.b64encode(body).decode()})


def _parse_body(body: _Body) -> bytes:
    if isinstance(body.json, msgspec.Raw):
        return bytes(body.json)
    if isinstance(body.base64, str):
        return base64.b64decode(body.base64, validate=True)
    raise ValueError("a body is neither json nor base64")
