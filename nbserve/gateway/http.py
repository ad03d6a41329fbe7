"""What one port serves, and to whom; and the server that accepts its connections.

A connection (gateway/connection, gateway/tornado_connection) makes an `Exchange` of each request. `Site` judges it as
soon as its head is read, and has it answered when it is whole: by inference, or by the tornado app that is the rest.
Created by gateway/gateway, one for each port.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tornado.httputil import HTTPInputError, HTTPServerConnectionDelegate

from nbserve.config import HttpConnectionName
from nbserve.errors import BadRequest, NbserveError, NotFound, Unauthorized, Unavailable
from nbserve.gateway.access import Access
from nbserve.gateway.exchange import Exchange, Head, Limits
from nbserve.gateway.replies import JSON, encode_json, internal_error
from nbserve.gateway.tornado_connection import TornadoListener

if TYPE_CHECKING:
    from nbserve.gateway.connection import HttptoolsListener

__all__ = ["HttpServer", "Site"]

SWEEPS_S = 1.0
"""At most so long between two looks at slow and idle clients."""


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
        self.access = access
        self.limits = limits
        self.count_refused = count_refused
        self.is_stopping = is_stopping
        self._development = development
        self._inference = inference
        self._inference_open = inference_open
        self._app = app
        self._open_paths = open_paths

    def judge(self, head: Head) -> None:
        """Note in a head that was read who asks, and whether they may; a target in absolute form is made a path."""
        head.visitor = visitor = self.access.judge(head.host, head.origin, head.authorization)
        head.refusal = visitor.refusal
        if head.refusal is None and not head.path.startswith("/"):
            head.refusal = _to_origin_form(head)
        if head.refusal is None and not (visitor.has_token or self._is_open(head.path)):
            head.refusal = Unauthorized(
                "the token is missing or wrong", hint="send the header 'Authorization: Bearer TOKEN'"
            )

    def refusal(self, head: Head) -> NbserveError | None:
        """Why a request with this head, which was judged, is not answered now."""
        if head.refusal is None and self.is_stopping():
            return Unavailable("the gateway is shutting down")
        return head.refusal

    def answer(self, exchange: Exchange) -> None:
        """Have a whole request answered."""
        try:
            if exchange.refusal is not None:
                _refuse(exchange, exchange.refusal)
            elif self._inference is not None and exchange.head.path.startswith("/predictions/"):
                self._inference(exchange)
            else:
                self._pass_to_app(exchange)
        except HTTPInputError as exc:
            exchange.respond_error(BadRequest(f"malformed request: {exc}"))
        except Exception as exc:
            doing = f"{exchange.head.method} {exchange.head.path}"
            body = internal_error(exc, development=self._development, doing=doing)
            exchange.respond(500, JSON, encode_json(body))

    def _is_open(self, path: str) -> bool:
        if self._inference is not None and path.startswith("/predictions/"):
            return self._inference_open
        return path in self._open_paths

    def _pass_to_app(self, exchange: Exchange) -> None:
        path, query = exchange.head.path, exchange.head.query
        if not path.startswith("/"):
            exchange.respond_error(NotFound("there is no such path"))
            return
        exchange.pass_to(self._app, f"{path}?{query}" if query else path)


def _refuse(exchange: Exchange, error: NbserveError) -> None:
    exchange.respond_error(error, "WWW-Authenticate: Bearer\r\n" if isinstance(error, Unauthorized) else "")


def _to_origin_form(head: Head) -> NbserveError | None:
    """http://HOST/PATH, as proxies are asked, becomes /PATH; HOST must be that of the header (RFC 9112, 3.2.2)."""
    scheme, separator, rest = head.path.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return None  # "*" and the like: no path that there is
    authority, slash, path = rest.partition("/")
    if authority.lower() != head.host.lower():
        return BadRequest("the request's target names another host than its Host header")
    head.path = f"{slash}{path}" if slash else "/"
    return None


class HttpServer:
    """Serves one site on bound, listening sockets, until closed.

    connections: who reads them; auto = httptools where it is installed, else tornado.
    """

    def __init__(
        self,
        site: Site,
        sockets: Iterable[socket.socket],
        connections: HttpConnectionName = "auto",
    ) -> None:
        tornado = TornadoListener(site)
        listener: TornadoListener | HttptoolsListener = tornado
        self._listeners = [listener]
        if connections == "httptools" or (connections == "auto" and importlib.util.find_spec("httptools") is not None):
            from nbserve.gateway.connection import HttptoolsListener

            listener = HttptoolsListener(site, tornado.adopt)
            self._listeners.append(listener)
        for sock in sockets:
            listener.listen(sock)
        self._interval_s = min(SWEEPS_S, site.limits.slow_s / 4)
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._sweep)

    def stop(self) -> None:
        """Accept no more connections."""
        for listener in self._listeners:
            listener.stop()

    async def close(self) -> None:
        """Stop, and close all connections."""
        self._timer.cancel()
        for listener in reversed(self._listeners):
            await listener.close()

    def _sweep(self) -> None:
        """Look for slow and for idle clients: one timer for all of them."""
        for listener in self._listeners:
            listener.sweep(time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._sweep)
