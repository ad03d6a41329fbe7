"""What the request handlers of the management API share: the gateway's services, JSON replies, errors as ErrorBody.

Their base classes; used by gateway/management and the files of routes beside it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from tornado.web import HTTPError, RequestHandler

from nbserve.errors import BadRequest, Forbidden, LoadError, MethodNotAllowed, NbserveError, NotFound
from nbserve.gateway.events import EventBus
from nbserve.gateway.inference import request_id_of
from nbserve.gateway.metrics_page import MetricsPage
from nbserve.gateway.profiles import Profiles
from nbserve.gateway.recorder import Recorder
from nbserve.gateway.registry import Registry
from nbserve.gateway.replies import JSON, encode_json, error_body, internal_error
from nbserve.wire.management import ErrorBody, GatewayStatus

__all__ = ["NDJSON", "BaseHandler", "ManagementHandler", "Services"]

NDJSON = "application/x-ndjson"


class Services:
    """What the handlers work with.

    `may_manage`: whether an Authorization header that was let in may manage (none may where no token was given).
    `is_ready`: what /ping answers.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        recorder: Recorder,
        profiles: Profiles,
        bus: EventBus,
        metrics: MetricsPage,
        status: Callable[[], Awaitable[GatewayStatus]],
        shutdown: Callable[[], None],
        development: bool,
        may_manage: Callable[[str], bool],
        is_ready: Callable[[], bool],
    ) -> None:
        self.registry = registry
        self.recorder = recorder
        self.profiles = profiles
        self.bus = bus
        self.metrics = metrics
        self.status = status
        self.shutdown = shutdown
        self.development = development
        self.may_manage = may_manage
        self.is_ready = is_ready


class BaseHandler(RequestHandler):
    """Errors as ErrorBody, JSON by msgspec."""

    @property
    def services(self) -> Services:
        """The gateway's."""
        return cast(Services, self.settings["services"])

    def set_default_headers(self) -> None:
        """Called by tornado: no server name, and an id on every reply."""
        self.clear_header("Server")
        self.set_header("X-Request-Id", request_id_of(self.request.headers.get("X-Request-Id")))

    def compute_etag(self) -> None:
        """No ETags: these are states, not documents."""

    def reply(self, value: Any, status: int = 200) -> None:
        """Send a value as JSON."""
        self.set_status(status)
        self.set_header("Content-Type", JSON)
        self.finish(encode_json(value))

    def flag(self, name: str, *, default: bool) -> bool:
        """A query parameter that is true or false. Raises BadRequest."""
        text = self.get_query_argument(name, None)
        if text is None:
            return default
        if text.lower() not in ("true", "false", "1", "0"):
            raise BadRequest(f"{name} must be true or false, not {text[:100]!r}")
        return text.lower() in ("true", "1")

    def number(self, name: str, default: int | None) -> int | None:
        """A query parameter that is a whole number. Raises BadRequest."""
        text = self.get_query_argument(name, None)
        if text is None:
            return default
        try:
            return int(text[:20])
        except ValueError:
            raise BadRequest(f"{name} must be a whole number, not {text[:100]!r}") from None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Called by tornado for whatever a handler raised."""
        exc = kwargs.get("exc_info", (None, None, None))[1]
        body = self._body_for(status_code, exc)
        self.set_status(body.code)
        if body.code == 405:
            self.set_header("Allow", ", ".join(self._allowed()))
        self.set_header("Content-Type", JSON)
        self.services.metrics.count_refused(body.code)
        self.finish(encode_json(body))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Called by tornado: what is unexpected is logged with its error id by `write_error`."""

    def _body_for(self, status_code: int, exc: BaseException | None) -> ErrorBody:
        if isinstance(exc, LoadError):
            return _load_error(exc)
        if isinstance(exc, NbserveError):
            # whoever may manage models may see why one does not load, in every profile
            return error_body(exc.to_info(), development=True)
        if isinstance(exc, HTTPError):
            return _http_error(exc, self.request.method or "")
        assert exc is not None
        doing = f"{self.request.method} {self.request.path}"
        return internal_error(exc, development=self.services.development, doing=doing)

    def _allowed(self) -> list[str]:
        return [
            method
            for method in self.SUPPORTED_METHODS
            if getattr(type(self), method.lower()) is not getattr(RequestHandler, method.lower())
        ]


def _load_error(exc: LoadError) -> ErrorBody:
    """A load that failed: always of type LoadError, with the handler's own type in the message."""
    info = exc.to_info()
    body = error_body(info, development=True)
    if info.type != "LoadError":
        body.type, body.message = "LoadError", f"{info.type}: {info.message}"
    return body


def _http_error(exc: HTTPError, method: str) -> ErrorBody:
    if exc.status_code == 405:
        error: NbserveError = MethodNotAllowed(f"{method} is not allowed here")
    elif exc.status_code == 404:
        error = NotFound("there is no such path")
    else:  # tornado's own: arguments and paths that cannot be decoded
        error = BadRequest("the request's path or arguments cannot be read")
    return error_body(error.to_info(), development=True)


class ManagementHandler(BaseHandler):
    """Base of the verbs."""

    @property
    def registry(self) -> Registry:
        """The models."""
        return self.services.registry

    def prepare(self) -> None:
        """Called by tornado before any method."""
        if not self.services.may_manage(self.request.headers.get("Authorization", "")):
            raise Forbidden("management is off: the gateway was started without a token")
