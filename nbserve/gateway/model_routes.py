"""The management API's routes for models: register, look at, scale, roll back, unregister. For gateway/management.

Paths and reply shapes follow TorchServe's where that is cheap; what is done is gateway/registry's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from nbserve.errors import BadRequest
from nbserve.gateway.inference import check_name
from nbserve.gateway.web import ManagementHandler
from nbserve.wire.management import RegisterRequest

__all__ = ["ROUTES"]

log = logging.getLogger("nbserve.gateway")

_TORCHSERVE_OPTIONS = {
    "initial_workers": "workers",
    "batch_size": "max_batch_size",
    "max_batch_delay": "max_batch_delay_ms",
    "response_timeout": "response_timeout_s",
    "startup_timeout": "startup_timeout_s",
}
"""Query parameters of its POST /models -> ours; the units are the same."""


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


_tasks: set[asyncio.Task[Any]] = set()


def _keep(task: asyncio.Task[Any]) -> None:
    """Hold a task that nobody awaits; its failure goes to the log (and, for a load, to the event stream)."""
    _tasks.add(task)
    task.add_done_callback(_done)


def _done(task: asyncio.Task[Any]) -> None:
    _tasks.discard(task)
    if not task.cancelled() and (exc := task.exception()) is not None:
        log.error("scaling failed: %s", exc)


ROUTES = [
    ("/models", ModelsHandler),
    (r"/models/([^/]+)", ModelHandler),
    (r"/models/([^/]+)/rollback", RollbackHandler),
    (r"/models/([^/]+)/([^/]+)/set-default", DefaultHandler),
    (r"/models/([^/]+)/([^/]+)", ModelHandler),  # any word there is a version: after all others
]
