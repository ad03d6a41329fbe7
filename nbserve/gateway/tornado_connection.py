"""Connections read by tornado's own HTTP/1: where httptools is not installed, and for what llhttp does not do.

Created by gateway/http; gateway/connection hands over the sockets of WebSocket upgrades and of methods that llhttp
does not know, with the bytes read so far. What tornado would cut off without a word is answered here: headers too
large (431), body too large (413), too slow (408), malformed (400), each followed by a close without a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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

from nbserve.errors import NbserveError, RequestTimeout
from nbserve.gateway.exchange import (
    IDLE_TIMEOUT_S,
    LINGER_BYTES,
    LINGER_S,
    Exchange,
    Head,
    body_too_large,
    fault_in_framing,
    fault_in_head,
    headers_too_large,
    last_words,
    malformed,
    status_line,
)
from nbserve.wire.frames import Buffer

if TYPE_CHECKING:
    from nbserve.gateway.http import Site

__all__ = ["TornadoListener"]

BARE_400 = b"HTTP/1.1 400 Bad Request\r\n\r\n"
"""What tornado writes for a malformed message."""


class TornadoListener(HTTPServerConnectionDelegate):
    """Accepts connections for one site, and serves them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        limits = site.limits
        self._parameters = HTTP1ConnectionParameters(
            max_header_size=limits.header_bytes,
            max_body_size=1 << 62,  # the exchange keeps the limit, and answers
        )
        self._max_buffer_bytes = max(limits.body_bytes, limits.header_bytes) + 128 * 1024
        self._clients: dict[HTTP1ServerConnection, _Client] = {}
        self._lingering: set[asyncio.Task[None]] = set()
        self._stop_accepting: list[Callable[[], None]] = []

    def listen(self, sock: socket.socket) -> None:
        """Accept connections on a bound, listening socket."""
        self._stop_accepting += [add_accept_handler(sock, self._accept), sock.close]

    def stop(self) -> None:
        """Accept no more connections; those that there are end with their next reply."""
        for stop in self._stop_accepting:
            stop()
        self._stop_accepting = []
        self._parameters.no_keep_alive = True

    async def close(self) -> None:
        """Stop, and close all connections."""
        self.stop()
        for connection in list(self._clients):
            await connection.close()
        for task in list(self._lingering):
            task.cancel()
        await asyncio.gather(*self._lingering, return_exceptions=True)

    def adopt(self, sock: socket.socket, remote_ip: str, data: bytes = b"") -> None:
        """Serve a connection, of which `data` has been read already."""
        stream = _Stream(sock, max_buffer_size=self._max_buffer_bytes)
        client = _Client(stream, remote_ip, self._linger)
        stream.client, stream.read_before = client, data
        connection = HTTP1ServerConnection(stream, self._parameters, client)
        self._clients[connection] = client
        connection.start_serving(self)

    def _accept(self, sock: socket.socket, address: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.adopt(sock, str(address[0]) if address else "")

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """tornado: a request begins, or the wait for one."""
        exchange = _Exchange(self._site, request_conn)
        request_conn.context.waiting(exchange)  # type: ignore[attr-defined]
        return exchange

    def on_close(self, server_conn: object) -> None:
        """tornado: a connection has ended."""
        self._clients.pop(server_conn, None)  # type: ignore[call-overload]

    def sweep(self, now_s: float) -> None:
        """Look for slow and for idle clients."""
        slow_s = self._site.limits.slow_s
        for client in list(self._clients.values()):
            if client.reading_since_s and now_s - client.reading_since_s > slow_s:
                self._site.count_refused(RequestTimeout.status)
                client.refuse(RequestTimeout(f"the request did not arrive within {slow_s:g} s"))
            elif client.is_stalled(now_s, slow_s) or client.is_idle(now_s):
                client.abort()

    def _linger(self, sock: socket.socket, reply: bytes) -> None:
        task = asyncio.get_running_loop().create_task(_say_and_close(sock, reply))
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)


