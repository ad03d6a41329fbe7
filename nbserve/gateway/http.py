"""HTTP/1.1 on given sockets: connections with their limits, one `Exchange` for each request, and who answers it.

Parsing is tornado's. What tornado would cut off without a word is answered here: headers too large (431), body too
large (413), too slow (408), malformed (400), each followed by a close without a reset. Everything else keeps the
connection. `Exchange` is a plain tornado message delegate: it needs a `connection` with tornado's HTTPConnection
interface whose `context` has `refuse`, `received` and `abort`, and knows nothing else of the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tornado.concurrent import Future
from tornado.http1connection import HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, UnsatisfiableReadError
from tornado.netutil import add_accept_handler

from nbserve.errors import (
    BadRequest,
    BodyTooLarge,
    Forbidden,
    HeadersTooLarge,
    NbserveError,
    NotFound,
    RequestTimeout,
    Unauthorized,
    Unavailable,
)
from nbserve.gateway.access import Access
from nbserve.gateway.replies import JSON, encode_json, error_json, internal_error

__all__ = ["Exchange", "HttpServer", "Limits", "Site"]

log = logging.getLogger("nbserve.http")

IDLE_TIMEOUT_S = 120.0
"""A connection on which nothing comes is closed after this time."""
LINGER_S = 2.0
LINGER_BYTES = 16 * 1024 * 1024
"""How long, and how much, a refused client may go on sending before the connection is closed under it."""
BARE_400 = b"HTTP/1.1 400 Bad Request\r\n\r\n"
"""What tornado writes for a malformed message."""

_REASONS = {status.value: status.phrase for status in http.HTTPStatus}


class Limits(NamedTuple):
    """Of one request, in bytes and seconds."""

    body_bytes: int
    header_bytes: int
    slow_s: float


class Exchange(HTTPMessageDelegate):
    """One request and its reply. `on_gone` is called if the client goes before the reply."""

    __slots__ = ("_chunks", "_size", "connection", "headers", "method", "on_gone", "path", "query", "replied", "site")

    def __init__(self, site: Site, connection: HTTPConnection) -> None:
        self.site = site
        self.connection = connection
        self.method = self.path = self.query = ""
        self.headers = _NO_HEADERS
        self.on_gone: Callable[[], None] | None = None
        self.replied = False
        self._chunks: list[bytes] = []
        self._size = 0

    @property
    def body(self) -> bytes:
        """The whole body."""
        chunks = self._chunks
        if len(chunks) > 1:
            self._chunks = chunks = [b"".join(chunks)]
        return chunks[0] if chunks else b""

    def respond(self, status: int, content_type: str, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send the reply; nothing happens if there was one already, or the client has gone."""
        if self.replied:
            return
        self.replied = True
        fields = HTTPHeaders()
        fields["Content-Type"] = content_type
        fields["Content-Length"] = str(len(body))
        for name, value in headers:
            fields[name] = value
        connection = self.connection
        start = ResponseStartLine("HTTP/1.1", status, _REASONS.get(status, "Unknown"))
        connection.write_headers(start, fields, body if self.method != "HEAD" else None)
        connection.finish()

    def respond_error(self, error: NbserveError, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Reply with an error of the gateway itself."""
        self.site.count_refused(error.status)
        self.respond(error.status, JSON, error_json(error), headers)

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Be told if the client goes before the reply."""
        self.on_gone = on_gone
        self.connection.set_close_callback(self._gone)  # type: ignore[attr-defined]

    def _gone(self) -> None:
        self.replied = True
        if self.on_gone is not None:
            self.on_gone()

    # -- tornado's message delegate ----------------------------------------------------------------------------------

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        """The head is there; refuse at once what must not be read on."""
        assert isinstance(start_line, RequestStartLine)
        self.method = start_line.method
        self.path, _, self.query = start_line.path.partition("?")
        self.headers = headers
        length = headers.get("Content-Length")
        if length is None:
            return
        if "," in length:
            self._refuse(BadRequest("there is more than one Content-Length"))
        elif len(length) > 15 or (length.isdigit() and int(length) > self.site.limits.body_bytes):
            self._refuse(_too_large(self.site.limits))

    def data_received(self, chunk: bytes) -> None:
        """A part of the body."""
        self._size += len(chunk)
        if self._size > self.site.limits.body_bytes:
            self._refuse(_too_large(self.site.limits))
        else:
            self._chunks.append(chunk)

    def finish(self) -> None:
        """The request is whole."""
        if self.replied:
            return
        context: Any = self.connection.context  # type: ignore[attr-defined]
        context.received()
        try:
            self.site.dispatch(self)
        except HTTPInputError as exc:
            self.respond_error(BadRequest(f"malformed request: {exc}"))
        except Exception as exc:
            body = internal_error(exc, development=self.site.development, doing=f"{self.method} {self.path}")
            self.respond(500, JSON, encode_json(body))

    def on_connection_close(self) -> None:
        """The connection ended before the request was whole."""
        self._chunks.clear()

    def _refuse(self, error: NbserveError) -> None:
        if not self.replied:
            self.replied = True
            self._chunks.clear()
            self.site.count_refused(error.status)
            self.connection.context.refuse(error)  # type: ignore[attr-defined]


_NO_HEADERS = HTTPHeaders()


def _too_large(limits: Limits) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limits.body_bytes} bytes")


