"""What a measurement found, as data: written by bench.py as JSON, read by report.py, plots.py and comparisons.

Times are in milliseconds where a field ends in `_ms`; rates are per second. No token is ever part of it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "METRICS",
    "Arrivals",
    "BenchResult",
    "ClientCheck",
    "Comparison",
    "Load",
    "Run",
    "Window",
    "comparison",
]

METRICS = ("rate", "p50", "p99")
"""What intervals are given for, and comparisons made of."""

Arrivals = Literal["poisson", "constant", "bursty", "recorded"]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent. Closed loop: `concurrency` clients, each sends when it was answered. Open loop: `rate`."""

    mode: Literal["closed", "open"]
    concurrency: int = 0
    rate: float = 0.0
    """Requests a second, whether or not earlier ones are answered; latency counts from the intended start."""
    arrivals: Arrivals = "poisson"
    duration_s: float = 10.0
    """Measured time, after warm-up."""
    warmup_s: float = 1.0
    seed: int = 1


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One slice of the run's time."""

    start_s: float
    seconds: float
    answered: int
    failed: int
    p50_ms: float
    p99_ms: float


class ClientCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the clients kept up; a run whose client was the bottleneck is not valid."""

    processes: int
    cores: list[int]
    """Where the load processes ran; empty = not pinned."""
    lag_p99_ms: float
    """How late requests were sent, against their schedule; closed loop: how late a clock of 100 ticks a second was."""
    cpu: float
    """Busiest load process: CPU seconds per second, 1.0 = a whole core."""
    waited: float = 0.0
    """The same process: share of the time in which it was ready to run and had no CPU (Linux; else 0)."""


class Run(msgspec.Struct, kw_only=True):
    """One run of one load."""

    load: Load
    sent: int
    answered: int
    """200s within the measured time."""
    errors: dict[str, int] = msgspec.field(default_factory=dict)
    """By class: "503 QueueFull", "timeout", "connection refused", ..."""
    rate: float
    """Right answers a second."""
    offered: float
    """Requests a second that were due."""
    latency_ms: dict[str, float]
    """"mean", "p50", "p90", "p99", "p99.9", "max"; of right answers."""
    histogram: str
    """HdrHistogram (base64, compressed V2) of latencies in microseconds, merged over processes."""
    windows: list[Window] = msgspec.field(default_factory=list)
    stages_ms: dict[str, dict[str, float]] = msgspec.field(default_factory=dict)
    """From Server-Timing: stage -> {"mean", "p99"}; stages as the server names them, plus "network": what is left."""
    batch_sizes: dict[int, int] = msgspec.field(default_factory=dict)
    """Batch size -> batches, during this run; empty where the endpoint does not say."""
    server_cpu_s_per_1000: float | None = None
    """CPU seconds of gateway and workers per 1000 answers; None where they are not this machine's."""
    gateway_cpu: float | None = None
    """CPU seconds a second of the gateway process."""
    gateway_waited: float | None = None
    """Share of the time in which it was ready to run and had no CPU; with `gateway_cpu` near 1 it is the limit."""
    workers_cpu: float | None = None
    """CPU seconds a second of all workers together."""
    workers_busy: float | None = None
    """Share of the workers' time in which they had a batch, 0 to 1."""
    client: ClientCheck
    valid: bool = True
    invalid: list[str] = msgspec.field(default_factory=list)
    """Why it is not valid, in words."""
    stable: bool = True
    """Three windows in a row within 10 % of each other."""
    label: str = ""
    """Which version, where two were measured: "version 3"."""
    met: bool | None = None
    """With a search: whether this rate met the SLO."""

    def figure(self, metric: str) -> float:
        """ "rate", or a latency by its name; 0 where nothing was answered."""
        return self.rate if metric == "rate" else self.latency_ms.get(metric, 0.0)


class Comparison(msgspec.Struct, kw_only=True):
    """This measurement against another one: change in percent, with its 95 % interval."""

    what: str
    """"the run of 14:02", "version 3", ..."""
    metric: str
    """"rate", "p50", "p99"."""
    before: float
    after: float
    change_percent: float
    interval_percent: float
    """Half width: +8 % +- 3 %."""
    different: bool
    """Whether the interval leaves zero out, and the change is one percent or more."""


def comparison(what: str, metric: str, before: float, after: float, change: tuple[float, float, bool]) -> Comparison:
    """One metric then and now; `change` as stats.py has it: (percent, half width in percent, whether they differ)."""
    percent, half_width, different = change
    return Comparison(
        what=what,
        metric=metric,
        before=before,
        after=after,
        change_percent=percent,
        interval_percent=half_width,
        different=different,
    )


class BenchResult(msgspec.Struct, kw_only=True):
    """A whole measurement: one load repeated, or a search over rates."""

    name: str
    """Endpoint name, or the URL."""
    url: str
    version: str = ""
    digest: str = ""
    at: float
    """Unix time of its start."""
    runs: list[Run]
    """Repeats of one load; with a search, one per rate tried."""
    slo: str = ""
    """As given: "p99<10ms"."""
    best: int = 0
    """Index of the run that the verdict speaks of: the median repeat, or the highest rate that meets the SLO."""
    interval_percent: dict[str, float] = msgspec.field(default_factory=dict)
    """"rate", "p50", "p99" -> half width of the 95 % confidence interval (`interval_method`); empty where unknown."""
    interval_method: str = ""
    """"3 repeats, Student's t", or of a single run "10 windows, batch means"."""
    limit: str = ""
    """What the verdict names as the limit: "preprocess", "inference", "queue", "gateway", "client", ..."""
    verdict: str = ""
    """One line: "212 req/s at p99 8.4 ms; the limit is preprocess"."""
    reason: str = ""
    """A sentence: why that is the limit."""
    advice: str = ""
    """A sentence: what to do next."""
    comparisons: list[Comparison] = msgspec.field(default_factory=list)
    environment: dict[str, Any] = msgspec.field(default_factory=dict)
    """Versions, machine, cores, placement, model configuration."""

    @property
    def failed(self) -> bool:
        """Whether there is no valid figure: nothing answered, the client was the bottleneck, or the SLO was not met."""
        run = self.runs[self.best]
        return not run.met if self.slo else not run.valid or not run.answered

    def __repr__(self) -> str:
        from nbserve.measure.report import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from nbserve.measure.report import as_html

        return as_html(self)