class _Exchange(Exchange, HTTPMessageDelegate):
    """An exchange as tornado's message delegate."""

    def __init__(self, site: Site, connection: HTTPConnection) -> None:
        self.site = site
        self.connection = connection
        self.refusal = None
        self.replied = False
        self._headers: HTTPHeaders
        self._on_gone: Callable[[], None] | None = None
        self._chunks: list[bytes] = []
        self._size = 0

    def respond(self, status: int, content_type: str, body: Buffer, lines: str = "") -> None:
        """Send the reply."""
        if self.replied:
            return
        self.replied = True
        fields = HTTPHeaders.parse(lines)
        fields["Content-Type"] = content_type
        fields["Content-Length"] = str(len(body))
        reason = status_line(status)[13:-2]
        start = ResponseStartLine("HTTP/1.1", status, reason)
        self.connection.write_headers(start, fields, bytes(body) if self.head.method != "HEAD" else None)
        self.connection.finish()

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Be told if the client goes before the reply."""
        self._on_gone = on_gone
        self.connection.set_close_callback(self._gone)  # type: ignore[attr-defined]

    def pass_to(self, app: HTTPServerConnectionDelegate, target: str) -> None:
        """Let a tornado app answer."""
        self.replied = True  # from here on it is the app's
        delegate = app.start_request(self, self.connection)
        try:
            delegate.headers_received(RequestStartLine(self.head.method, target, "HTTP/1.1"), self._headers)
            if self.body:
                delegate.data_received(self.body)
            delegate.finish()
        except HTTPInputError:
            self.replied = False
            raise

    def _gone(self) -> None:
        self.replied = True
        if self._on_gone is not None:
            self._on_gone()

    # -- tornado's message delegate ----------------------------------------------------------------------------------

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        """The head is there; refuse at once what must not be read on."""
        assert isinstance(start_line, RequestStartLine)
        http_10 = start_line.version == "HTTP/1.0"
        self.head = Head(start_line.method, start_line.path, headers.get, http_10=http_10)
        self._headers = headers
        if start_line.version not in ("HTTP/1.0", "HTTP/1.1") or not start_line.path.isascii():
            self._refuse(malformed())
            return
        fault = fault_in_head(len(start_line.path), sum(1 for _ in headers.get_all())) or fault_in_framing(
            headers.get("Content-Length"),
            headers.get("Transfer-Encoding"),
            http_10=http_10,
            body_limit_bytes=self.site.limits.body_bytes,
        )
        if fault is not None:
            self._refuse(fault)
            return
        self.site.judge(self.head)
        self.refusal = self.site.refusal(self.head)

    def data_received(self, chunk: bytes) -> None:
        """A part of the body."""
        self._size += len(chunk)
        if self._size > self.site.limits.body_bytes:
            self._refuse(body_too_large(self.site.limits.body_bytes))
        elif self.refusal is None and not self.replied:
            self._chunks.append(chunk)

    def finish(self) -> None:
        """The request is whole."""
        if self.replied:
            return
        context: Any = self.connection.context  # type: ignore[attr-defined]
        context.received()
        self.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self.site.answer(self)

    def on_connection_close(self) -> None:
        """The connection ended before the request was whole."""
        self._chunks.clear()

    def _refuse(self, error: NbserveError) -> None:
        if not self.replied:
            self.replied = True
            self._chunks.clear()
            self.site.count_refused(error.status)
            self.connection.context.refuse(error)  # type: ignore[attr-defined]


class _Client:
    """One connection: how far its request is, and how it is refused. tornado's `context`."""

    protocol = "http"

    def __init__(self, stream: _Stream, remote_ip: str, linger: Callable[[socket.socket, bytes], None]) -> None:
        self.remote_ip = remote_ip
        self.reading_since_s = 0.0  # first bytes of a request that is not whole yet; 0 = none
        self.wrote_s = 0.0
        self._idle_since_s = 0.0  # 0 = a request is being read or answered
        self._exchange: _Exchange | None = None
        self._stream = stream
        self._linger = linger

    def __str__(self) -> str:
        return self.remote_ip

    def waiting(self, exchange: _Exchange) -> None:
        """The next request may come."""
        self._exchange = exchange
        self._idle_since_s = time.monotonic()

    def reading(self) -> None:
        """Bytes have come; those of a pipelined request, while another is answered, do not count."""
        if self._idle_since_s and not self.reading_since_s:
            self.reading_since_s, self._idle_since_s = time.monotonic(), 0.0

    def received(self) -> None:
        """The request is whole."""
        self.reading_since_s = self._idle_since_s = 0.0

    def is_idle(self, now_s: float) -> bool:
        """Whether nothing has come for too long."""
        return bool(self._idle_since_s) and now_s - self._idle_since_s > IDLE_TIMEOUT_S

    def is_stalled(self, now_s: float, slow_s: float) -> bool:
        """Whether the client has taken nothing of a reply for so long."""
        return self._stream.writing() and now_s - self.wrote_s > slow_s

    def refuse_unreadable(self) -> None:
        """tornado gave up on a part that does not end within its limit: the headers, or the head of a chunk."""
        if self._exchange is not None and hasattr(self._exchange, "head"):
            self.refuse(malformed())
        else:
            self.refuse(headers_too_large())

    def refuse(self, error: NbserveError) -> None:
        """Answer with an error on a connection that cannot go on, and close it."""
        if self._stream.closed():
            return
        twin = self._stream.socket.dup()
        twin.setblocking(False)
        self._stream.close()
        self._linger(twin, last_words(error))

    def abort(self) -> None:
        """Close at once."""
        self._stream.close()


class _Stream(IOStream):
    """tornado's stream, telling when bytes come and go, and when tornado would close or answer without a word."""

    client: _Client
    read_before: bytes
    """Taken from the socket by somebody else, not read by tornado yet."""

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Called by tornado to read from the socket."""
        if self.read_before:
            count: int | None = min(len(buf), len(self.read_before))
            buf[:count] = self.read_before[:count]
            self.read_before = self.read_before[count:]
        else:
            count = super().read_from_fd(buf)
        if count:
            self.client.reading()
        return count

    async def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> bytes:
        """Called by tornado to read a head, which it would let end, and have lines, without a carriage return."""
        head = await super().read_until_regex(regex, max_bytes)
        if head.count(b"\n") != head.count(b"\r\n"):
            raise HTTPInputError("a line feed without a carriage return")
        return head

    def write(self, data: bytes | memoryview) -> Future[None]:
        """Called by tornado to write; the bare status line for a malformed message becomes a whole reply."""
        if data == BARE_400:
            self.client.refuse(malformed())
            done: Future[None] = Future()
            done.set_result(None)
            return done
        self.client.wrote_s = time.monotonic()
        return super().write(data)

    def write_to_fd(self, data: memoryview) -> int:
        """Called by tornado to write to the socket."""
        count = super().write_to_fd(data)
        if count:
            self.client.wrote_s = time.monotonic()
        return count

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
