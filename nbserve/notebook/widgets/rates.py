"""Two counts of a gateway -> what happened between them: rates, percentiles, where the time went. Pure.

Called by `watcher.py` with what GET /models/M/numbers said at two times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbserve.wire.management import WorkerStatus
from nbserve.wire.numbers import Numbers

__all__ = ["between", "cpu_use", "fingerprint", "quantile"]


def between(earlier: Numbers, later: Numbers) -> dict[str, Any]:
    """What happened from one to the other; latencies and stages are None where nothing was answered.

    Keys: at (unix time), seconds, answered, requests_per_s, errors_per_s (statuses from 400 on), p50_ms, p99_ms,
    stages_ms (mean of a request), batch_sizes (size -> batches), statuses (status -> answers), queue (items now).
    """
    seconds = max(later.at - earlier.at, 1e-9)
    statuses = _more(earlier.requests, later.requests)
    counts = [max(0, now - then) for then, now in zip(earlier.latency_counts, later.latency_counts, strict=True)]
    answered = sum(counts)
    stages_ms = {
        stage: max(0.0, total - earlier.stages_s.get(stage, 0.0)) * 1e3 / max(answered, 1)
        for stage, total in later.stages_s.items()
    }
    return {
        "at": later.at,
        "seconds": seconds,
        "answered": answered,
        "requests_per_s": sum(statuses.values()) / seconds,
        "errors_per_s": sum(count for status, count in statuses.items() if int(status) >= 400) / seconds,
        "p50_ms": _ms(quantile(later.latency_bounds_s, counts, 0.5)),
        "p99_ms": _ms(quantile(later.latency_bounds_s, counts, 0.99)),
        "stages_ms": stages_ms if answered else None,
        "batch_sizes": _more(earlier.batch_sizes, later.batch_sizes),
        "statuses": statuses,
        "queue": later.queue_items,
    }


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value under which this share lies, linear within its bucket; None where nothing was counted.

    As Prometheus' histogram_quantile has it; what is beyond the last bound counts as that bound.
    """
    total = sum(counts)
    if not total:
        return None
    rank, seen, lower = share * total, 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and seen + count >= rank:
            return lower + (bound - lower) * (rank - seen) / count
        seen, lower = seen + count, bound
    return bounds[-1]


def cpu_use(earlier: Sequence[WorkerStatus], later: Sequence[WorkerStatus], seconds: float) -> dict[int, float]:
    """Cores that each worker used on average, by worker; of those that are the same process at both times."""
    before = {(worker.id, worker.pid): worker.cpu_s for worker in earlier}
    used = {}
    for worker in later:
        then = before.get((worker.id, worker.pid))
        if then is not None and worker.cpu_s is not None and seconds > 0:
            used[worker.id] = max(0.0, worker.cpu_s - then) / seconds
    return used


def fingerprint(numbers: Numbers) -> tuple[Any, ...]:
    """Equal where nothing happened that a reader should see: memory and CPU time alone are not it."""
    workers = tuple((one.id, one.state, one.pid, one.restarts, tuple(one.cores)) for one in numbers.workers)
    handler = tuple((one.name, tuple(one.labels.items()), one.value, one.count) for one in numbers.handler)
    answered = tuple(sorted(numbers.requests.items()))
    queue = (numbers.queue_items, numbers.queue_bytes)
    return numbers.version, numbers.state, numbers.default, answered, queue, workers, handler, len(numbers.events)


def _more(earlier: Mapping[str, int], later: Mapping[str, int]) -> dict[str, int]:
    """What was added to each count, where something was."""
    added = {key: count - earlier.get(key, 0) for key, count in later.items()}
    return {key: count for key, count in added.items() if count > 0}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
