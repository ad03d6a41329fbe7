"""The management API and /metrics, /ping: tornado RequestHandlers over the registry.

Paths and reply shapes follow TorchServe's where that is cheap (docs/architecture.md); bodies are those of
wire/management. Called by gateway/http for every path that is not a prediction, token and host already checked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, cast

import msgspec
from tornado.web import Application, HTTPError, RequestHandler

from nbserve.errors import BadRequest, Forbidden, LoadError, MethodNotAllowed, NbserveError, NotFound, Unavailable
from nbserve.gateway.events import EventBus
from nbserve.gateway.inference import check_name, request_id_of
from nbserve.gateway.metrics_page import MetricsPage
from nbserve.gateway.profiles import Profiles
from nbserve.gateway.recorder import Recorder, pieces
from nbserve.gateway.registry import Registry
from nbserve.gateway.replies import JSON, encode_json, error_body, internal_error
from nbserve.wire.management import ErrorBody, GatewayStatus, RegisterRequest
from nbserve.wire.recording import RecordRequest

__all__ = ["Services", "make_app"]

log = logging.getLogger("nbserve.gateway")

NDJSON = "application/x-ndjson"
MAX_LOG_LINES = 10_000
STALLED_S = 5.0
"""A reader of /events that takes nothing for so long, once it was cut off, is disconnected."""


_TORCHSERVE_OPTIONS = {
    "initial_workers": "workers",
    "batch_size": "max_batch_size",
    "max_batch_delay": "max_batch_delay_ms",
    "response_timeout": "response_timeout_s",
    "startup_timeout": "startup_timeout_s",
}
"""Query parameters of its POST /models -> ours; the units are the same."""


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


def make_app(services: Services, *, inference: bool, management: bool, metrics: bool) -> Application:
    """The routes of one port."""
    from nbserve.gateway.debugging import FailureHandler, FailuresHandler, HoldHandler  # built on this module
    from nbserve.gateway.numbers import NumbersHandler  # built on this module
    from nbserve.gateway.profile_routes import ROUTES as PROFILE_ROUTES

    routes: list[tuple[str, type[RequestHandler]]] = [("/ping", PingHandler)]
    if management:
        routes += [
            ("/models", ModelsHandler),
            (r"/models/([^/]+)", ModelHandler),
            (r"/models/([^/]+)/rollback", RollbackHandler),
            (r"/models/([^/]+)/record", RecordHandler),
            (r"/models/([^/]+)/numbers", NumbersHandler),
            *PROFILE_ROUTES,
            (r"/models/([^/]+)/failures", FailuresHandler),
            (r"/models/([^/]+)/failures/([^/]+)", FailureHandler),
            (r"/models/([^/]+)/workers/([^/]+)/hold", HoldHandler),
            (r"/models/([^/]+)/([^/]+)", ModelHandler),
            (r"/models/([^/]+)/([^/]+)/set-default", DefaultHandler),
            ("/status", StatusHandler),
            ("/shutdown", ShutdownHandler),
            (r"/logs/([^/]+)", LogsHandler),
            ("/events", EventsHandler),
        ]
    if metrics:
        routes.append(("/metrics", MetricsHandler))
    settings: dict[str, Any] = {"services": services, "log_function": _log_nothing}
    return Application(cast(Any, routes), default_handler_class=UnknownPathHandler, **settings)


def _log_nothing(handler: RequestHandler) -> None:
    """Requests are counted, not logged."""


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


class UnknownPathHandler(BaseHandler):
    """What no route matches."""

    def prepare(self) -> NoReturn:
        """Called by tornado before any method."""
        raise NotFound("there is no such path")


class PingHandler(BaseHandler):
    """GET /ping: that the gateway lives, in a container that a model is ready; needs no token."""

    def get(self) -> None:
        """200, or 503 while the container's model loads."""
        if not self.services.is_ready():
            raise Unavailable("the model is not ready")
        self.reply({"status": "Healthy"})

    head = get


