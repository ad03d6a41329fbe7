"""What is counted: plain numbers, added up on the way of a request.

`VersionStats`, one per model version, is fed by gateway/batcher; gateway/metrics_page shows it to who scrapes. A
handler's own metrics arrive as deltas with each answer and are added up over the workers here.
"""

from __future__ import annotations

import logging
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from nbserve.wire.messages import MetricDelta, Timings

__all__ = ["BOUNDS_S", "STAGES", "HandlerMetrics", "Histogram", "Series", "VersionStats"]

log = logging.getLogger("nbserve.metrics")

BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
HANDLER_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGES = ("queue", "batch", "decode", "preprocess", "inference", "postprocess", "encode", "transport")
NOTED = 64
"""Answers, or batches, whose times are noted before they are added up: it takes some 50 us."""
MAX_SERIES = 1000
"""Label combinations kept for one version's own metrics: a request id as a label must not fill memory."""

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_Labels = tuple[tuple[str, str], ...]


class Histogram:
    """Counts under bounds, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = BOUNDS_S) -> None:
        self.bounds = tuple(map(float, bounds))
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """One value, or several equal ones."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def add_all(self, values: list[float]) -> None:
        """Many values: to sort them and cut at the bounds costs a fifth of adding each. Leaves them sorted."""
        values.sort()
        begin = 0
        for place, bound in enumerate(self.bounds):
            end = bisect_right(values, bound, begin)
            self.counts[place] += end - begin
            begin = end
        self.counts[-1] += len(values) - begin
        self.total += sum(values)

    def add_times(self, values: Iterable[float], times: Iterable[int]) -> None:
        """Many values, each so many times; without a call for each."""
        bounds, counts = self.bounds, self.counts
        for value, count in zip(values, times, strict=True):
            counts[bisect_left(bounds, value)] += count
            self.total += value * count

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """The bound under which this share of values lies; 0 where there are none."""
        rank, seen = share * self.count, 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if count and seen >= rank:
                return bound
        return self.bounds[-1] if self.count else 0.0

    def minus(self, earlier: Histogram) -> Histogram:
        """What came after `earlier`, a copy of this one."""
        late = Histogram(self.bounds)
        late.counts = [now - then for now, then in zip(self.counts, earlier.counts, strict=True)]
        late.total = self.total - earlier.total
        return late

    def copy(self) -> Histogram:
        """As it is now."""
        twin = Histogram(self.bounds)
        twin.counts, twin.total = list(self.counts), self.total
        return twin

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus has them."""
        seen, rows = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            rows.append(("+Inf" if bound == float("inf") else repr(bound), float(seen)))
        return rows


class VersionStats:
    """Numbers of one model version. Times are only noted on a request's way, and added up by who wants to see them."""

    def __init__(self) -> None:
        self.requests: dict[int, int] = {}
        self.batch_sizes: dict[int, int] = {}
        self.isolation_s = 0.0
        self.handler = HandlerMetrics()
        self._latency = Histogram()
        self._stages = {stage: Histogram() for stage in STAGES}
        self._answers: list[tuple[float, float, float]] = []  # queue, batch, latency
        self._batches: list[tuple[int, Timings, float]] = []

    def count_request(self, status: int) -> None:
        """One answer; 499 where the client had gone."""
        self.requests[status] = self.requests.get(status, 0) + 1

    def time_answer(self, queue_s: float, batch_s: float, latency_s: float) -> None:
        """One answer of a worker: it waited for others, then for its batch, and was there after so long."""
        self._answers.append((queue_s, batch_s, latency_s))
        if len(self._answers) >= NOTED:
            self._add_up()

    def count_batch(self, size: int, timings: Timings, transport_s: float) -> None:
        """One batch: each of its requests spent these times in it."""
        self.batch_sizes[size] = self.batch_sizes.get(size, 0) + 1
        self._batches.append((size, timings, transport_s))
        if len(self._batches) >= NOTED:
            self._add_up()

    @property
    def latency(self) -> Histogram:
        """Of answers of workers, from arrival."""
        self._add_up()
        return self._latency

    @property
    def stages(self) -> dict[str, Histogram]:
        """What requests spent in each stage."""
        self._add_up()
        return self._stages

    def _add_up(self) -> None:
        stages = self._stages
        if self._answers:
            queue_s, batch_s, latency_s = map(list, zip(*self._answers, strict=True))
            stages["queue"].add_all(queue_s)
            stages["batch"].add_all(batch_s)
            self._latency.add_all(latency_s)
            self._answers.clear()
        if self._batches:
            sizes, timings, transport_s = zip(*self._batches, strict=True)
            for stage in ("decode", "preprocess", "inference", "postprocess", "encode"):
                stages[stage].add_times(map(attrgetter(f"{stage}_s"), timings), sizes)
            stages["transport"].add_times(transport_s, sizes)
            self._batches.clear()

    def by_class(self) -> dict[str, int]:
        """Answers by status class: {"2xx": 7}."""
        classes: dict[str, int] = {}
        for status, count in self.requests.items():
            key = f"{status // 100}xx"
            classes[key] = classes.get(key, 0) + count
        return classes


