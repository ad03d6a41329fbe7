"""GET /models/M/numbers: what is counted of one version, for dashboards that ask once a second.

Called by gateway/management. Cheap: counters and CPU time as they are; what the workers hold of memory is up to
USAGE_MAX_AGE_S old.
"""

from __future__ import annotations

import time

from nbserve.gateway.inference import check_name
from nbserve.gateway.metrics import Series, VersionStats
from nbserve.gateway.pool.memory import cpu_seconds
from nbserve.gateway.version import ModelVersion
from nbserve.gateway.web import ManagementHandler
from nbserve.wire.numbers import MAX_EVENTS, HandlerSeries, Numbers

__all__ = ["ROUTES", "numbers"]

USAGE_MAX_AGE_S = 10.0
"""Summing up the pages of a worker takes 10 ms for 600 MB (pool/memory.py), finding what it wrote over twice that."""
MAX_SERIES = 100
"""A dashboard shows no more of a handler's own metrics; /metrics has them all."""


class NumbersHandler(ManagementHandler):
    """GET /models/M/numbers?version=V&since=SEQ: Numbers of the default version, or of V, and events after SEQ."""

    async def get(self, name: str) -> None:
        """200; 404 where it is not served."""
        registry = self.registry
        entry = registry.find(check_name(name), self.get_query_argument("version", ""))
        usages = await entry.measure(max_age_s=USAGE_MAX_AGE_S)
        workers = [worker.status(usages.get(worker.id)) for worker in entry.pool.workers] if entry.pool else []
        found = numbers(entry, default=registry.is_default(entry))
        for worker in workers:
            worker.cpu_s = cpu_seconds(worker.pid) if worker.pid else None
        found.workers = workers
        bus = self.services.bus
        found.seq, found.events = bus.seq, bus.of_model(name, self.number("since", 0) or 0, MAX_EVENTS)
        self.reply(found)


def numbers(entry: ModelVersion, *, default: bool) -> Numbers:
    """Its counters now, without its workers."""
    stats: VersionStats = entry.stats
    return Numbers(
        name=entry.name,
        version=entry.version,
        state=entry.state,
        default=default,
        at=time.time(),
        requests={str(status): count for status, count in stats.requests.items()},
        latency_bounds_s=list(stats.latency.bounds),
        latency_counts=list(stats.latency.counts),
        stages_s={stage: histogram.total for stage, histogram in stats.stages.items()},
        batch_sizes={str(size): count for size, count in sorted(stats.batch_sizes.items())},
        queue_items=entry.batcher.queue_items,
        queue_bytes=entry.batcher.queue_bytes,
        workers=[],
        handler=[_series(one) for one, _ in zip(stats.handler, range(MAX_SERIES), strict=False)],
    )


def _series(series: Series) -> HandlerSeries:
    histogram = series.histogram
    return HandlerSeries(
        name=series.name,
        kind=series.kind,
        help=series.help,
        labels=dict(series.labels),
        value=histogram.total if histogram is not None else series.value,
        count=histogram.count if histogram is not None else 0,
    )


ROUTES = [(r"/models/([^/]+)/numbers", NumbersHandler)]
