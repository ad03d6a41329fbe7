"""GET /metrics: the numbers of gateway/metrics in Prometheus' text, made piece by piece.

Called by gateway/management. Two thousand lines, as ten models have, take prometheus_client some 10 ms; requests are
answered between the pieces.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from nbserve.gateway.metrics import Histogram, Series, VersionStats

__all__ = ["MetricsPage", "VersionView"]

PIECE_LINES = 50
"""At most so many lines are made in one go: about 0.3 ms."""
SIZE_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
_MODEL = ("model", "version")
_EOF = b"# EOF\n"

_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class VersionView(NamedTuple):
    """One version at the time of a scrape. `workers`: state -> how many."""

    name: str
    version: str
    stats: VersionStats
    queue_items: int
    queue_bytes: int
    workers: dict[str, int]
    restarts: int


class MetricsPage:
    """`versions` is asked at each scrape; `refused` counts answers that no model gave, by status."""

    def __init__(self, versions: Callable[[], Iterable[VersionView]]) -> None:
        self.refused: dict[int, int] = {}
        self._versions = versions

    def count_refused(self, status: int) -> None:
        """An answer of the gateway itself: unknown path, no token, ..."""
        self.refused[status] = self.refused.get(status, 0) + 1

    def render(self, accept: str = "", names: Sequence[str] = ()) -> tuple[str, Iterator[bytes]]:
        """(content type, pieces of the body) for an Accept header; `names`: these samples only."""
        encode, content_type = choose_encoder(accept)
        return content_type, self._pieces(encode, frozenset(names), is_open="openmetrics" in content_type)

    def _pieces(self, encode: Callable[[Collector], bytes], names: frozenset[str], *, is_open: bool) -> Iterator[bytes]:
        begun = ""
        for family in self._families():
            samples = [sample for sample in family.samples if not names or sample.name in names]
            for at in range(0, len(samples), PIECE_LINES):
                part = copy.copy(family)
                part.samples = samples[at : at + PIECE_LINES]
                text = encode(_Part(part)).removesuffix(_EOF)
                yield _without_head(text) if family.name == begun else text
                begun = family.name
        if is_open:
            yield _EOF

    def _families(self) -> Iterator[_Family]:
        """Parts of families; those of one family come one after the other."""
        views = list(self._versions())
        for fill in _FILLS:
            for view in views:
                yield fill(view)
        refused = CounterMetricFamily("nbserve_refused", "Answers of the gateway itself", labels=("status",))
        for status, count in list(self.refused.items()):
            refused.add_metric((str(status),), count)
        yield refused
        yield from _handler_families(views)


class _Part(Collector):
    """What prometheus_client takes a registry for."""

    def __init__(self, family: _Family) -> None:
        self._family = family

    def collect(self) -> Iterator[_Family]:
        yield self._family


def _without_head(text: bytes) -> bytes:
    while text.startswith(b"#"):
        text = text.partition(b"\n")[2]
    return text


# -- one version's part of each of our families ------------------------------------------------------------------------


def _requests(view: VersionView) -> _Family:
    family = CounterMetricFamily("nbserve_requests", "Answers by status", labels=(*_MODEL, "status"))
    for status, count in list(view.stats.requests.items()):
        family.add_metric((view.name, view.version, str(status)), count)
    return family


def _latency(view: VersionView) -> _Family:
    family = HistogramMetricFamily("nbserve_request_seconds", "Arrival to answer, in seconds", labels=_MODEL)
    return _with_histogram(family, (view.name, view.version), view.stats.latency)


def _stages(view: VersionView) -> _Family:
    text = "Time that requests spent in each stage, in seconds"
    family = HistogramMetricFamily("nbserve_stage_seconds", text, labels=(*_MODEL, "stage"))
    for stage, histogram in view.stats.stages.items():
        _with_histogram(family, (view.name, view.version, stage), histogram)
    return family


def _sizes(view: VersionView) -> _Family:
    histogram = Histogram(SIZE_BOUNDS)
    for size, count in list(view.stats.batch_sizes.items()):
        histogram.add(size, count)
    family = HistogramMetricFamily("nbserve_batch_size", "Requests in a batch", labels=_MODEL)
    return _with_histogram(family, (view.name, view.version), histogram)


def _workers(view: VersionView) -> _Family:
    family = GaugeMetricFamily("nbserve_workers", "Workers by state", labels=(*_MODEL, "state"))
    for state, count in view.workers.items():
        family.add_metric((view.name, view.version, state), count)
    return family


def _number(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
    name: str,
    text: str,
    number: Callable[[VersionView], float],
) -> Callable[[VersionView], _Family]:
    """A family with one number of each version."""

    def fill(view: VersionView) -> _Family:
        family = kind(name, text, labels=_MODEL)
        family.add_metric((view.name, view.version), number(view))
        return family

    return fill


_FILLS: Sequence[Callable[[VersionView], _Family]] = (
    _requests,
    _latency,
    _stages,
    _sizes,
    _number(GaugeMetricFamily, "nbserve_queue_items", "Requests that wait", lambda view: view.queue_items),
    _number(GaugeMetricFamily, "nbserve_queue_bytes", "Bytes of the bodies that wait", lambda view: view.queue_bytes),
    _workers,
    _number(CounterMetricFamily, "nbserve_worker_restarts", "Workers started again", lambda view: view.restarts),
    _number(
        CounterMetricFamily,
        "nbserve_isolation_seconds",
        "Time spent on running parts of failed batches again",
        lambda view: view.stats.isolation_s,
    ),
)


# -- handlers' own metrics ---------------------------------------------------------------------------------------------


def _handler_families(views: Iterable[VersionView]) -> Iterator[_Family]:
    """One family a name; where two models disagree on a name's kind, the first one has it."""
    families: dict[str, list[tuple[VersionView, Series]]] = {}
    for view in views:
        for series in view.stats.handler:
            family = families.setdefault(series.name.removesuffix("_total"), [])
            if not family or family[0][1].kind == series.kind:
                family.append((view, series))
    for name, members in families.items():
        labels = sorted({label for _, series in members for label, _ in series.labels})
        help_text = members[0][1].help
        for view, series in members:
            yield _handler_family(name, help_text, labels, view, series)


def _handler_family(name: str, help_text: str, labels: Sequence[str], view: VersionView, series: Series) -> _Family:
    given = dict(series.labels)
    values = (view.name, view.version, *(given.get(label, "") for label in labels))
    names = (*_MODEL, *labels)
    if series.histogram is not None:
        return _with_histogram(HistogramMetricFamily(name, help_text, labels=names), values, series.histogram)
    kind = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
    family = kind(name, help_text, labels=names)
    family.add_metric(values, series.value)
    return family


def _with_histogram(
    family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram
) -> HistogramMetricFamily:
    family.add_metric(labels, histogram.buckets(), histogram.total)
    return family
