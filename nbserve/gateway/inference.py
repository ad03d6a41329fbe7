"""POST /predictions/{model}[/{version}]: route, admission, and the answer back to the client.

Called by gateway/http (Site) with a whole `Exchange`; hands a `Request` to the version's batcher, which calls
`answered`. No body is parsed here. The way of an ordinary request is: one lookup of the path, one request object, one
reply.
"""

from __future__ import annotations

import itertools
import logging
import math
import re
import secrets
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote

from nbserve.errors import (
    BadRequest,
    ErrorInfo,
    MethodNotAllowed,
    NotFound,
    RequestError,
    Unavailable,
)
from nbserve.gateway.batcher import Batcher
from nbserve.gateway.events import EventBus
from nbserve.gateway.exchange import Exchange
from nbserve.gateway.recorder import Recorder
from nbserve.gateway.replies import JSON, encode_json, error_body, error_json
from nbserve.gateway.request import Answered, Request
from nbserve.gateway.trace_context import TRACEPARENT, trace_id
from nbserve.wire.management import Event
from nbserve.wire.messages import RequestItem

__all__ = ["NAME", "Inference", "Route", "Routes", "check_name", "request_id_of"]

log = logging.getLogger("nbserve.gateway")

NAME = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,128}")
"""Names of models and versions: safe in URLs, files, metrics and logs."""

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_OWN_ID = secrets.token_hex(4)
_next_id = itertools.count(1)

ERROR_EVENTS_PER_S = 10.0
"""Errors of one gateway that become events; a broken handler under load must not flood the readers."""


class Route(Protocol):
    """One version, as the registry has it."""

    name: str
    version: str
    batcher: Batcher


class Routes(Protocol):
    """Where requests go: gateway/registry."""

    routes: dict[str, Route]
    """Path -> version that serves it."""

    def why_not(self, name: str, version: str) -> RequestError:
        """Why no version serves under this name."""


def check_name(text: str, what: str = "model") -> str:
    """A name from outside, as it is; raises BadRequest."""
    if not NAME.fullmatch(text):
        raise BadRequest(f"a {what}'s name is 1 to 128 letters, digits, '_', '.' and '-', and does not start with '.'")
    return text


def request_id_of(given: str | None) -> str:
    """The client's X-Request-Id if it is sane, else a new one."""
    if given is not None and _SANE_ID.fullmatch(given):
        return given
    return f"{_OWN_ID}-{next(_next_id):x}"


