"""A handler's own metrics: `self.metrics.counter("pages").inc()`. Collected in the worker, shown at /metrics.

Only remembers what was gained since the last answer; the worker's loop drains it into each ANSWER frame, and the
gateway adds the deltas of all workers up (gateway/metrics). Names and kinds are Prometheus'.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from nbserve.wire.messages import MetricDelta

__all__ = ["Counter", "Gauge", "Histogram", "Metrics"]

_Labels = tuple[tuple[str, str], ...]


class _Metric:
    kind: Literal["counter", "gauge", "histogram"]

    def __init__(self, name: str, help_: str, unit: str, buckets: list[float]) -> None:
        self.name, self.help, self.unit, self.buckets = name, help_, unit, buckets
        self._values: dict[_Labels, list[float]] = {}

    def _drain(self) -> list[MetricDelta]:
        values, self._values = self._values, {}
        return [
            MetricDelta(self.kind, self.name, self.help, self.unit, seen, dict(labels), self.buckets)
            for labels, seen in values.items()
        ]


class Counter(_Metric):
    """Only goes up."""

    kind = "counter"

    def inc(self, amount: float = 1.0, **labels: str) -> None:
        """Add `amount`; ValueError if negative."""
        if amount < 0:
            raise ValueError(f"counter {self.name!r} cannot go down (inc({amount}))")
        seen = self._values.setdefault(tuple(sorted(labels.items())), [0.0])
        seen[0] += amount


class Gauge(_Metric):
    """A level; the last value of each worker counts."""

    kind = "gauge"

    def set(self, value: float, **labels: str) -> None:
        """Set the level."""
        self._values[tuple(sorted(labels.items()))] = [float(value)]


class Histogram(_Metric):
    """A distribution; at most 10,000 observations are kept between two answers."""

    kind = "histogram"

    def observe(self, value: float, **labels: str) -> None:
        """Add one observation."""
        seen = self._values.setdefault(tuple(sorted(labels.items())), [])
        if len(seen) < 10_000:
            seen.append(float(value))


_M = TypeVar("_M", bound=_Metric)


class Metrics:
    """The metrics of one handler. Asking twice for one name gives the same object; ValueError if kinds differ."""

    def __init__(self) -> None:
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, name: str, help: str = "", unit: str = "") -> Counter:  # noqa: A002 - Prometheus' word
        """A counter."""
        metric = self._metrics.setdefault(name, Counter(name, help, unit, []))
        return _expect(metric, Counter)

    def gauge(self, name: str, help: str = "", unit: str = "") -> Gauge:  # noqa: A002
        """A gauge."""
        metric = self._metrics.setdefault(name, Gauge(name, help, unit, []))
        return _expect(metric, Gauge)

    def histogram(
        self,
        name: str,
        help: str = "",  # noqa: A002
        unit: str = "",
        buckets: list[float] | None = None,
    ) -> Histogram:
        """A histogram; default buckets are prometheus_client's."""
        metric = self._metrics.setdefault(name, Histogram(name, help, unit, buckets or []))
        return _expect(metric, Histogram)

    def drain(self) -> list[MetricDelta]:
        """What was gained since the last call; forgets it."""
        return [delta for metric in self._metrics.values() for delta in metric._drain()]


def _expect(metric: _Metric, kind: type[_M]) -> _M:
    if not isinstance(metric, kind):
        raise ValueError(f"metric {metric.name!r} is already a {metric.kind}")
    return metric
