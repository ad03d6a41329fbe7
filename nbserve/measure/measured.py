"""One run of one load: drives the load processes, looks at the endpoint before and after, adds it all up.

Called by `bench.py`. `measure` does a run; `summary` makes a `Run` of one, or of several that belong together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple, TypeVar

from hdrh.histogram import HdrHistogram

from nbserve.measure.crew import Crew
from nbserve.measure.messages import Plan, Report
from nbserve.measure.result import ClientCheck, Load, Run, Window
from nbserve.measure.stats import encoded, is_stable, latencies_ms, merged, percentile_ms
from nbserve.measure.target import GONE, Snapshot, Target
from nbserve.measure.verdict import client_faults

__all__ = ["Measured", "OnTick", "measure", "summary"]

_HEAD_START_S = 0.05
"""Between the plans' way to the processes and their common start."""
_LOOK_EVERY_S = 0.1
_WINDOWS = 10
_SHORTEST_WINDOW_S = 0.25
_WORKER_STAGES = ("decode", "preprocess", "inference", "postprocess", "encode")

_K = TypeVar("_K", str, int)

OnTick = Callable[[float, int, int], None]
"""(seconds since the start, answered, failed), several times a second while a run goes on."""


class Use(NamedTuple):
    """What an endpoint of ours used between two snapshots."""

    seconds: float
    gateway_cpu_s: float
    gateway_waited_s: float
    workers_cpu_s: float
    batch_sizes: dict[int, int]


@dataclass(frozen=True)
class Measured:
    """One run, before it is added up."""

    load: Load
    reports: list[Report]
    use: Use | None
    cores: list[int]
    workers: int


def measure(
    crew: Crew, target: Target, load: Load, cores: Sequence[int], timeout_s: float, on_tick: OnTick
) -> Measured:
    """Do one run. Raises MeasureError where a load process dies."""
    start_at_s = time.monotonic() + _HEAD_START_S
    begin_s, end_s = start_at_s + load.warmup_s, start_at_s + load.warmup_s + load.duration_s
    watch = _Watch(target, begin_s, end_s)

    def tick(answered: int, failed: int) -> float:
        now_s = time.monotonic()
        on_tick(now_s - start_at_s, answered, failed)
        return min(_LOOK_EVERY_S, watch.look(now_s))

    plans = list(_plans(len(crew), target, load, cores, timeout_s, start_at_s))
    reports = crew.run(plans, tick)
    workers = [worker for worker in target.model.workers if worker.state not in GONE] if target.model else []
    return Measured(load, reports, watch.use(), list(cores), len(workers))


def _plans(
    count: int, target: Target, load: Load, cores: Sequence[int], timeout_s: float, start_at_s: float
) -> Iterator[Plan]:
    for share in range(count):
        yield Plan(
            host=target.host,
            port=target.port,
            tls=target.tls,
            server_name=target.host,
            requests=list(target.requests[share::count] if target.offsets_s else target.requests),
            offsets_s=list(target.offsets_s[share::count]),
            clients=(load.concurrency + share) // count if load.mode == "closed" else 0,
            rate=load.rate,
            arrivals=load.arrivals,
            seed=load.seed,
            share=share,
            shares=count,
            start_at_s=start_at_s,
            warmup_s=load.warmup_s,
            duration_s=load.duration_s,
            window_s=load.duration_s / _window_count(load.duration_s),
            timeout_s=timeout_s,
            cores=[cores[share % len(cores)]] if cores else [],
        )


def _window_count(duration_s: float) -> int:
    return max(1, min(_WINDOWS, int(duration_s / _SHORTEST_WINDOW_S)))


class _Watch:
    """Takes the endpoint's snapshots at the start and the end of the measured time."""

    def __init__(self, target: Target, begin_s: float, end_s: float) -> None:
        self._target = target
        self._left = [begin_s, end_s]
        self._taken: list[Snapshot | None] = []

    def look(self, now_s: float) -> float:
        """Take a snapshot if it is time; in how many seconds the next one is due."""
        if self._left and now_s >= self._left[0]:
            self._left.pop(0)
            self._taken.append(self._target.snapshot())
        return max(0.0, self._left[0] - now_s) if self._left else _LOOK_EVERY_S

    def use(self) -> Use | None:
        while self._left:
            self.look(self._left[0])
        before, after = self._taken
        if before is None or after is None:
            return None
        sizes = {size: count - before.batch_sizes.get(size, 0) for size, count in after.batch_sizes.items()}
        return Use(
            after.at_s - before.at_s,
            after.gateway_cpu_s - before.gateway_cpu_s,
            after.gateway_waited_s - before.gateway_waited_s,
            max(0.0, after.workers_cpu_s - before.workers_cpu_s),  # a worker that was restarted begins at zero
            {size: count for size, count in sizes.items() if count > 0},
        )


