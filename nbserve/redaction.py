"""Takes the values of named fields (`--redact`) out of what is handed on of a request. Pure.

`redacted`: out of a JSON body; what stands in their place is of the same kind, so that the request can still be sent to
a handler. Called by gateway/recorder and gateway/failures, when they hand bodies out. `Hiding`: out of what an
exception says; called by worker/loop, so that nothing of it leaves the worker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import msgspec

from nbserve.errors import BadRequest, ErrorInfo
from nbserve.wire.codec import decode_row
from nbserve.wire.frames import Buffer

__all__ = ["MAX_VALUES", "Hiding", "redacted"]

_INSTEAD = "REDACTED"
_decode, _encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode

MAX_CHARS = 20_000
"""Of a text that is searched; as much as gateway/failures keeps of one."""
MAX_VALUES = 1_000
"""More are not searched for: the text is withheld."""
_LONG = 4
"""Characters from which on a value is found within a word, too, and in capital or small letters."""


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


class Body(Protocol):
    """A request's, as it came: what is used of pipeline.Item."""

    @property
    def content_type(self) -> str:
        """Its type."""

    @property
    def body(self) -> Buffer:
        """Its bytes."""


class Hiding:
    """Takes the values that these fields (lower case) have in these bodies out of texts. `bodies`: of a whole batch."""

    def __init__(self, bodies: Sequence[Body], names: Collection[str]) -> None:
        self._bodies = bodies
        self._names = names

    def error(self, info: ErrorInfo) -> ErrorInfo:
        """What was raised, with REDACTED in place of each value; its places and lines of source are code, no data.

        tracebacks.describe writes what an exception says as the last line, and, of a cause, before an empty one. What
        went wrong in decoding is said in our own words, which quote nothing.
        """
        if info.stage == "decode":
            return info
        ends = [*(line == "" for line in info.traceback[1:]), True]
        lines = [self.text(line) if is_end else line for line, is_end in zip(info.traceback, ends, strict=False)]
        details = {name: self.text(value) if isinstance(value, str) else value for name, value in info.details.items()}
        return msgspec.structs.replace(info, message=self.text(info.message), traceback=lines, details=details)

    def text(self, text: str) -> str:
        """The text with REDACTED in place of each value; withheld where they cannot be known."""
        if not text:
            return text
        values = self._values
        if values is None:
            return "(what it says is withheld: a body is no JSON, so that nothing could be redacted)"
        if len(values) > MAX_VALUES:
            return f"(what it says is withheld: more than {MAX_VALUES:,} values are to be redacted)"
        if not values:
            return text
        found = self._pattern.sub(_INSTEAD, text[:MAX_CHARS])
        # of a text that is cut off, the end may be the beginning of a value
        return found if len(text) <= MAX_CHARS else f"{found[: -max(map(len, values))]}..."

    @cached_property
    def _values(self) -> set[str] | None:
        """As they may be written; None: a body is text that no fields can be told apart in."""
        texts: set[str] = set()
        for body in self._bodies:
            try:
                value = _fields(body)
                for leaf in _leaves_of(value, self._names):
                    texts |= _written(leaf)
                    if len(texts) > MAX_VALUES:
                        return texts
            except (ValueError, RecursionError):
                return None
        return texts

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Longest first, or a value would leave the rest of one that begins like it."""
        ordered = sorted(self._values or (), key=len, reverse=True)
        long = [re.escape(text) for text in ordered if len(text) >= _LONG]
        short = [re.escape(text) for text in ordered if len(text) < _LONG]
        parts = [f"(?i:{'|'.join(long)})"] if long else []
        parts += [rf"(?<!\w)(?:{'|'.join(short)})(?!\w)"] if short else []
        return re.compile("|".join(parts))


def _fields(body: Body) -> Any:
    """JSON, the fields of a form, or nothing of bytes that are no text. Raises ValueError for other text."""
    try:
        return _decode(body.body)
    except (msgspec.MsgspecError, ValueError):
        pass
    try:
        row = decode_row(body.content_type, body.body)
    except BadRequest as exc:
        raise ValueError from exc
    if "body" not in row:
        return dict(row)
    try:
        bytes(body.body).decode()
    except UnicodeDecodeError:
        return None
    raise ValueError


def _leaves_of(value: Any, names: Collection[str]) -> Iterator[Any]:
    """All that stands in fields of these names, at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item) if key.lower() in names else _leaves_of(item, names)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves_of(item, names)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _written(leaf: Any) -> set[str]:
    """How a message may have it: as str, repr or JSON write it, numbers with and without a point."""
    if leaf is None or isinstance(leaf, bool):
        return set()
    if isinstance(leaf, (int, float)):
        whole = int(leaf) if isinstance(leaf, float) and leaf.is_integer() else leaf
        return {str(leaf), repr(leaf), str(whole)} | ({str(float(leaf))} if abs(leaf) < 1e300 else set())
    if isinstance(leaf, bytes):
        leaf = leaf.decode(errors="replace")
    if not isinstance(leaf, str):
        return set()
    texts = {leaf, leaf.strip(), repr(leaf)[1:-1], json.dumps(leaf)[1:-1], json.dumps(leaf, ensure_ascii=False)[1:-1]}
    return texts - {""}
