"""One request, its head, and the way back to its client: what Site and Inference see of a connection.

Made by the two kinds of connection, gateway/connection (httptools) and gateway/tornado_connection. What both must
judge alike is here too: the limits of a request, and what is wrong with its head.
"""

from __future__ import annotations

import http
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from tornado.httputil import HTTPServerConnectionDelegate

from nbserve.errors import BadRequest, BodyTooLarge, HeadersTooLarge, NbserveError, TargetTooLong
from nbserve.gateway.access import Visitor
from nbserve.gateway.replies import JSON, error_json
from nbserve.wire.frames import Buffer

if TYPE_CHECKING:
    from nbserve.gateway.http import Site

__all__ = [
    "IDLE_TIMEOUT_S",
    "LINGER_BYTES",
    "LINGER_S",
    "MAX_FIELDS",
    "MAX_TARGET_BYTES",
    "Exchange",
    "Head",
    "Limits",
    "body_too_large",
    "fault_in_framing",
    "fault_in_head",
    "headers_too_large",
    "last_words",
    "malformed",
    "status_line",
    "target_too_long",
]

IDLE_TIMEOUT_S = 120.0
"""A connection on which nothing comes is closed after this time."""
LINGER_S = 2.0
LINGER_BYTES = 16 * 1024 * 1024
"""How long, and how much, a refused client may go on sending before the connection is closed under it."""
MAX_TARGET_BYTES = 8000
"""Of path and query together: what RFC 9110, section 4.1, wants every recipient to support."""
MAX_FIELDS = 100
"""Header fields of one request: Apache's LimitRequestFields."""

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in http.HTTPStatus}


class Limits(NamedTuple):
    """Of one request, in bytes and seconds."""

    body_bytes: int
    header_bytes: int
    slow_s: float


class Head:
    """What the gateway looks at in a request's head. Requests that begin with the same bytes share one: it is not
    changed once `Site.judge` has seen it.

    field: the value of a header field, by its name in lower case; None = it was not sent.
    """

    __slots__ = (
        "authorization",
        "content_type",
        "fields",
        "host",
        "http_10",
        "keeps_alive",
        "length",
        "method",
        "origin",
        "path",
        "profile",
        "query",
        "refusal",
        "request_id",
        "traceparent",
        "visitor",
    )

    visitor: Visitor
    refusal: NbserveError | None
    """Why nobody who asks so is answered."""

    def __init__(
        self,
        method: str,
        target: str,
        field: Callable[[str], str | None],
        *,
        http_10: bool,
        keeps_alive: bool = True,
        length: int | None = None,
        fields: dict[bytes, bytes] | None = None,
    ) -> None:
        """length: of the body; None = it comes in chunks, or somebody else counts. fields: all of them, where the app
        is given them from here."""
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.host, self.origin = field("host") or "", field("origin")
        self.authorization = field("authorization") or ""
        self.content_type = field("content-type") or ""
        self.request_id, self.traceparent = field("x-request-id"), field("traceparent")
        self.profile = field("x-nbserve-profile")
        self.http_10, self.keeps_alive, self.length = http_10, keeps_alive, length
        self.fields = fields or {}


class Exchange:
    """One request, and its one reply."""

    __slots__ = ("body", "head", "refusal", "site")

    site: Site
    head: Head
    refusal: NbserveError | None
    """Found when the head was read: the body of who may not ask is not kept."""
    body: bytes

    def respond(self, status: int, content_type: str, body: Buffer, lines: str = "") -> None:
        """Send the reply; nothing happens if there was one already, or the client has gone.

        lines: further header fields, each with its line end.
        """
        raise NotImplementedError

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Be told if the client goes before the reply."""
        raise NotImplementedError

    def pass_to(self, app: HTTPServerConnectionDelegate, target: str) -> None:
        """Let a tornado app answer, under this target. Raises HTTPInputError where tornado finds a fault."""
        raise NotImplementedError

    def respond_error(self, error: NbserveError, lines: str = "") -> None:
        """Reply with an error of the gateway itself."""
        self.site.count_refused(error.status)
        self.respond(error.status, JSON, error_json(error), lines)


def status_line(status: int) -> str:
    """The first line of a reply, with its line end."""
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n"


def last_words(error: NbserveError) -> bytes:
    """The whole reply on a connection that cannot go on."""
    body = error_json(error)
    head = f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (status_line(error.status) + head).encode() + body


def fault_in_head(target_bytes: int, fields: int) -> NbserveError | None:
    """What is too much in a head that was read whole."""
    if target_bytes > MAX_TARGET_BYTES:
        return target_too_long()
    if fields > MAX_FIELDS:
        return HeadersTooLarge(f"the request has more than {MAX_FIELDS} header fields")
    return None


def fault_in_framing(
    length: str | None, encoding: str | None, *, http_10: bool, body_limit_bytes: int
) -> NbserveError | None:
    """Why the end of the body cannot be known for certain (RFC 9112, section 6), or lies too far off.

    Two recipients that find different ends read different requests: that is how requests are smuggled past a proxy.
    """
    if encoding is not None and (length is not None or http_10 or encoding.lower() != "chunked"):
        return BadRequest("Transfer-Encoding must be 'chunked', in HTTP/1.1 and without Content-Length")
    if length is None:
        return None
    if not (length.isascii() and length.isdigit()):
        return BadRequest("there must be one Content-Length, a number")
    if len(length) > 15 or int(length) > body_limit_bytes:
        return body_too_large(body_limit_bytes)
    return None


def malformed() -> NbserveError:
    """Of a message that is not HTTP/1."""
    return BadRequest("the request is malformed")


def target_too_long() -> NbserveError:
    """Of a first line over its limit."""
    return TargetTooLong(f"the request's target is longer than {MAX_TARGET_BYTES} bytes")


def headers_too_large() -> NbserveError:
    """Of a head over its limit."""
    return HeadersTooLarge("the request's headers are too large")


def body_too_large(limit_bytes: int) -> NbserveError:
    """Of a body over its limit, announced or sent."""
    return BodyTooLarge(f"the body is larger than {limit_bytes} bytes")
