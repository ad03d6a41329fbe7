"""Asks a gateway once a second what it counted of one endpoint, while somebody looks, and hands on what changed.

One daemon thread for each dashboard; it sleeps without asking while nobody looks, and ends with the endpoint.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from nbserve.errors import NbserveError
from nbserve.notebook.widgets.rates import between, cpu_use, fingerprint
from nbserve.resolve import Served
from nbserve.tables import log_lines
from nbserve.wire.numbers import Numbers

__all__ = ["Watcher"]

INTERVAL_S = 1.0
IDLE_S = 5.0
"""Between two looks at whether anybody looks; a browser that does wakes the thread."""
RECENT_S = 30.0
"""Stages, batch sizes and errors are those of so many seconds: one sees what is, and it does not jump."""
CPU_WINDOW_S = 5.0
HISTORY = 180
"""Points kept for a browser that comes later."""
LOG_LINES = 300
_LINE_CHARS = 500


class Watcher:
    """`is_wanted`: whether anybody looks; `on_look` is called each time that the gateway was asked, `on_update` with
    what changed, `on_end` with why there is no more.

    `history` (points of the charts) and `log` (lines) are for who comes later.
    """

    def __init__(
        self,
        served: Served,
        *,
        is_wanted: Callable[[], bool],
        on_look: Callable[[], None],
        on_update: Callable[[dict[str, Any], list[str]], None],
        on_end: Callable[[str], None],
    ) -> None:
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._served = served
        self._is_wanted = is_wanted
        self._on_look = on_look
        self._on_update = on_update
        self._on_end = on_end
        self._recent: deque[Numbers] = deque()
        self._seen: tuple[Any, ...] = ()
        self._is_settled = False
        self._since = 0
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"nbserve-watch-{served.name}", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def wake(self) -> None:
        """Somebody may be looking now: ask at once."""
        self._wake.set()

    def close(self) -> None:
        """Ask no more."""
        self._closing = True
        self._wake.set()

    def _run(self) -> None:
        while not self._closing:
            self._wake.clear()
            is_wanted = self._is_wanted()
            if is_wanted:
                try:
                    self._look()
                    self._on_look()
                except NbserveError as exc:
                    if not self._closing:
                        self._on_end(f"{exc.message}. What to do: {exc.hint}" if exc.hint else exc.message)
                    return
            self._wake.wait(INTERVAL_S if is_wanted else IDLE_S)

    def _look(self) -> None:
        client = self._served.client
        numbers = client.numbers(self._served.name, self._served.version, since=self._since)
        self._since = numbers.seq
        lines = [
            line[:_LINE_CHARS]
            for event in numbers.events
            if event.kind in ("log", "error")
            for line in log_lines(event)
        ]
        self.log.extend(lines)
        if self._recent and self._recent[-1].version != numbers.version:
            self._recent.clear()
        before = self._recent[-1] if self._recent else None
        self._recent.append(numbers)
        while numbers.at - self._recent[0].at > RECENT_S:
            self._recent.popleft()
        seen = fingerprint(numbers)
        if seen == self._seen and self._is_settled and not lines:
            return
        # Once more after the last change: then the rates are back at zero.
        self._is_settled, self._seen = seen == self._seen, seen
        self._on_update(self._update(before, numbers), lines)

    def _update(self, before: Numbers | None, numbers: Numbers) -> dict[str, Any]:
        point = between(before or numbers, numbers)
        point = {key: point[key] for key in ("at", "requests_per_s", "errors_per_s", "p50_ms", "p99_ms", "queue")}
        self.history.append(point)
        recent = between(self._recent[0], numbers)
        since_load = not recent["answered"]
        if since_load:
            recent = between(_nothing(numbers), numbers)
        cores_used = self._cores_used(numbers)
        return {
            "version": numbers.version,
            "state": numbers.state,
            "default": numbers.default,
            "point": point,
            "recent": {
                "since_load": since_load,
                "answered": recent["answered"],
                "stages_ms": recent["stages_ms"],
                "batch_sizes": recent["batch_sizes"],
                "statuses": recent["statuses"],
            },
            "requests": numbers.requests,
            "queue_items": numbers.queue_items,
            "queue_bytes": numbers.queue_bytes,
            "workers": [
                {
                    "id": worker.id,
                    "state": worker.state,
                    "pid": worker.pid,
                    "cores": worker.cores,
                    "threads": worker.threads,
                    "device": worker.device,
                    "restarts": worker.restarts,
                    "batches": worker.batches,
                    "cores_used": cores_used.get(worker.id),
                    "own_bytes": worker.uss_bytes,
                    "total_bytes": worker.pss_bytes or worker.rss_bytes,
                    "resident_bytes": worker.rss_bytes,
                    "device_total_bytes": worker.device_total_bytes,
                    "device_free_bytes": worker.device_free_bytes,
                    "device_own_bytes": worker.device_own_bytes,
                    "device_busy": worker.device_busy,
                    "error": f"{worker.error.type}: {worker.error.message}" if worker.error else "",
                }
                for worker in numbers.workers
            ],
            "handler": [msgspec.to_builtins(series) for series in numbers.handler],
        }

    def _cores_used(self, numbers: Numbers) -> dict[int, float]:
        """Of the last CPU_WINDOW_S, or as far back as there is something to compare with."""
        older = [one for one in self._recent if numbers.at - one.at >= CPU_WINDOW_S]
        earlier = older[-1] if older else self._recent[0]
        return cpu_use(earlier.workers, numbers.workers, numbers.at - earlier.at)


def _nothing(numbers: Numbers) -> Numbers:
    """The same version when it had been asked nothing."""
    counts = [0] * len(numbers.latency_counts)
    return msgspec.structs.replace(numbers, requests={}, latency_counts=counts, stages_s={}, batch_sizes={})
