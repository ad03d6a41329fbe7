"""Connections read by httptools: from the bytes of a request straight to the exchange that is answered.

gateway/request_parser finds the requests. One at a time: what a client sends ahead waits unparsed, and is bounded.
WebSockets and other upgrades, and methods that llhttp does not know, are handed over to tornado's connection, with
the bytes of that request. Created by gateway/http through HttptoolsListener. Its tornado face, for the paths of the
app, is gateway/app_reply.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, cast

from tornado.httputil import HTTPInputError, HTTPServerConnectionDelegate
from tornado.iostream import StreamClosedError

from nbserve.errors import NbserveError, RequestTimeout
from nbserve.gateway.app_reply import AppReply
from nbserve.gateway.exchange import (
    IDLE_TIMEOUT_S,
    LINGER_BYTES,
    LINGER_S,
    Exchange,
    Head,
    last_words,
    status_line,
)
from nbserve.gateway.ports import BACKLOG
from nbserve.gateway.request_parser import KnownHeads, NotForUs, RequestParser
from nbserve.wire.frames import Buffer

if TYPE_CHECKING:
    from nbserve.gateway.http import Site

__all__ = ["HttptoolsListener"]

AHEAD_BYTES = 64 * 1024
"""A client that has sent more than this ahead of its replies is read no more until they are written."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# Phases of a connection: a request is read; it is answered; it was refused, and what the client still sends is thrown
# away; it is being closed. Plain numbers: looking up a member of an enum costs 50 ns.
_READ, _ANSWER, _LINGER, _CLOSED = range(4)


class HttptoolsListener:
    """Accepts connections for one site, and holds them. `adopt` serves a socket, of a peer, with bytes read before."""

    def __init__(self, site: Site, adopt: Callable[[socket.socket, str, bytes], None]) -> None:
        self.site = site
        self.adopt = adopt
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.known_heads = KnownHeads()
        self._starting: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._stopped = False
        self._all_closed: asyncio.Future[None] | None = None

    def listen(self, sock: socket.socket) -> None:
        """Accept connections on a bound, listening socket."""
        starting = self.loop.create_task(self._listen(sock))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)

    async def _listen(self, sock: socket.socket) -> None:
        # asyncio listens again, with a backlog of 100 unless told: clients beyond it would wait a second for their SYN
        server = await self.loop.create_server(lambda: Connection(self), sock=sock, backlog=BACKLOG)
        if self._stopped:
            server.close()
        else:
            self._servers.append(server)

    def stop(self) -> None:
        """Accept no more connections; those that there are end with their next reply."""
        self._stopped = True
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def close(self) -> None:
        """Stop, and close all connections."""
        self.stop()
        await asyncio.gather(*self._starting)
        if self.connections:
            self._all_closed = self.loop.create_future()
            for connection in list(self.connections):
                connection.abort()
            await self._all_closed

    def forget(self, connection: Connection) -> None:
        """It has ended."""
        self.connections.discard(connection)
        if not self.connections and self._all_closed is not None and not self._all_closed.done():
            self._all_closed.set_result(None)

    def sweep(self, now_s: float) -> None:
        """Look for slow and for idle clients."""
        for connection in list(self.connections):
            connection.sweep(now_s)


class _Exchange(Exchange):
    """An exchange whose reply is one write."""

    __slots__ = ("connection", "on_gone")

    connection: Connection | None
    """None once it was answered, or the client has gone."""

    def __init__(self, connection: Connection, head: Head) -> None:
        self.connection = connection
        self.head = head
        self.site = site = connection.site
        self.refusal = site.refusal(head)
        self.on_gone: Callable[[], None] | None = None

    def respond(self, status: int, content_type: str, body: Buffer, lines: str = "") -> None:
        """Send the reply."""
        connection = self.connection
        if connection is None:
            return
        self.connection = self.on_gone = None
        request = self.head
        ends = connection.connection_field(http_10=request.http_10)
        head = f"{_head_start(status, content_type)}{len(body)}\r\n{lines}{ends}\r\n".encode("latin-1")
        connection.write(head if request.method == "HEAD" else head + body)
        connection.answered()

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Be told if the client goes before the reply."""
        if self.connection is not None:
            self.on_gone = on_gone

    def pass_to(self, app: HTTPServerConnectionDelegate, target: str) -> None:
        """Let a tornado app answer."""
        connection = self.connection
        assert connection is not None
        head = self.head
        reply = AppReply(connection, head.method, http_10=head.http_10)
        self.connection, self.on_gone = None, reply.gone  # from here on it is the app's
        try:
            reply.ask(app, target, head.fields.items(), bytes(self.body))
        except HTTPInputError:
            self.connection, self.on_gone = connection, None
            raise

    def gone(self) -> None:
        """The client has gone."""
        self.connection = None
        if (on_gone := self.on_gone) is not None:
            self.on_gone = None
            on_gone()


def _fail(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(StreamClosedError())
        future.exception()  # nobody need ask


@lru_cache(maxsize=256)
def _head_start(status: int, content_type: str) -> str:
    return f"{status_line(status)}Content-Type: {content_type}\r\nContent-Length: "


class _BodyReader(asyncio.BufferedProtocol):
    """Takes the place of a connection as the transport's protocol while the rest of a large body is read into the
    memory that it belongs to; for all else `bytes` are cheaper (0.4 us a request)."""

    def __init__(self, connection: Connection, parser: RequestParser) -> None:
        self._connection = connection
        self._parser = parser

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        assert self._parser.room is not None
        return self._parser.room

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        self._connection.body_received(nbytes)

    def pause_writing(self) -> None:
        """The client reads slower than it is answered."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed."""
        self._connection.connection_lost(exc)


