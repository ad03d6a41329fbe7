"""The management API's routes for what happened: events as they come, and the last prints. For gateway/management."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from nbserve.gateway.inference import check_name
from nbserve.gateway.web import NDJSON, ManagementHandler

__all__ = ["ROUTES"]

MAX_LOG_LINES = 10_000
STALLED_S = 5.0
"""A reader of /events that takes nothing for so long, once it was cut off, is disconnected."""


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


ROUTES = [(r"/logs/([^/]+)", LogsHandler), ("/events", EventsHandler)]
