"""Takes the values of named fields out of JSON bodies. Pure. Called by gateway/recorder when a recording is written.

What stands in their place is of the same kind, so that the request can still be sent to a handler.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

__all__ = ["redacted"]

_INSTEAD = "REDACTED"
_decode, _encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode


def redacted(body: bytes, names: Collection[str]) -> bytes | None:
    """The JSON body without the values of these fields (lower case), at any depth; None: it cannot be read as JSON.

    Always encoded anew: of a name that comes twice in an object readers know the last one, but the bytes have both.
    """
    try:
        return _encode(_without(_decode(body), names))
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError):
        return None


def _without(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {key: _blank(item) if key.lower() in names else _without(item, names) for key, item in value.items()}
    return [_without(item, names) for item in value] if isinstance(value, list) else value


def _blank(value: Any) -> Any:
    """Text, numbers and truth values keep their kind, lists their length; objects lose their keys too."""
    if isinstance(value, str):
        return _INSTEAD
    if isinstance(value, list):
        return [_blank(item) for item in value]
    if isinstance(value, dict):
        return {}
    return None if value is None else type(value)()