class Site:
    """What one port serves, and to whom. Requests that pass the checks go to `inference` or to the tornado `app`.

    inference: answers paths under /predictions/; None where this port has none. `inference_open`: without a token.
    open_paths: paths of `app` that need no token. `is_stopping`: asked for each request.
    """

    def __init__(
        self,
        *,
        access: Access,
        limits: Limits,
        inference: Callable[[Exchange], None] | None,
        inference_open: bool,
        app: HTTPServerConnectionDelegate,
        open_paths: frozenset[str],
        count_refused: Callable[[int], None],
        is_stopping: Callable[[], bool],
        development: bool = False,
    ) -> None:
        self.limits = limits
        self.count_refused = count_refused
        self.development = development
        self._access = access
        self._inference = inference
        self._inference_open = inference_open
        self._app = app
        self._open_paths = open_paths
        self._is_stopping = is_stopping

    def dispatch(self, exchange: Exchange) -> None:
        """Check and pass on a whole request."""
        headers = exchange.headers
        refusal = self._refusal(headers)
        if refusal is not None:
            exchange.respond_error(refusal)
        elif exchange.path.startswith("/predictions/") and self._inference is not None:
            if self._inference_open or self._has_token(exchange):
                self._inference(exchange)
        elif exchange.path in self._open_paths or self._has_token(exchange):
            self._pass_to_app(exchange)

    def _refusal(self, headers: HTTPHeaders) -> NbserveError | None:
        host = headers.get("Host", "")
        if not host or "," in host:
            return BadRequest("there must be one Host header")
        if not self._access.knows_host(host):
            return Forbidden(
                "this gateway does not go by the name in the Host header", hint="ask for it as 127.0.0.1 or localhost"
            )
        origin = headers.get("Origin")
        if origin is not None and not self._access.is_same_site(origin, host):
            return Forbidden("pages of other sites may not use this gateway")
        if self._is_stopping():
            return Unavailable("the gateway is shutting down")
        return None

    def _has_token(self, exchange: Exchange) -> bool:
        if self._access.accepts(exchange.headers.get("Authorization", "")):
            return True
        error = Unauthorized("the token is missing or wrong", hint="send the header 'Authorization: Bearer TOKEN'")
        exchange.respond_error(error, [("WWW-Authenticate", "Bearer")])
        return False

    def _pass_to_app(self, exchange: Exchange) -> None:
        if not exchange.path.startswith("/"):
            exchange.respond_error(NotFound("there is no such path"))
            return
        exchange.replied = True  # from here on it is the app's
        target = f"{exchange.path}?{exchange.query}" if exchange.query else exchange.path
        delegate = self._app.start_request(self, exchange.connection)
        try:
            delegate.headers_received(RequestStartLine(exchange.method, target, "HTTP/1.1"), exchange.headers)
            if exchange.body:
                delegate.data_received(exchange.body)
            delegate.finish()
        except HTTPInputError:
            exchange.replied = False
            raise


