"""One keep-alive HTTP/1.1 connection of a load process: a request out, its answer parsed, no more. Used by `load.py`.

Lean on purpose: whatever it costs, it takes from the machine that is measured. Parsing is httptools' (llhttp).
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

import httptools

__all__ = ["Answer", "Connection", "Owner"]

_KEPT_BYTES = 4096
"""Of an error's body, from which its type is read."""


class Answer:
    """What is kept of an answer. `timing`: the Server-Timing header, where it was asked for."""

    __slots__ = ("error_body", "framed", "status", "timing")

    def __init__(self) -> None:
        self.status = 0
        self.timing = b""
        self.error_body = b""
        self.framed = False
        """Whether it says where its body ends; else the end of the connection is the end of the body."""


class Owner(Protocol):
    """Who is told: `load.Sender`."""

    def opened(self, connection: Connection) -> None:
        """The connection can send."""

    def answered(self, connection: Connection, answer: Answer, reusable: bool) -> None:
        """The answer to what was sent is whole."""

    def lost(self, connection: Connection, why: str) -> None:
        """The connection is gone. `connection.is_waiting`: with a request unanswered."""


class Connection(asyncio.Protocol):
    """`send`, then one of the owner's three calls. `due_s`, `sent_s`: of the request in flight, monotonic clock."""

    __slots__ = ("_answer", "_owner", "_parser", "_transport", "due_s", "is_waiting", "sent_s", "wants_timing")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.WriteTransport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer = Answer()
        self.due_s = self.sent_s = 0.0
        self.is_waiting = False
        self.wants_timing = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more; the owner has been told, or will be."""
        return self._transport is None or self._transport.is_closing()

    def send(self, request: bytes, due_s: float, now_s: float) -> None:
        """Write a whole request; the connection must be idle."""
        self.due_s, self.sent_s, self.is_waiting = due_s, now_s, True
        assert self._transport is not None
        self._transport.write(request)

    def abort(self) -> None:
        """Close at once; the owner is told that it is lost."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is none by inheritance
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._answer = Answer()
            self._lost("malformed answer")

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by the server, by an error, or by `abort`."""
        answer = self._answer
        if self.is_waiting and exc is None and answer.status >= 200 and not answer.framed:
            self._finish(reusable=False)
        else:
            self._lost("connection reset" if isinstance(exc, OSError) else "connection closed")

    def _lost(self, why: str) -> None:
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.abort()
            self._owner.lost(self, why)

    # -- httptools' callbacks ----------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header of the answer."""
        lowered = name.lower()
        if lowered == b"content-length" or lowered == b"transfer-encoding":
            self._answer.framed = True
        elif self.wants_timing and lowered == b"server-timing":
            self._answer.timing += b"," + value

    def on_headers_complete(self) -> None:
        """The status is known."""
        self._answer.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """Kept of errors only."""
        answer = self._answer
        if answer.status >= 400 and len(answer.error_body) < _KEPT_BYTES:
            answer.error_body += data

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._answer.status >= 200:  # else it is "100 Continue" or the like: the answer follows
            self._finish(reusable=self._parser.should_keep_alive())

    def _finish(self, *, reusable: bool) -> None:
        answer, self._answer = self._answer, Answer()
        self.is_waiting = False
        self._owner.answered(self, answer, reusable)