class MetricsHandler(BaseHandler):
    """GET /metrics, Prometheus' text; `name[]` picks samples."""

    async def get(self) -> None:
        """200. Other requests have their turn between the pieces."""
        names = self.get_query_arguments("name[]")
        content_type, pieces = self.services.metrics.render(self.request.headers.get("Accept", ""), names)
        self.set_header("Content-Type", content_type)
        for piece in pieces:
            self.write(piece)
            await asyncio.sleep(0)
        self.finish()


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


class ModelsHandler(ManagementHandler):
    """GET and POST /models."""

    def get(self) -> None:
        """TorchServe's list, sorted by name: `limit` (at most 100), `next_page_token`; ours beside it."""
        limit = min(max(self.number("limit", 100) or 100, 1), 100)
        start = max(self.number("next_page_token", 0) or 0, 0)
        names = self.registry.names()
        models = []
        for name in names[start : start + limit]:
            entry = self.registry.find(name)
            models.append(
                {
                    "modelName": name,
                    "modelUrl": str(entry.bundle.path),
                    "version": entry.version,
                    "versions": [one.version for one in self.registry.versions(name)],
                    "state": entry.state,
                }
            )
        page: dict[str, Any] = {"models": models}
        if start + limit < len(names):
            page = {"nextPageToken": str(start + limit)} | page
        self.reply(page)

    async def post(self) -> None:
        """Register: a RegisterRequest as JSON, or query parameters."""
        asked = self._asked()
        if asked.synchronous:
            self.reply(await self.registry.status(await self.registry.register(asked)))
        else:
            self.reply(await self.registry.status(await self.registry.begin(asked)), 202)

    def _asked(self) -> RegisterRequest:
        try:
            fields = msgspec.json.decode(self.request.body, type=dict[str, Any]) if self.request.body else {}
            for name in ("url", "model_name", "version"):
                if (text := self.get_query_argument(name, None)) is not None:
                    fields[name] = text
            for name, option in _TORCHSERVE_OPTIONS.items():
                if (text := self.get_query_argument(name, None)) is not None:
                    fields.setdefault("config", {})[option] = text
            fields["synchronous"] = self.flag("synchronous", default=fields.get("synchronous", True))
            if not fields.get("url"):
                raise BadRequest("parameter url is required: the absolute path of a bundle folder")
            return msgspec.convert(fields, RegisterRequest, strict=False)
        except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
            raise BadRequest(f"this is no registration: {exc}") from exc


class ModelHandler(ManagementHandler):
    """GET, PUT and DELETE /models/{name}[/{version}]."""

    async def get(self, name: str, version: str = "") -> None:
        """An array of ModelStatus: one version, or all (also as .../all), the default first."""
        check_name(name)
        if version and version != "all":
            entries = [self.registry.find(name, check_name(version, "version"))]
        else:
            entries = self.registry.versions(name)
        self.reply([await self.registry.status(entry) for entry in entries])

    async def put(self, name: str, version: str = "") -> None:
        """Scale: `workers`, or TorchServe's `min_worker` and `max_worker`; 202 at once where `synchronous=false`."""
        check_name(name)
        least = self.number("min_worker", None)
        workers = self.number("workers", least if least is not None else self.number("max_worker", None))
        if workers is None:
            raise BadRequest("say how many: ?workers=N")
        most = self.number("max_worker", None)
        if most is not None and most < workers:
            raise BadRequest("max_worker cannot be less than min_worker")
        if self.flag("synchronous", default=True):
            self.reply(await self.registry.status(await self.registry.scale(name, version, workers)))
            return
        entry = self.registry.find(name, version)
        task = asyncio.get_running_loop().create_task(self.registry.scale(name, version, workers))
        _keep(task)
        self.reply(await self.registry.status(entry), 202)

    async def delete(self, name: str, version: str = "") -> None:
        """Drain and stop; a version that is still loading is aborted."""
        check_name(name)
        if version:
            check_name(version, "version")
        await self.registry.unregister(name, version)
        self.reply({"status": f'Model "{name}" unregistered'})


class DefaultHandler(ManagementHandler):
    """PUT /models/{name}/{version}/set-default."""

    async def put(self, name: str, version: str) -> None:
        """ModelStatus of the new default."""
        check_name(name)
        self.reply(await self.registry.status(self.registry.set_default(name, check_name(version, "version"))))