def summary(parts: Sequence[Measured], label: str = "") -> Run:
    """A run from one measurement, or from the slices of one version that were measured in turns."""
    load = parts[0].load
    reports = [report for part in parts for report in part.reports]
    histogram = merged(window.histogram for report in reports for window in report.windows)
    seconds = sum(part.load.duration_s for part in parts)
    windows = list(_windows(parts))
    answered = sum(window.answered for window in windows)
    sent = sum(report.sent for report in reports)
    errors = _added(report.errors for report in reports)
    lag = merged(report.lag for report in reports)
    client = ClientCheck(
        processes=len(parts[0].reports),
        cores=parts[0].cores,
        lag_p99_ms=percentile_ms(lag, 99),
        cpu=max(report.cpu_s / report.wall_s for report in reports),
        waited=max(report.waited_s / report.wall_s for report in reports),
    )
    latency_ms = latencies_ms(histogram)
    stages_ms = _stages(reports)
    run = Run(
        load=load,
        sent=sent,
        answered=answered,
        errors=dict(sorted(errors.items(), key=lambda item: -item[1])),
        rate=answered / seconds,
        offered=sum(report.due for report in reports) / seconds,
        latency_ms=latency_ms,
        histogram=encoded(histogram),
        windows=windows,
        stages_ms=stages_ms,
        client=client,
        stable=_is_stable(windows, load),
        label=label,
    )
    run.invalid = client_faults(run)
    run.valid = not run.invalid
    uses = [part.use for part in parts if part.use is not None]
    if len(uses) == len(parts):
        _add_use(run, uses, workers=parts[0].workers)
    return run


def _windows(parts: Sequence[Measured]) -> Iterator[Window]:
    """The windows of each part, all processes together; one part after the other. What came later is not among them."""
    start_s = 0.0
    for part in parts:
        count = len(part.reports[0].windows) - 1
        seconds = part.load.duration_s / count
        for place in range(count):
            counts = [report.windows[place] for report in part.reports]
            histogram: HdrHistogram = merged(one.histogram for one in counts)
            yield Window(
                start_s=start_s,
                seconds=seconds,
                answered=sum(one.answered for one in counts),
                failed=sum(one.failed for one in counts),
                p50_ms=percentile_ms(histogram, 50),
                p99_ms=percentile_ms(histogram, 99),
            )
            start_s += seconds


def _is_stable(windows: Sequence[Window], load: Load) -> bool:
    """Closed loop: by rates, which may differ by the answers of one batch. Open loop: by median latencies.

    The range of three medians of n values each is below 4 / sqrt(n) of them, 19 times in 20, where the standard
    deviation of latencies is not above their mean.
    """
    counts = [float(window.answered) for window in windows]
    if load.mode == "closed":
        return is_stable(counts, noise=load.concurrency)
    medians = [window.p50_ms for window in windows if window.answered]
    if not medians:
        return False
    typical = fmean(counts) or 1.0
    return is_stable(medians, noise=4 / typical**0.5 * fmean(medians))


def _stages(reports: Sequence[Report]) -> dict[str, dict[str, float]]:
    """Mean and p99 of each stage over the sampled answers; a stage that an answer does not name took no time."""
    samples = [sample for report in reports for sample in report.stages]
    names = dict.fromkeys(name for sample in samples for name in sample)
    stages = {}
    for name in names:
        values = sorted(sample.get(name, 0.0) for sample in samples)
        stages[name] = {"mean": fmean(values), "p99": values[min(len(values) - 1, int(0.99 * len(values)))]}
    return stages


def _add_use(run: Run, uses: Sequence[Use], *, workers: int) -> None:
    seconds = sum(use.seconds for use in uses)
    run.batch_sizes = dict(sorted(_added(use.batch_sizes for use in uses).items()))
    run.gateway_cpu = sum(use.gateway_cpu_s for use in uses) / seconds
    run.gateway_waited = sum(use.gateway_waited_s for use in uses) / seconds
    run.workers_cpu = sum(use.workers_cpu_s for use in uses) / seconds
    if run.rate:
        run.server_cpu_s_per_1000 = 1000 * (run.gateway_cpu + run.workers_cpu) / run.rate
    if run.stages_ms and workers:
        batch_s = sum(run.stages_ms.get(stage, {}).get("mean", 0.0) for stage in _WORKER_STAGES) / 1e3
        run.workers_busy = min(1.0, sum(run.batch_sizes.values()) * batch_s / (seconds * workers))


def _added(counts: Iterable[dict[_K, int]]) -> dict[_K, int]:
    total: dict[_K, int] = {}
    for one in counts:
        for key, count in one.items():
            total[key] = total.get(key, 0) + count
    return total
