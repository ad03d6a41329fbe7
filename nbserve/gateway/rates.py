"""What changed since the last look: requests, errors and latency per version, as "rates" events.

Asked by gateway/registry, at the pace of gateway/events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from nbserve.gateway.metrics import Histogram
from nbserve.gateway.version import ModelVersion
from nbserve.wire.management import Event

__all__ = ["RateMeter"]


class _Seen(NamedTuple):
    answered: int = 0
    failed: int = 0
    batches: int = 0
    latency: Histogram = Histogram()


class RateMeter:
    """Remembers of each version what it saw last."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def events(self, entries: Iterable[ModelVersion], seconds: float) -> list[Event]:
        """Of the versions whose numbers changed since the last call, `seconds` ago."""
        return [
            Event(seq=0, at=0.0, kind="rates", model=entry.name, version=entry.version, data=data)
            for entry in entries
            if (data := self._of(entry, seconds)) is not None
        ]

    def forget(self, key: str) -> None:
        """The version is gone."""
        self._seen.pop(key, None)

    def _of(self, entry: ModelVersion, seconds: float) -> dict[str, Any] | None:
        stats = entry.stats
        failed = sum(count for status, count in stats.requests.items() if status >= 500)
        batches = sum(stats.batch_sizes.values())
        now = _Seen(sum(stats.requests.values()), failed, batches, stats.latency.copy())
        before = self._seen.get(entry.key, _Seen())
        self._seen[entry.key] = now
        if now.answered == before.answered or seconds <= 0:
            return None
        latency = stats.latency.minus(before.latency)
        return {
            "requests_per_s": (now.answered - before.answered) / seconds,
            "errors_per_s": (now.failed - before.failed) / seconds,
            "mean_batch_size": latency.count / (batches - before.batches) if batches > before.batches else 0.0,
            "p50_ms": latency.quantile(0.5) * 1e3,
            "p99_ms": latency.quantile(0.99) * 1e3,
            "queue_items": entry.batcher.queue_items,
        }