class RollbackHandler(ManagementHandler):
    """POST /models/M/rollback?version=V: serve a replaced version again, the last one without V."""

    async def post(self, name: str) -> None:
        """Answered when it serves."""
        entry = await self.registry.rollback(check_name(name), self.get_query_argument("version", ""))
        self.reply(await self.registry.status(entry))


class RecordHandler(ManagementHandler):
    """POST, GET and DELETE /models/M/record: begin to record its requests, how far it is, end it and take the file."""

    def post(self, name: str) -> None:
        """RecordingStatus; asked for by a RecordRequest as JSON."""
        self.registry.find(check_name(name))
        try:
            asked = msgspec.json.decode(self.request.body or b"{}", type=RecordRequest)
        except (msgspec.MsgspecError, RecursionError) as exc:
            raise BadRequest(f"this is no request to record: {exc}") from exc
        self.reply(self.services.recorder.start(name, asked))

    def get(self, name: str) -> None:
        """RecordingStatus."""
        self.reply(self.services.recorder.status(check_name(name)))

    async def delete(self, name: str) -> None:
        """The file (wire/recording.py). It is forgotten when all of it was taken."""
        recording = self.services.recorder.stop(check_name(name))
        self.set_header("Content-Type", NDJSON)
        self.set_header("Cache-Control", "no-store")
        async for piece in pieces(recording):
            self.write(piece)
            await self.flush()
        self.services.recorder.drop(recording)


class StatusHandler(ManagementHandler):
    """GET /status."""

    async def get(self) -> None:
        """GatewayStatus."""
        self.reply(await self.services.status())


class ShutdownHandler(ManagementHandler):
    """POST /shutdown."""

    def post(self) -> None:
        """202; the gateway drains its models and ends."""
        self.reply({"status": "shutting down"}, 202)
        self.services.shutdown()


class LogsHandler(ManagementHandler):
    """GET /logs/{name}?lines=N: what the handler printed and what failed, as far back as is remembered."""

    def get(self, name: str) -> None:
        """An array of Event, oldest first."""
        lines = self.number("lines", 100) or 0
        self.registry.find(check_name(name))
        version = self.get_query_argument("version", "")
        self.reply(self.services.bus.logs(name, min(max(lines, 0), MAX_LOG_LINES), version))


class EventsHandler(ManagementHandler):
    """GET /events?since=SEQ: Event as newline-delimited JSON, without end unless `follow=false`."""

    async def get(self) -> None:
        """What is remembered after `since`, then what comes."""
        bus = self.services.bus
        since = self.number("since", 0) or 0
        self.set_header("Content-Type", NDJSON)
        self.set_header("Cache-Control", "no-store")
        if not self.flag("follow", default=True):
            self.finish(bus.since(since))
            return
        subscriber = bus.subscribe(since)
        self._stop_reading = subscriber.end
        try:
            self.flush()  # the headers: the reader knows that it listens
            while data := await subscriber.next():
                self.write(data)
                await self._flush(lambda: subscriber.ended)
        finally:
            bus.unsubscribe(subscriber)

    async def _flush(self, is_cut_off: Callable[[], bool]) -> None:
        """Wait until the reader has taken what was written; not for ever, once it was cut off."""
        taken = asyncio.ensure_future(self.flush())
        while not (await asyncio.wait([taken], timeout=STALLED_S))[0]:
            if is_cut_off():
                cast(Any, self.request.connection).context.abort()
                return
        taken.exception()  # a reader that has gone is no error

    def on_connection_close(self) -> None:
        """Called by tornado when the reader has gone."""
        stop = getattr(self, "_stop_reading", None)
        if stop is not None:
            stop(b"")


_tasks: set[asyncio.Task[Any]] = set()


def _keep(task: asyncio.Task[Any]) -> None:
    """Hold a task that nobody awaits; its failure goes to the log (and, for a load, to the event stream)."""
    _tasks.add(task)
    task.add_done_callback(_done)


def _done(task: asyncio.Task[Any]) -> None:
    _tasks.discard(task)
    if not task.cancelled() and (exc := task.exception()) is not None:
        log.error("scaling failed: %s", exc)
