"""Bodies <-> values: what a content type means, for requests, answers and samples.

Called by `pipeline.py` (in workers, and in the notebook for the proof) and by `endpoint.py`. Pure.

| content type | value |
|---|---|
| application/json, */*+json | what the JSON says |
| text/* | str |
| multipart/form-data, application/x-www-form-urlencoded | one field per part, file parts by their own type |
| anything else, or none | bytes |
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
from tornado.httputil import HTTPHeaders, HTTPInputError, parse_body_arguments

from nbserve.errors import BadRequest, HandlerError
from nbserve.handler import Row
from nbserve.wire.frames import Buffer

__all__ = ["JSON", "OCTETS", "decode_body", "decode_row", "encode_value", "is_json", "shape_of"]

JSON = "application/json"
OCTETS = "application/octet-stream"

_decode_json = msgspec.json.Decoder().decode


def encode_value(value: Any) -> tuple[bytes, str]:
    """Value -> (body, content type). bytes go as they are, everything else as JSON.

    Tensors, arrays and numpy scalars become (nested) numbers; NaN and infinities become null, which JSON needs.
    Raises HandlerError naming the type that has no JSON form.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), OCTETS
    try:
        return _encode_json(value), JSON
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise HandlerError(
            f"the answer cannot be encoded as JSON: {exc or type(exc).__name__}",
            hint="return dicts, lists, strings, numbers, tensors or arrays; or bytes",
        ) from exc


def decode_body(content_type: str, body: Buffer) -> Any:
    """Body -> value, for every type but forms (those need names: `decode_row`). Raises BadRequest."""
    if is_json(content_type):
        try:
            return _decode_json(body)
        except msgspec.DecodeError as exc:
            raise BadRequest(f"the body is not valid JSON: {exc}") from exc
        except RecursionError as exc:
            raise BadRequest("the body is nested too deeply") from exc
    if _kind(content_type).startswith("text/"):
        charset = _parameter(content_type, "charset") or "utf-8"
        try:
            return bytes(body).decode(charset)
        except (UnicodeDecodeError, LookupError) as exc:
            raise BadRequest(f"the body is not {charset} text: {exc}") from exc
    return bytes(body)


def decode_row(content_type: str, body: Buffer) -> Row:
    """Request body -> Row. Raises BadRequest where the body is not what its content type says."""
    kind = _kind(content_type)
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return _decode_form(content_type, kind, bytes(body))
    return Row(body=decode_body(content_type, body))


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Shape of nested lists of numbers, () for a number; None for anything else or ragged lists."""
    if isinstance(value, (int, float)):
        return ()
    if not isinstance(value, list):
        return None
    shapes = {shape_of(item) for item in value}
    if len(shapes) > 1 or None in shapes:
        return None
    inner = shapes.pop() if shapes else ()
    assert inner is not None
    return (len(value), *inner)


def _decode_form(content_type: str, kind: str, body: bytes) -> Row:
    arguments: dict[str, list[bytes]] = {}
    files: dict[str, list[Any]] = {}
    if kind == "application/x-www-form-urlencoded" and body[:1] in (b"{", b"["):
        raise BadRequest(
            "the body looks like JSON but is sent as a form",
            hint="send the header 'Content-Type: application/json' (curl -d sends a form unless told otherwise)",
        )
    try:
        parse_body_arguments(content_type, body, arguments, files, HTTPHeaders())
    except (HTTPInputError, ValueError) as exc:
        raise BadRequest(f"the form cannot be read: {exc}") from exc
    row = Row({name: values[-1] for name, values in arguments.items()})
    for name, parts in files.items():
        row[name] = decode_body(parts[-1]["content_type"], parts[-1]["body"])
    if not row and body.strip():
        raise BadRequest("the form has no fields")
    return row


@lru_cache(maxsize=256)
def is_json(content_type: str) -> bool:
    """Whether a body of this type is JSON."""
    kind = _kind(content_type)
    return kind == JSON or kind.endswith("+json")


@lru_cache(maxsize=256)
def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _parameter(content_type: str, name: str) -> str:
    for part in content_type.split(";")[1:]:
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"')
    return ""


def _plain(value: Any) -> Any:
    """msgspec's hook for types it does not know: anything with `tolist` (arrays, numpy scalars, tensors)."""
    if hasattr(value, "detach"):
        value = value.detach()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} has no JSON form")


_encode_json = msgspec.json.Encoder(enc_hook=_plain).encode
