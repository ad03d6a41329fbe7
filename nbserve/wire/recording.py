"""Recorded requests: what is asked of a recorder, what it says of itself, and the file that comes of it.

Written by gateway/recorder; read by recording.py (the verb `record`) and measure/replay.py. docs/recording.md
describes the file for other readers. Pure.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from nbserve.errors import UsageError

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "RecordRequest",
    "RecordedRequest",
    "RecordingHeader",
    "RecordingStatus",
    "read_recording",
    "recorded",
]

FORMAT = "nbserve-requests"
FORMAT_VERSION = 1

Ended = Literal["", "time", "full", "stopped"]


class RecordRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /models/NAME/record."""

    sample: float = 1.0
    """Share of the requests that are kept, each drawn on its own; above 0, at most 1."""
    max_bytes: int = 64_000_000
    """Of memory; the first request that does not fit ends the recording."""
    seconds: float = 60.0
    """The recording ends by itself."""
    redact: list[str] = msgspec.field(default_factory=list)
    """Names of JSON fields, at any depth, in any case; their values are not written."""


class RecordingStatus(msgspec.Struct, kw_only=True):
    """Of one endpoint's recording, while it goes on and after."""

    name: str
    running: bool
    seen: int
    """Requests that came, kept or not."""
    kept: int
    body_bytes: int
    """Of the kept requests."""
    seconds: float
    """Since it began; of one that has ended, in all."""
    ended: Ended = ""
    """Why it is over."""
    withheld: int = 0
    """Kept requests whose body was not written, as it could not be redacted; known once the file is written."""
    file: str = ""
    """Where they were written."""


class RecordingHeader(msgspec.Struct, kw_only=True):
    """The first line of the file."""

    format: str = FORMAT
    version: int = FORMAT_VERSION
    model: str
    began_at: float
    """Unix time; what requests count their `at_s` from."""
    seconds: float
    sample: float
    seen: int
    kept: int
    ended: Ended
    redact: list[str] = msgspec.field(default_factory=list)


class RecordedRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Every further line: one request, in the order of arrival. One of the last three says what its body was."""

    at_s: float
    """Arrival, from the begin of the recording, by the monotonic clock."""
    path: str
    content_type: str = ""
    body: str | None = None
    """Where it is UTF-8."""
    body_base64: str | None = None
    withheld_bytes: int | None = None
    """The body was so long, but could not be redacted: it was no JSON."""

    @property
    def content(self) -> bytes | None:
        """The body; None where it was withheld."""
        if self.body is not None:
            return self.body.encode()
        return base64.b64decode(self.body_base64, validate=True) if self.body_base64 is not None else None


def recorded(at_s: float, path: str, content_type: str, body: bytes | None, *, size: int) -> RecordedRequest:
    """A request for the file. `body` None: withheld, `size` bytes long."""
    request = RecordedRequest(at_s=round(at_s, 6), path=path, content_type=content_type)
    if body is None:
        request.withheld_bytes = size
        return request
    try:
        request.body = str(body, "utf-8")
    except UnicodeDecodeError:
        request.body_base64 = base64.b64encode(body).decode("ascii")
    return request


def read_recording(lines: Iterable[bytes], name: str = "the file") -> tuple[RecordingHeader, Iterator[RecordedRequest]]:
    """The lines of a file. Raises UsageError, at once or while the requests are read, naming the line at fault."""
    numbered = enumerate(lines, 1)
    try:
        header = msgspec.json.decode(next(numbered)[1], type=RecordingHeader)
    except (StopIteration, msgspec.MsgspecError):
        raise UsageError(f"{name} is no recording of requests", hint="`nbserve record NAME --out FILE`") from None
    if header.format != FORMAT or header.version != FORMAT_VERSION:
        raise UsageError(f"{name} has format {header.format!r} version {header.version}, not {FORMAT!r} version 1")
    return header, _requests(numbered, header.kept, name)


def _requests(numbered: Iterable[tuple[int, bytes]], kept: int, name: str) -> Iterator[RecordedRequest]:
    count = 0
    for number, line in numbered:
        try:
            request = msgspec.json.decode(line, type=RecordedRequest)
            _ = request.content
        except (msgspec.MsgspecError, binascii.Error, UnicodeError) as exc:
            raise UsageError(f"{name}, line {number}: this is no request: {exc}") from None
        count += 1
        yield request
    if count != kept:
        raise UsageError(f"{name} is cut off: it has {count} of {kept} requests")
