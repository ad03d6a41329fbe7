"""`bench`: measures an endpoint and says what it found. Called by the verb `bench` and by `Endpoint.bench`.

Three kinds: one load, repeated (`--repeat`); two versions in turns (`--against`); the highest rate that meets an
objective (`--search`). What each run does is `measured.py`'s, what it means `verdict.py`'s.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import msgspec

from nbserve.errors import NotFound, UsageError
from nbserve.measure import history
from nbserve.measure.crew import Crew, cores_for_load
from nbserve.measure.environment import describe, usable_cores
from nbserve.measure.measured import Measured, measure, summary
from nbserve.measure.options import BenchOptions
from nbserve.measure.progress import OnProgress, Progress
from nbserve.measure.replay import replayed
from nbserve.measure.result import METRICS, BenchResult, Comparison, Load, Run, comparison
from nbserve.measure.search import Slo, keeps_up, meets, parse_slo, search_rates
from nbserve.measure.stats import Interval, decoded, mean_interval, paired_change
from nbserve.measure.target import GONE, Target, endpoint, foreign
from nbserve.measure.verdict import Serving, compared, judge, judge_search
from nbserve.resolve import Served
from nbserve.wire.management import ModelStatus

__all__ = ["bench"]

_PAIRS = 10
"""Slices of each version with `against`: ten pairs give a t interval with nine degrees of freedom."""
_SLICE_WARMUP_S = 0.25
_SHORT_RUN_S = 2.0
_SHORT_RUN_REQUESTS = 500
"""A try of a search lasts so long, or until so many requests were due (500: five are above p99), up to `duration_s`."""
_FEWEST = 10
"""Requests below which a run says nothing, however long it lasts."""
_FOREIGN_CONCURRENCY = 8
_MOST_CONCURRENCY = 32
_MOST_PROCESSES = 4
_SETTLE_S = 60.0
"""How long to wait for a version that is loading or draining, as after a swap."""
_CONFIRMATIONS = 3
_LOWER_BY = 0.95


def bench(target: Served | str, options: BenchOptions, progress: OnProgress = lambda _: None) -> BenchResult:
    """Measure an endpoint of ours, or any URL. Keeps the result, and compares it with the last one of its kind.

    Raises UsageError, NotFound, MeasureError (nothing answers, a load process died), GatewayError.
    """
    slo = parse_slo(options.slo) if options.search else None
    with _other_version(target, options.against) as (this, other):
        one = _target(this, options)
        one.probe()
        two = _target(other, options) if other is not None else None
        if two is not None:
            two.probe()
        with _Bench(one, options, progress) as work:
            if slo is not None:
                work.search(slo)
            elif two is not None:
                work.compare(two)
            else:
                work.repeat()
            result = work.result()
    if not result.comparisons:
        result.comparisons = history.compare_with_previous(result)
    with suppress(OSError):  # a home folder that cannot be written is no reason to lose a result
        history.keep(result)
    return result


def _target(target: Served | str, options: BenchOptions) -> Target:
    if isinstance(target, str):
        found = foreign(target, options.method, options.bodies, options.headers)
    elif options.method not in ("", "POST"):
        raise UsageError("--method is for URLs that are not ours: predictions are POST")
    else:
        found = endpoint(target, options.bodies, options.headers)
    return replace(found, offsets_s=options.offsets_s)


@contextmanager
def _other_version(target: Served | str, version: str) -> Iterator[tuple[Served | str, Served | None]]:
    """(this, the other one, None where none is asked for). A kept version is loaded beside it meanwhile."""
    if not version:
        yield target, None
        return
    if isinstance(target, str):
        raise UsageError("--against compares versions of an endpoint of ours, not URLs")
    model = target.model()
    this, other = Served(target.client, target.name, model.version), Served(target.client, target.name, version)
    if version == model.version:
        raise UsageError(f"--against {version}: that is the version which is measured", hint=_versions(model))
    if _is_running(other):
        yield this, other
        return
    if version not in model.kept:
        raise NotFound(f"{target.name} has no version {version!r} to compare with", hint=_versions(model))
    bundle = model.kept_bundles[model.kept.index(version)]
    target.client.register(bundle, name=target.name, version=version, config=model.config)
    try:
        yield this, other
    finally:
        target.client.unregister(target.name, version)


def _is_running(served: Served) -> bool:
    """Whether this version takes requests; one that comes or goes is waited for."""
    deadline_s = time.monotonic() + _SETTLE_S
    while True:
        try:
            state = served.model().state
        except NotFound:
            return False
        if state not in ("LOADING", "DRAINING") or time.monotonic() > deadline_s:
            return state == "READY"
        time.sleep(0.1)


def _versions(model: ModelStatus) -> str:
    kept = f"; kept: {', '.join(model.kept)}" if model.kept else "; no other one is kept"
    return f"serving: version {model.version}{kept}"


class _Bench:
    """One measurement: its load processes, its runs so far."""

    def __init__(self, target: Target, options: BenchOptions, progress: OnProgress) -> None:
        self._target, self._options, self._progress = target, options, progress
        self._at = time.time()
        self._cores = _load_cores(target)
        self._load = _load(target, options)
        self._crew = Crew(_process_count(target, options, self._load, self._cores))
        self._runs: list[Run] = []
        self._best = 0
        self._slo = ""
        self._comparisons: list[Comparison] = []
        self._intervals: dict[str, Interval] = {}
        self._interval_method = ""
        self._done_s = self._total_s = 0.0

    def __enter__(self) -> _Bench:
        self._crew.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._crew.close()

    def repeat(self) -> None:
        """The same load again and again; the best run is the one with the median rate."""
        count = self._options.repeat
        self._total_s = count * (self._load.warmup_s + self._load.duration_s)
        for turn in range(count):
            doing = f"run {turn + 1} of {count}" if count > 1 else "measuring"
            self._runs.append(summary([self._run(self._target, _seeded(self._load, turn), doing)]))
        by_rate = sorted(range(count), key=lambda place: self._runs[place].rate)
        self._best = by_rate[count // 2]
        if count > 1:
            self._intervals = {metric: _over([run.figure(metric) for run in self._runs]) for metric in METRICS}
            self._interval_method = f"{count} repeats, Student's t"
        else:
            self._intervals, self._interval_method = _batch_means(self._runs[0])

    def compare(self, other: Target) -> None:
        """Both versions in turns, A B B A A B B A ...: what drifts disturbs both alike. Compared pair by pair."""
        duration_s = self._load.duration_s / _PAIRS
        load = msgspec.structs.replace(self._load, duration_s=duration_s, warmup_s=_SLICE_WARMUP_S)
        targets = (self._target, other)
        names = tuple(f"version {_version(target)}" for target in targets)
        slices: tuple[list[Measured], list[Measured]] = ([], [])
        self._total_s = 2 * _PAIRS * (duration_s + _SLICE_WARMUP_S)
        for pair in range(_PAIRS):
            for which in (0, 1) if pair % 2 == 0 else (1, 0):
                doing = f"{names[which]}, turn {pair + 1} of {_PAIRS}"
                slices[which].append(self._run(targets[which], _seeded(load, pair), doing))
        self._runs = [summary(slices[which], label=names[which]) for which in (0, 1)]
        singly = [[summary([part]) for part in parts] for parts in slices]
        for metric in METRICS:
            self._intervals[metric] = _over([run.figure(metric) for run in singly[0]])
            after, before = ([run.figure(metric) for run in runs] for runs in singly)
            # three metrics are looked at: with 1 - 0.05 / 3 each, all three intervals hold 19 times in 20 (Bonferroni)
            change = paired_change(before, after, 1 - 0.05 / len(METRICS))
            if change is not None:
                whole = [run.figure(metric) for run in self._runs]
                self._comparisons.append(comparison(names[1], metric, whole[1], whole[0], change))
        self._interval_method = f"{_PAIRS} turns, Student's t"

    def search(self, slo: Slo) -> None:
        """Short runs by doubling and bisection, then a whole one at what they found; lower where that does not hold.

        Where one request at a time is too slow, twice, no rate can meet it.
        """
        self._slo = slo.text
        for _ in range(2):
            alone = self._closed(1, "one request at a time")
            alone.met = _meets(alone, slo)
            if alone.met:
                break
        else:
            self._runs = [alone]
            return
        capacity = self._closed(_concurrency(self._target), "looking for a first rate").rate
        rates = search_rates(max(1.0, capacity / 4))
        rate = next(rates)
        try:
            while True:
                rate = rates.send(self._try(rate, slo, f"trying {rate:.4g} req/s").met is True)
        except StopIteration as stop:
            found: float = stop.value
        for attempt in range(_CONFIRMATIONS if found else 0):
            rate = found * _LOWER_BY**attempt
            if self._try(rate, slo, f"confirming {rate:.4g} req/s", whole=True).met:
                self._best = len(self._runs) - 1
                self._intervals, self._interval_method = _batch_means(self._runs[self._best])
                return
        tried = [place for place, run in enumerate(self._runs) if run.met]
        self._best = max(tried, key=lambda place: self._runs[place].load.rate, default=len(self._runs) - 1)

    def _closed(self, concurrency: int, doing: str) -> Run:
        """A short closed loop, to know where to look."""
        load = Load(
            mode="closed",
            concurrency=concurrency,
            duration_s=min(1.0, self._options.duration_s),
            warmup_s=min(0.5, self._options.warmup_s),
        )
        return summary([self._run(self._target, load, doing)])

    def _try(self, rate: float, slo: Slo, doing: str, *, whole: bool = False) -> Run:
        options = self._options
        long_enough_s = max(_SHORT_RUN_S, _SHORT_RUN_REQUESTS / rate)
        load = Load(
            mode="open",
            rate=rate,
            arrivals=options.arrivals,
            duration_s=max(options.duration_s if whole else min(long_enough_s, options.duration_s), _FEWEST / rate),
            warmup_s=options.warmup_s if whole else min(0.5, options.warmup_s),
            seed=options.seed + len(self._runs),
        )
        for said in (doing, f"{doing} once more"):
            run = summary([self._run(self._target, load, said)], "confirmation" if whole else "")
            run.met = keeps_up(run) and _meets(run, slo)
            if run.met:  # latencies count the client's own lateness: it was met in spite of that
                run.valid, run.invalid = True, []
            if run.valid:  # else a hiccup of the machine, or a rate that nobody here can send: once more tells
                break
        self._runs.append(run)
        return run

    def _run(self, target: Target, load: Load, doing: str) -> Measured:
        def on_tick(elapsed_s: float, answered: int, failed: int) -> None:
            done = (self._done_s + elapsed_s) / self._total_s if self._total_s else None
            self._progress(Progress(doing, done, answered, failed))

        measured = measure(self._crew, target, load, self._cores, self._options.timeout_s, on_tick)
        self._done_s += load.warmup_s + load.duration_s
        return measured

    def result(self) -> BenchResult:
        """Everything found, with the verdict."""
        best, target = self._runs[self._best], self._target
        serving = _serving(target)
        verdict = judge_search(self._runs, self._best, self._slo, serving) if self._slo else judge(best, serving)
        relative = {name: 100 * one.half_width / one.mean for name, one in self._intervals.items() if one.mean > 0}
        return BenchResult(
            name=target.name,
            url=target.url,
            version=_version(target),
            digest=target.model.digest if target.model else "",
            at=self._at,
            runs=self._runs,
            slo=self._slo,
            best=self._best,
            interval_percent=relative,
            interval_method=self._interval_method if relative else "",
            limit=verdict.limit,
            verdict=compared(verdict.line, self._comparisons),
            reason=verdict.reason,
            advice=verdict.advice,
            comparisons=self._comparisons,
            environment=describe(target, _asked(self._options, self._load), self._options.seed),
        )


def _version(target: Target) -> str:
    return target.model.version if target.model else ""


def _seeded(load: Load, turn: int) -> Load:
    """Other arrivals in every repeat; the same in both halves of a pair."""
    return msgspec.structs.replace(load, seed=load.seed + turn)


def _load(target: Target, options: BenchOptions) -> Load:
    if options.offsets_s:
        return replayed(options.offsets_s)
    if options.rate is None:
        return _closed(target, options)
    return Load(
        mode="open",
        rate=options.rate,
        arrivals=options.arrivals,
        duration_s=options.duration_s,
        warmup_s=options.warmup_s,
        seed=options.seed,
    )


def _closed(target: Target, options: BenchOptions) -> Load:
    return Load(
        mode="closed",
        concurrency=options.concurrency or _concurrency(target),
        duration_s=options.duration_s,
        warmup_s=options.warmup_s,
        seed=options.seed,
    )


def _asked(options: BenchOptions, load: Load) -> dict[str, Any]:
    """What tells one kind of measurement from another, apart from the request: only like is compared with like."""
    if options.search:
        return {"search": options.slo, "arrivals": options.arrivals, "duration_s": options.duration_s}
    asked: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(load, seed=0))
    return asked | {"against": options.against}


def _concurrency(target: Target) -> int:
    """Enough clients to fill a batch while another one runs, on each worker; at most 32, at least two a worker."""
    serving = _serving(target)
    if serving is None:
        return _FOREIGN_CONCURRENCY
    return max(2 * serving.workers, min(_MOST_CONCURRENCY, serving.workers * serving.max_batch_size))


def _serving(target: Target) -> Serving | None:
    if target.model is None:
        return None
    workers = sum(worker.state not in GONE for worker in target.model.workers)
    return Serving(max(1, workers), target.model.config.max_batch_size)


def _load_cores(target: Target) -> list[int]:
    """To pin the load to, where it is known which cores the workers have."""
    return cores_for_load(usable_cores(), target.worker_cores) if target.gateway is not None else []


def _process_count(target: Target, options: BenchOptions, load: Load, cores: Sequence[int]) -> int:
    """As many as there are cores for: beside the workers, or of this machine where the endpoint is elsewhere."""
    spare = len(cores) if target.is_here else len(usable_cores()) - 1
    count = options.processes or max(1, min(_MOST_PROCESSES, spare))
    if options.offsets_s:
        return min(count, len(options.offsets_s))
    return min(count, load.concurrency) if load.mode == "closed" and not options.search else count


def _meets(run: Run, slo: Slo) -> bool:
    return meets(slo, decoded(run.histogram), sum(run.errors.values()))


def _over(values: Sequence[float]) -> Interval:
    return mean_interval(values) or Interval(values[0], 0.0)


def _batch_means(run: Run) -> tuple[dict[str, Interval], str]:
    """Intervals of a single run from its windows, whose means are nearly independent (the method of batch means)."""
    windows = [window for window in run.windows if window.answered]
    if len(windows) < 3:
        return {}, ""
    values = {
        "rate": [window.answered / window.seconds for window in windows],
        "p50": [window.p50_ms for window in windows],
        "p99": [window.p99_ms for window in windows],
    }
    return {name: _over(of_windows) for name, of_windows in values.items()}, f"{len(windows)} windows, batch means"