class Series:
    """One metric of a handler under one combination of labels."""

    __slots__ = ("help", "histogram", "kind", "labels", "name", "value")

    def __init__(self, delta: MetricDelta, labels: _Labels) -> None:
        self.kind, self.name, self.help = delta.kind, delta.name, delta.help
        self.labels = labels
        self.value = 0.0
        self.histogram = Histogram(sorted(delta.buckets) or HANDLER_BOUNDS) if delta.kind == "histogram" else None

    def add(self, delta: MetricDelta) -> None:
        """What came with one answer."""
        if self.histogram is not None:
            for value in delta.values:
                self.histogram.add(value)
        elif self.kind == "counter":
            self.value += max(0.0, sum(delta.values))
        elif delta.values:
            self.value = delta.values[-1]


class HandlerMetrics:
    """A handler's own metrics, added up over its workers; gauges are kept for each worker."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, _Labels], Series] = {}
        self._refused: set[str] = set()

    def take(self, worker_id: int, deltas: Iterable[MetricDelta]) -> None:
        """What came with one answer. Metrics that cannot be shown are left out, and named once in the log."""
        for delta in deltas:
            labels = {_own_label(key): str(value) for key, value in delta.labels.items()}
            if delta.kind == "gauge":
                labels["worker"] = str(worker_id)
            key = (delta.name, tuple(sorted(labels.items())))
            series = self._series.get(key)
            if series is None:
                if reason := self._unfit(delta, labels):
                    self._refuse(delta.name, reason)
                    continue
                series = self._series[key] = Series(delta, key[1])
            if series.kind == delta.kind:
                series.add(delta)

    def __iter__(self) -> Iterator[Series]:
        return iter(list(self._series.values()))

    def _unfit(self, delta: MetricDelta, labels: dict[str, str]) -> str:
        if not _NAME.fullmatch(delta.name) or delta.name.startswith("nbserve_"):
            return "the name must be letters, digits and _, and not start with nbserve_"
        if not all(_NAME.fullmatch(label) for label in labels):
            return "a label's name must be letters, digits and _"
        if len(self._series) >= MAX_SERIES:
            return f"there are {MAX_SERIES} combinations of labels already"
        return ""

    def _refuse(self, name: str, reason: str) -> None:
        if name not in self._refused and len(self._refused) < MAX_SERIES:
            self._refused.add(name)
            log.warning("the handler's metric %r is not shown: %s", name, reason)


def _own_label(name: str) -> str:
    """Our own labels keep their names: a handler's label of that name gets a prefix."""
    return f"handler_{name}" if name in ("model", "version", "worker", "le") else name
