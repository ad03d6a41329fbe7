"""Routes for looking inside: the failed requests of a model, and workers held aside for a console or a debugger.

Called by gateway/management, whose token and rights they share. Failures hold what clients sent: whoever may manage
models may read them, nobody else.
"""

from __future__ import annotations

import asyncio
import math

from nbserve.errors import BadRequest, NotFound
from nbserve.gateway.failures import detail
from nbserve.gateway.inference import check_name
from nbserve.gateway.pool.supervisor import Worker
from nbserve.gateway.version import ModelVersion
from nbserve.gateway.web import ManagementHandler
from nbserve.wire.failure import HeldWorker

__all__ = ["ROUTES"]

HOLD_S = 600.0
"""A worker that nobody gives back serves again after so long."""
MAX_HOLD_S = 86_400.0


class FailuresHandler(ManagementHandler):
    """GET and DELETE /models/M/failures."""

    def get(self, name: str) -> None:
        """An array of Failure, the last one first; ?version=V: of that one only."""
        version = self.get_query_argument("version", "")
        self.registry.find(check_name(name))
        kept = [one.failure for one in self.registry.failures.ring(name).kept]
        self.set_header("Cache-Control", "no-store")
        self.reply([each for each in reversed(kept) if version in ("", each.version)])

    def delete(self, name: str) -> None:
        """Forget them; {"forgotten": N}."""
        self.registry.find(check_name(name))
        self.reply({"forgotten": self.registry.failures.forget(name)})


class FailureHandler(ManagementHandler):
    """GET /models/M/failures/ID."""

    async def get(self, name: str, word: str) -> None:
        """FailureDetail, bodies redacted. ID: a failure's, a request's, or `last`; 404 where it is not kept (any more).

        A thread does it: a body of several MB takes tens of milliseconds to redact.
        """
        self.registry.find(check_name(name))
        ring = self.registry.failures.ring(name)
        one = ring.find(word)
        batch = ring.batch_of(one)
        self.set_header("Cache-Control", "no-store")
        self.reply(await asyncio.to_thread(detail, one, batch))


class HoldHandler(ManagementHandler):
    """PUT and DELETE /models/M/workers/N/hold?version=V."""

    def put(self, name: str, number: str) -> None:
        """HeldWorker: it gets no requests, with `serves=true` requests without a time limit, for `seconds`."""
        seconds = self._seconds()
        entry, worker = self._find(name, number)
        worker.take_hold(seconds, serves=self.flag("serves", default=False))
        self.reply(_held(entry, worker, asyncio.get_running_loop().time()))

    def delete(self, name: str, number: str) -> None:
        """HeldWorker: it serves again. The same where it was not held."""
        entry, worker = self._find(name, number)
        worker.release()
        self.reply(_held(entry, worker, asyncio.get_running_loop().time()))

    def _find(self, name: str, number: str) -> tuple[ModelVersion, Worker]:
        entry = self.registry.find(check_name(name), self.get_query_argument("version", ""))
        workers = entry.pool.workers if entry.pool is not None else []
        worker = next((one for one in workers if str(one.id) == number), None)
        if worker is None:
            there = ", ".join(str(one.id) for one in workers) or "none"
            raise NotFound(f"{entry.name} version {entry.version} has no worker {number[:20]}; it has {there}")
        return entry, worker

    def _seconds(self) -> float:
        text = self.get_query_argument("seconds", str(HOLD_S))
        try:
            seconds = float(text[:20])
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= MAX_HOLD_S:
            raise BadRequest(f"seconds must be above 0 and at most {MAX_HOLD_S:g}, not {text[:100]!r}")
        return seconds


def _held(entry: ModelVersion, worker: Worker, now_s: float) -> HeldWorker:
    others = entry.pool.workers if entry.pool is not None else []
    hold = worker.hold
    status = worker.status()
    return HeldWorker(
        model=entry.name,
        version=entry.version,
        worker=worker.id,
        connection_file=status.connection_file,
        pid=worker.pid,
        state=worker.state,
        held=hold is not None,
        serves=hold is None or hold.serves,
        seconds=max(0.0, hold.ends_s - now_s) if hold is not None else 0.0,
        others=sum(one is not worker and one.state in ("READY", "BUSY") for one in others),
    )


ROUTES = [
    (r"/models/([^/]+)/failures", FailuresHandler),
    (r"/models/([^/]+)/failures/([^/]+)", FailureHandler),
    (r"/models/([^/]+)/workers/([^/]+)/hold", HoldHandler),
]