class Connection(asyncio.Protocol):
    """One client's connection. tornado's apps see it as their `context`."""

    protocol = "http"

    def __init__(self, listener: HttptoolsListener) -> None:
        self.site = listener.site
        self.remote_ip = ""
        self._listener = listener
        self._transport: asyncio.Transport
        self._phase = _READ
        self._parser = RequestParser(self.site.limits, self._take_head, listener.known_heads)
        self._held = bytearray()  # read, and not parsed yet
        self._reading_paused = self._writing_paused = False
        self._exchange: _Exchange | None = None
        self._keeps_alive = False  # whether another request may follow the one in hand
        self._on_closed: Callable[[], None] | None = None
        self._drained: list[asyncio.Future[None]] = []
        # what the sweep goes by
        self._reading_since_s = 0.0  # first bytes of a request that is not whole yet; 0 = there are none
        self._served = 0
        self._swept, self._swept_s = (0, 0), time.monotonic()  # what the sweep saw last, and since when it is so
        self._linger_until_s, self._linger_bytes = 0.0, 0

    def __str__(self) -> str:
        return self.remote_ip

    # -- asyncio's protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.remote_ip = str(peer[0]) if peer else ""
        self._listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._phase in (_LINGER, _CLOSED):
            self._linger_bytes += len(data)
            if self._linger_bytes > LINGER_BYTES:
                self.abort()
        elif self._phase == _ANSWER or self._held or self._writing_paused:
            self._held += data
            self._parse_held()
        else:
            if not self._reading_since_s:
                whole = self._listener.known_heads.whole(data)
                if whole is not None:  # as nearly always; the parser need not know of it
                    head, body = whole
                    self._have(_Exchange(self, head), body)
                    return
            used = self._parse(data)
            if used < len(data):
                self._held += data[used:]

    def body_received(self, nbytes: int) -> None:
        """So many bytes of the body have come, and lie in its memory."""
        self._parser.received(nbytes)
        if self._parser.is_whole:
            self._transport.set_protocol(self)
            self._have_parsed()

    def pause_writing(self) -> None:
        """The client reads slower than it is answered."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writing_paused = False
        for future in self._drained:
            if not future.done():
                future.set_result(None)
        self._drained.clear()
        self._parse_held()

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed, by whomever; a client that sends no more (end of file) has hung up."""
        self._phase = _CLOSED
        self._listener.forget(self)
        self._held.clear()
        self._parser.close()
        if (exchange := self._exchange) is not None:
            self._exchange = None
            exchange.gone()
        for future in self._drained:
            _fail(future)
        if (on_closed := self._on_closed) is not None:
            self._on_closed = None
            on_closed()

    # -- parsing -----------------------------------------------------------------------------------------------------

    def _parse_held(self) -> None:
        """Parse what was held back, as far as it may be; read on where there is room."""
        if self._held and self._phase == _READ and not self._writing_paused:
            used = self._parse(bytes(self._held))
            del self._held[:used]
        full = len(self._held) > AHEAD_BYTES and (self._phase == _ANSWER or self._writing_paused)
        if full != self._reading_paused and not self._transport.is_closing():
            self._reading_paused = full
            if full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _parse(self, data: bytes) -> int:
        """Take in what may be taken; returns how many bytes that was."""
        at, end, view, parser = 0, len(data), memoryview(data), self._parser
        try:
            while at < end and self._phase == _READ and not self._writing_paused:
                at = parser.feed(data, view, at, end)
                if not parser.is_whole:
                    self._note_unfinished()
                    break
                self._have_parsed()
        except NotForUs as exc:
            self._hand_over(bytes(view[exc.at : end]))
            return end
        except NbserveError as exc:
            self._refuse(exc)
            return end
        return at

    def _note_unfinished(self) -> None:
        if not self._reading_since_s:
            self._reading_since_s = time.monotonic()
        if self._parser.wants_continue:
            self._parser.wants_continue = False
            self._transport.write(CONTINUE)
        if self._parser.room is not None:
            self._transport.set_protocol(_BodyReader(self, self._parser))

    def _take_head(self, head: Head) -> bool:
        """A head has been read: who asks, and may they?"""
        if not hasattr(head, "visitor"):  # else it is known
            self.site.judge(head)
        self._exchange = exchange = _Exchange(self, head)
        return exchange.refusal is None

    def _have_parsed(self) -> None:
        """The parser has all of a request, and is ready for the next."""
        parser, exchange = self._parser, self._exchange
        assert exchange is not None
        body = parser.body
        parser.restart()
        self._reading_since_s = 0.0
        self._have(exchange, body)

    def _have(self, exchange: _Exchange, body: bytes) -> None:
        """A request is whole: have it answered."""
        exchange.body = body
        self._exchange = exchange
        self._keeps_alive = exchange.head.keeps_alive
        self._phase = _ANSWER
        self._served += 1
        self.site.answer(exchange)

    # -- replying, for the exchange and the app ----------------------------------------------------------------------

    def connection_field(self, *, http_10: bool) -> str:
        """The reply's Connection header as a line, or nothing; decides whether the connection ends with the reply."""
        if not self._keeps_alive or self.site.is_stopping():
            self._keeps_alive = False
            return "Connection: close\r\n"
        return "Connection: keep-alive\r\n" if http_10 else ""

    def close_after_reply(self) -> None:
        """No further request on this connection."""
        self._keeps_alive = False

    def write(self, data: bytes) -> None:
        """Send."""
        self._transport.write(data)

    def drained(self) -> asyncio.Future[None]:
        """Done when the client has taken what was written, but for a little; StreamClosedError when it has gone."""
        future: asyncio.Future[None] = self._listener.loop.create_future()
        if self._transport.is_closing():  # who writes without end would not wait, and never hear of it
            _fail(future)
        elif self._writing_paused:
            self._drained.append(future)
        else:
            future.set_result(None)
        return future

    def answered(self) -> None:
        """The reply has been written: on to the next request, or to the end."""
        self._exchange = None
        if not self._keeps_alive:
            self._close()
            return
        self._phase = _READ
        if self._held or self._reading_paused:
            self._listener.loop.call_soon(self._parse_held)

    # -- ending ------------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def sweep(self, now_s: float) -> None:
        """Refuse a slow sender; cut off who does not read, and who does nothing."""
        slow_s = self.site.limits.slow_s
        if self._phase == _LINGER:
            if now_s > self._linger_until_s:
                self.abort()
            return
        if self._reading_since_s:
            if now_s - self._reading_since_s > slow_s:
                self._refuse(RequestTimeout(f"the request did not arrive within {slow_s:g} s"))
            return
        unsent = self._transport.get_write_buffer_size()
        state = self._served, unsent
        if state != self._swept or (self._phase == _ANSWER and not unsent):
            self._swept, self._swept_s = state, now_s
        elif now_s - self._swept_s > (slow_s if unsent else IDLE_TIMEOUT_S):
            self.abort()

    def _close(self) -> None:
        self._phase = _CLOSED
        self._transport.close()

    def _refuse(self, error: NbserveError) -> None:
        """Answer with an error, and end; closing at once, with bytes unread, would reset the connection."""
        self.site.count_refused(error.status)
        self._phase = _LINGER
        self._linger_until_s = time.monotonic() + LINGER_S
        self._reading_since_s = 0.0
        self._exchange = None
        self._parser.close()
        self._transport.set_protocol(self)
        self._transport.write(last_words(error))
        self._transport.write_eof()

    def _hand_over(self, data: bytes) -> None:
        """Let tornado read on, from `data`; replies that are still to be sent go first."""
        sock = socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno()))
        sock.setblocking(False)
        self._on_closed = partial(self._listener.adopt, sock, self.remote_ip, data)
        self._close()
