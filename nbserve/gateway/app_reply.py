"""tornado's HTTPConnection over our own connection: the way back for the handlers of a tornado app.

Made by gateway/connection for each request that the app answers. Speaks to the Connection only through `Way`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPOutputError,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError

if TYPE_CHECKING:
    from nbserve.gateway.connection import Connection

__all__ = ["AppReply"]

LAST_CHUNK = b"0\r\n\r\n"


class AppReply(HTTPConnection):
    """The reply to one request. What comes after the client has gone is lost in silence, as tornado has it."""

    def __init__(self, connection: Connection, method: str, *, http_10: bool) -> None:
        self.context = connection
        self._connection: Connection | None = connection
        self._method = method
        self._http_10 = http_10
        self._has_body = self._in_chunks = False
        self._left: int | None = None
        """Bytes of the body that were announced, and are still to come."""
        self._close_callback: Callable[[], None] | None = None

    def ask(
        self, app: HTTPServerConnectionDelegate, target: str, fields: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """Have the app answer. Raises HTTPInputError where tornado finds a fault."""
        headers = HTTPHeaders()
        for name, value in fields:
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
        delegate = app.start_request(self.context, self)
        delegate.headers_received(RequestStartLine(self._method, target, "HTTP/1.1"), headers)
        if body:
            delegate.data_received(body)
        delegate.finish()

    def gone(self) -> None:
        """The client has gone."""
        self._connection = None
        if (callback := self._close_callback) is not None:
            self._close_callback = None
            callback()

    # -- tornado's HTTPConnection ------------------------------------------------------------------------------------

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Called by tornado: what to do if the client goes before the reply is complete."""
        self._close_callback = callback

    def write_headers(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> asyncio.Future[None]:
        """Called by tornado: the head, and perhaps the first part of the body."""
        assert isinstance(start_line, ResponseStartLine)
        connection = self._connection
        if connection is None:
            return _closed()
        status = start_line.code
        length = headers.get("Content-Length")
        self._has_body = self._method != "HEAD" and status not in (204, 304) and status >= 200
        if self._has_body and length is None:
            self._in_chunks = not self._http_10
            if self._http_10:
                connection.close_after_reply()  # the only end that such a body has
        self._left = int(length) if self._has_body and length is not None else None
        lines = [f"{name}: {value}" for name, value in headers.get_all()]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError(f"a line end in a header: {lines!r}")
        if self._in_chunks:
            lines.append("Transfer-Encoding: chunked")
        start = f"HTTP/1.1 {status} {start_line.reason}"
        head = "\r\n".join([start, *lines, connection.connection_field(http_10=self._http_10)])
        return self._send(f"{head}\r\n".encode("latin-1"), chunk)

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Called by tornado: a part of the body. Done when the client has taken most of what was written."""
        return self._send(b"", chunk)

    def finish(self) -> None:
        """Called by tornado: the reply is complete."""
        connection = self._connection
        if connection is None:
            return
        self._connection = self._close_callback = None
        if self._left:
            connection.abort()
            raise HTTPOutputError(f"{self._left} bytes less than the Content-Length were written")
        if self._in_chunks:
            connection.write(LAST_CHUNK)
        connection.answered()

    def _send(self, head: bytes, chunk: bytes | None) -> asyncio.Future[None]:
        connection = self._connection
        if connection is None:
            return _closed()
        part = chunk if chunk and self._has_body else b""
        if self._left is not None:
            self._left -= len(part)
            if self._left < 0:
                connection.abort()
                raise HTTPOutputError("more bytes than the Content-Length were written")
        if part and self._in_chunks:
            part = b"%x\r\n%b\r\n" % (len(part), part)
        if head or part:
            connection.write(head + part)
        return connection.drained()


def _closed() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(StreamClosedError())
    future.exception()  # nobody need ask
    return future