class Inference:
    """Answers the exchanges of inference ports."""

    def __init__(
        self,
        routes: Routes,
        bus: EventBus,
        recorder: Recorder,
        *,
        clock: Callable[[], float],
        development: bool,
        profile: Callable[[Route, str], None] | None = None,
    ) -> None:
        """`profile`: called before a request that is to be profiled is queued; None: that is not to be had."""
        self._routes = routes
        self._recorder = recorder
        self._recording = recorder.running
        self._bus = bus
        self._clock = clock
        self._profile = profile
        self.development = development
        self._error_budget = ERROR_EVENTS_PER_S
        self._budget_at_s = 0.0

    def __call__(self, exchange: Exchange) -> None:
        """Take in one request."""
        head = exchange.head
        route = self._routes.routes.get(head.path)
        if route is None:
            try:
                route = self._find(head.path)
            except RequestError as exc:
                exchange.respond_error(exc, _retry_after(exc.retry_after_s))
                return
        if head.method != "POST":
            wrong = MethodNotAllowed(f"{head.method} is not allowed here; POST is")
            exchange.respond_error(wrong, "Allow: POST\r\n")
            return
        item = RequestItem(head.content_type, request_id_of(head.request_id))
        if head.traceparent is not None and trace_id(head.traceparent):
            item.headers = {TRACEPARENT: head.traceparent}
        if head.profile is not None and self._profile is not None and head.visitor.has_token:
            self._profile(route, item.request_id)
        prediction = Prediction(item, exchange.body, self._clock(), exchange, route, self)
        if self._recording:
            self._recorder.take(route.name, head.path, head.content_type, exchange.body, prediction.arrived_s)
        reject = prediction.batcher.submit(prediction)
        if reject is None:
            exchange.watch(prediction.gone)
            return
        full = Unavailable(f"{route.name}: {reject.reason}")
        lines = f"X-Request-Id: {item.request_id}\r\n{_retry_after(reject.retry_after_s)}"
        exchange.respond(503, JSON, error_json(full), lines)

    def report(self, route: Route, item: RequestItem, answered: Answered, info: ErrorInfo) -> None:
        """Tell the event stream of a handler's failure, at most so many a second."""
        now_s = self._clock()
        elapsed_s = now_s - self._budget_at_s
        self._error_budget = min(ERROR_EVENTS_PER_S, self._error_budget + elapsed_s * ERROR_EVENTS_PER_S)
        self._budget_at_s = now_s
        if self._error_budget < 1:
            return
        self._error_budget -= 1
        self._bus.emit(
            Event(
                seq=0,
                at=0.0,
                kind="error",
                model=route.name,
                version=route.version,
                worker=answered.worker_id,
                batch_id=answered.batch_id,
                request_ids=[item.request_id],
                trace_id=trace_of(item),
                error=info,
            )
        )

    def _find(self, path: str) -> Route:
        """The slow way: escaped paths, and the reasons for not finding. Raises RequestError."""
        parts = path.split("/")[2:]
        if not 1 <= len(parts) <= 2:
            raise NotFound("there is no such path", hint="predictions are at /predictions/MODEL[/VERSION]")
        try:
            names = [unquote(part, errors="strict") for part in parts]
        except UnicodeDecodeError:
            raise BadRequest("the path is not UTF-8") from None
        name = check_name(names[0])
        version = check_name(names[1], "version") if len(names) == 2 else ""
        route = self._routes.routes.get("/predictions/" + "/".join(names))
        if route is None:
            raise self._routes.why_not(name, version)
        return route


class Prediction(Request):
    """A request whose answer goes to an HTTP client."""

    __slots__ = ("batcher", "exchange", "inference", "route")

    def __init__(
        self,
        item: RequestItem,
        body: bytes,
        arrived_s: float,
        exchange: Exchange,
        route: Route,
        inference: Inference,
    ) -> None:
        super().__init__(item, body, arrived_s)
        self.exchange = exchange
        self.route = route
        self.batcher = route.batcher  # that took it: a version that makes room has another one afterwards
        self.inference = inference

    def answered(self, answer: Answered) -> None:
        """The batcher has the answer."""
        request_id = self.item.request_id
        lines = f"X-Request-Id: {request_id}\r\nServer-Timing: {answer.server_timing}\r\n"
        if answer.error is None:
            self.exchange.respond(answer.status, safe_content_type(answer.content_type), answer.body, lines)
            return
        info = answer.error
        if answer.status >= 500 and answer.batch_id is not None:
            self.inference.report(self.route, self.item, answer, info)
        trace = trace_of(self.item)
        who = f"{self.route.name} version {self.route.version}, request {request_id}"
        who += f", trace {trace}" if trace else ""
        body = error_body(info, development=self.inference.development, who=who)
        body.trace_id = trace
        lines += _retry_after(answer.retry_after_s)
        self.exchange.respond(answer.status, JSON, encode_json(body), lines)

    def gone(self) -> None:
        """The client hung up."""
        self.batcher.abandon(self)


def trace_of(item: RequestItem) -> str:
    """The trace that a request belongs to; empty where its client named none."""
    traceparent = item.headers.get(TRACEPARENT)
    return "" if traceparent is None else trace_id(traceparent)


@lru_cache(maxsize=256)
def safe_content_type(given: str) -> str:
    """A handler's content type as a header's value: never empty, never a way to write other headers."""
    if given and given.isascii() and given.isprintable() and len(given) <= 256:
        return given
    return "application/octet-stream"


def _retry_after(seconds: float | None) -> str:
    """A header line, or nothing: whole seconds, at least 1, as HTTP has it."""
    return "" if seconds is None else f"Retry-After: {max(1, math.ceil(seconds))}\r\n"