class HttpServer(HTTPServerConnectionDelegate):
    """Serves one site on bound, listening sockets."""

    def __init__(self, site: Site, sockets: Iterable[socket.socket]) -> None:
        self._site = site
        limits = site.limits
        self._parameters = HTTP1ConnectionParameters(
            max_header_size=limits.header_bytes,
            max_body_size=1 << 62,  # Exchange and Client keep the limits, and answer
        )
        self._max_buffer_bytes = max(limits.body_bytes, limits.header_bytes) + 128 * 1024
        self._clients: dict[HTTP1ServerConnection, _Client] = {}
        self._lingering: set[asyncio.Task[None]] = set()
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._sockets = list(sockets)
        self._stop_accepting = [add_accept_handler(sock, self._accept) for sock in self._sockets]

    def stop(self) -> None:
        """Accept no more connections."""
        for stop in self._stop_accepting:
            stop()
        for sock in self._sockets:
            sock.close()
        self._stop_accepting, self._sockets = [], []

    async def close(self) -> None:
        """Stop, and close all connections, after their last replies have been sent."""
        self.stop()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        for connection in list(self._clients):
            await connection.close()
        for task in list(self._lingering):
            task.cancel()
        await asyncio.gather(*self._lingering, return_exceptions=True)

    def _accept(self, sock: socket.socket, address: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = _Stream(sock, max_buffer_size=self._max_buffer_bytes)
        client = _Client(stream, str(address[0]) if address else "", self._linger)
        stream.client = client
        connection = HTTP1ServerConnection(stream, self._parameters, client)
        self._clients[connection] = client
        connection.start_serving(self)
        if self._sweep_timer is None:
            self._sweep()

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """tornado: a request begins, or the wait for one."""
        exchange = Exchange(self._site, request_conn)
        request_conn.context.waiting(exchange)  # type: ignore[attr-defined]
        return exchange

    def on_close(self, server_conn: object) -> None:
        """tornado: a connection has ended."""
        self._clients.pop(server_conn, None)  # type: ignore[call-overload]

    def _sweep(self) -> None:
        """Look for slow and for idle clients; runs while there are connections."""
        self._sweep_timer = None
        if not self._clients:
            return
        now_s = time.monotonic()
        slow_s = self._site.limits.slow_s
        for client in list(self._clients.values()):
            if client.reading_since_s and now_s - client.reading_since_s > slow_s:
                self._site.count_refused(RequestTimeout.status)
                client.refuse(RequestTimeout(f"the request did not arrive within {slow_s:g} s"))
            elif client.idle_since_s and now_s - client.idle_since_s > IDLE_TIMEOUT_S:
                client.abort()
        interval_s = min(1.0, slow_s / 4)
        self._sweep_timer = asyncio.get_running_loop().call_later(interval_s, self._sweep)

    def _linger(self, sock: socket.socket, reply: bytes) -> None:
        task = asyncio.get_running_loop().create_task(_say_and_close(sock, reply))
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)


class _Client:
    """One connection: how far its request is, and how it is refused. tornado's `context`."""

    protocol = "http"

    def __init__(self, stream: _Stream, remote_ip: str, linger: Callable[[socket.socket, bytes], None]) -> None:
        self.remote_ip = remote_ip
        self.reading_since_s = 0.0  # first bytes of a request that is not whole yet; 0 = none
        self.idle_since_s = 0.0  # 0 = a request is being read or answered
        self._exchange: Exchange | None = None
        self._stream = stream
        self._linger = linger

    def __str__(self) -> str:
        return self.remote_ip

    def waiting(self, exchange: Exchange) -> None:
        """The next request may come."""
        self._exchange = exchange
        self.idle_since_s = time.monotonic()

    def reading(self) -> None:
        """Bytes have come; those of a pipelined request, while another is answered, do not count."""
        if self.idle_since_s and not self.reading_since_s:
            self.reading_since_s, self.idle_since_s = time.monotonic(), 0.0

    def received(self) -> None:
        """The request is whole."""
        self.reading_since_s = self.idle_since_s = 0.0

    def refuse_unreadable(self) -> None:
        """tornado gave up on a part that does not end within its limit: the headers, or the head of a chunk."""
        if self._exchange is not None and self._exchange.method:
            self.refuse(BadRequest("the request is malformed"))
        else:
            self.refuse(HeadersTooLarge("the request's headers are too large"))

    def refuse(self, error: NbserveError) -> None:
        """Answer with an error on a connection that cannot go on, and close it."""
        if self._stream.closed():
            return
        body = error_json(error)
        head = (
            f"HTTP/1.1 {error.status} {_REASONS[error.status]}\r\nContent-Type: {JSON}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        twin = self._stream.socket.dup()
        twin.setblocking(False)
        self._stream.close()
        self._linger(twin, head.encode() + body)

    def abort(self) -> None:
        """Close at once."""
        self._stream.close()


class _Stream(IOStream):
    """tornado's stream, telling when bytes come and when tornado would close or answer without a word."""

    client: _Client

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Called by tornado to read from the socket."""
        count = super().read_from_fd(buf)
        if count:
            self.client.reading()
        return count

    def write(self, data: bytes | memoryview) -> Future[None]:
        """Called by tornado to write; the bare status line for a malformed message becomes a whole reply."""
        if data == BARE_400:
            self.client.refuse(BadRequest("the request is malformed"))
            done: Future[None] = Future()
            done.set_result(None)
            return done
        return super().write(data)

    def close(self, exc_info: Any = False) -> None:
        """Called by tornado to close, also where the headers do not end within their limit."""
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed():
            self.client.refuse_unreadable()
        else:
            super().close(exc_info)


async def _say_and_close(sock: socket.socket, reply: bytes) -> None:
    """Send, then read on for a while: closing with unread bytes would reset the connection, and the reply be lost."""
    loop = asyncio.get_running_loop()
    left = LINGER_BYTES
    try:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await loop.sock_sendall(sock, reply)
                sock.shutdown(socket.SHUT_WR)
                while left > 0 and (data := await loop.sock_recv(sock, 65536)):
                    left -= len(data)
    finally:
        sock.close()
