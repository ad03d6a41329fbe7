"""The management API, /metrics and /ping: which routes a port has, and those of the gateway itself.

tornado RequestHandlers; paths and reply shapes follow TorchServe's where that is cheap (docs/architecture.md), bodies
are those of wire/management. Called by gateway/http for every path that is not a prediction, token and host already
checked.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn, cast

from tornado.web import Application, RequestHandler

from nbserve.errors import NotFound, Unavailable
from nbserve.gateway.debugging import ROUTES as DEBUGGING_ROUTES
from nbserve.gateway.event_routes import ROUTES as EVENT_ROUTES
from nbserve.gateway.model_routes import ROUTES as MODEL_ROUTES
from nbserve.gateway.numbers import ROUTES as NUMBERS_ROUTES
from nbserve.gateway.profile_routes import ROUTES as PROFILE_ROUTES
from nbserve.gateway.record_routes import ROUTES as RECORD_ROUTES
from nbserve.gateway.web import BaseHandler, ManagementHandler, Services

__all__ = ["make_app"]


def make_app(services: Services, *, inference: bool, management: bool, metrics: bool) -> Application:
    """The routes of one port."""
    routes: list[tuple[str, type[RequestHandler]]] = [("/ping", PingHandler)]
    if management:
        routes += [("/status", StatusHandler), ("/shutdown", ShutdownHandler), *EVENT_ROUTES]
        routes += [*RECORD_ROUTES, *NUMBERS_ROUTES, *PROFILE_ROUTES, *DEBUGGING_ROUTES, *MODEL_ROUTES]
    if metrics:
        routes.append(("/metrics", MetricsHandler))
    settings: dict[str, Any] = {"services": services, "log_function": _log_nothing}
    return Application(cast(Any, routes), default_handler_class=UnknownPathHandler, **settings)


def _log_nothing(handler: RequestHandler) -> None:
    """Requests are counted, not logged."""


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
