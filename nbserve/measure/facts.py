"""What a `BenchResult` says, as short lines and rows of text: the same words for terminal and notebook. Pure.

Called by `report.py` (tables, lines) and `plots.py` (stages, batch sizes, formats).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nbserve.measure.result import BenchResult, Comparison, Run

__all__ = [
    "NOTHING",
    "PERCENTILES",
    "Bin",
    "Stage",
    "advice_lines",
    "alarms",
    "batch_bins",
    "best_run",
    "comparison_lines",
    "error_line",
    "identity",
    "is_rivalry",
    "is_varied",
    "load_line",
    "machine_lines",
    "mean_batch",
    "number",
    "percent",
    "run_table",
    "stages",
    "table_line",
]

PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")
NOTHING = "-"
"""Stands where there is no number: a run without a right answer has no percentiles."""


@dataclass(frozen=True)
class Stage:
    """One stage of a request's life: mean and p99 in milliseconds, share of the mean latency (0 to 1)."""

    name: str
    mean_ms: float
    p99_ms: float
    share: float
    limit: bool
    """Whether the verdict names it as the limit."""


@dataclass(frozen=True)
class Bin:
    """Batches of similar size: `label` is "1", "2", "3-4", ...; share of all batches (0 to 1)."""

    label: str
    batches: int
    share: float


def best_run(result: BenchResult) -> Run | None:
    """The run that the verdict speaks of; None where nothing was run."""
    return result.runs[result.best] if 0 <= result.best < len(result.runs) else None


def is_varied(result: BenchResult) -> bool:
    """Whether the runs differ in load (a search), not repeats of one."""
    return len({(run.load.mode, run.load.concurrency, run.load.rate) for run in result.runs}) > 1


def is_rivalry(result: BenchResult) -> bool:
    """Whether the runs are those of two versions under the same load."""
    return not is_varied(result) and len({run.label for run in result.runs}) > 1


def number(value: float | None) -> str:
    """Three significant digits, all of a large number, three decimals at most, no exponent: 0.042, 4.21, 42.1, 4213."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if abs(value) >= 999.5:
        return f"{value:.0f}"
    value = float(f"{value:.3g}")
    return f"{value:.{min(2 - math.floor(math.log10(abs(value))), 3)}f}" if value else "0"


def percent(share: float) -> str:
    """Whole above 10 %, one digit below; a share that is not zero never looks like zero."""
    whole = share * 100
    return f"{whole:.0f} %" if whole >= 10 or not whole else f"{whole:{'.1f' if whole >= 0.1 else '.1g'}} %"


def identity(result: BenchResult) -> str:
    """Which endpoint: name, version, URL."""
    version = f" version {result.version}" if result.version else ""
    return f"{result.name}{version}, {result.url}" if result.name != result.url else f"{result.url}{version}"


def load_line(result: BenchResult) -> str:
    """What was sent, in one line."""
    run = best_run(result)
    if run is None:
        return "nothing was sent"
    load = run.load
    if load.mode == "closed":
        parts = [f"closed loop, {_count(load.concurrency, 'client')}"]
    else:
        parts = [f"open loop, {load.arrivals} arrivals at {number(load.rate)} req/s"]
    turns = "two versions in turns of " if is_rivalry(result) else ""
    parts.append(f"{turns}{load.duration_s:g} s after {load.warmup_s:g} s of warm-up")
    if is_varied(result):
        goal = f" for {result.slo}" if result.slo else ""
        parts.append(f"the best of {len(result.runs)} loads tried{goal}")
    elif len(result.runs) > 1 and not turns:
        parts.append(f"{len(result.runs)} repeats")
    has_seed = load.mode == "open" and load.arrivals != "recorded"
    return "; ".join([*parts, *([f"seed {load.seed}"] if has_seed else [])])


def alarms(result: BenchResult) -> list[str]:
    """What makes the numbers less than they seem, each line led by INVALID or UNSTABLE; empty where all is well."""
    if not result.runs:
        return ["INVALID: nothing was measured"]
    spoken = [run for run in (best_run(result),) if run] if is_varied(result) else result.runs
    reasons = list(dict.fromkeys(reason for run in spoken for reason in run.invalid))
    lines = [f"INVALID: {reason}" for reason in reasons if reason not in result.verdict]
    invalid = sum(not run.valid for run in spoken)
    if invalid and not lines and "INVALID" not in result.verdict:
        lines = ["INVALID: the measurement does not hold"]
    if invalid and len(spoken) > 1:
        lines.append(f"INVALID: {invalid} of {len(spoken)} runs")
    if unstable := sum(not run.stable for run in spoken):
        which = f"{unstable} of {len(spoken)} runs" if len(spoken) > 1 else "the run"
        lines.append(
            f"UNSTABLE: in {which} no three windows in a row were within 10 % of each other; "
            "measure longer (--duration) on a quieter machine"
        )
    return lines


def run_table(result: BenchResult) -> tuple[list[str], list[list[str]]]:
    """(columns, rows): a row a run, latencies in milliseconds, a closing row with the 95 % intervals where known.

    The columns "run" or "offered/s" and "note" are there only where they tell something.
    """
    varied = is_varied(result)
    named = varied or len(result.runs) > 1
    order = list(range(len(result.runs)))
    if varied:
        order.sort(key=lambda index: _load_size(result.runs[index]))
    first = [_load_name(result) if varied else "run"] if named else []
    rows = []
    for index in order:
        run = result.runs[index]
        name = [number(_load_size(run)) if varied else run.label or str(index + 1)] if named else []
        latencies = [number(run.latency_ms.get(percentile) if run.answered else None) for percentile in PERCENTILES]
        failed = str(sum(run.errors.values()))
        rows.append([*name, number(run.rate), *latencies, failed, _note(result, index)])
    columns = [*first, "rate/s", *PERCENTILES, "failed", "note"]
    if result.interval_percent:
        halves = [result.interval_percent.get(metric) for metric in ("rate", *PERCENTILES)]
        cells = [f"±{half:.1f} %" if half is not None else "" for half in halves]
        rows.append([*(["95 %"] if named else []), *cells, "", "" if named else "95 % interval"])
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return columns, rows


def error_line(run: Run) -> str:
    """Failed requests by class, most frequent first."""
    failed = sum(run.errors.values())
    asked = max(run.sent, run.answered + failed)  # what could not even be sent is a failure too
    if not failed:
        return f"errors: none of {run.sent} requests"
    classes = sorted(run.errors.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{count} x {name}" for name, count in classes)
    return f"ERRORS: {failed} of {asked} requests ({percent(failed / asked)}): {listed}"


def advice_lines(result: BenchResult) -> list[str]:
    """Why the limit is the limit, and what to do next; not what the verdict or an alarm says."""
    said = [result.verdict, *(reason for run in result.runs for reason in run.invalid)]
    return [line for line in (result.reason, result.advice) if line and not any(line in other for other in said)]


def table_line(result: BenchResult) -> str:
    """What the numbers of the table are, and how its intervals were found."""
    method = f" ({result.interval_method})" if result.interval_method else ""
    return f"latency in ms{f'; ± is the 95 % interval{method}' if result.interval_percent else ''}"


def comparison_lines(result: BenchResult) -> list[str]:
    """Each comparison: "rate: +8.0 % ±3.0 % against the run of 14:02 (196 -> 212)"."""
    return [_comparison(each) for each in result.comparisons]


def machine_lines(run: Run) -> list[str]:
    """How the clients fared, and what the server's processes took."""
    check = run.client
    cores = f" on core{'s' if len(check.cores) > 1 else ''} {', '.join(map(str, check.cores))}" if check.cores else ""
    lines = [
        f"client: {_count(check.processes, 'process', 'es')}{cores}, {percent(check.cpu)} of a core at most; "
        f"sent {number(check.lag_p99_ms)} ms late (p99)"
        f"{f', without a CPU {percent(check.waited)} of the time' if check.waited >= 0.01 else ''}"
    ]
    per_1000, gateway, workers, busy = run.server_cpu_s_per_1000, run.gateway_cpu, run.workers_cpu, run.workers_busy
    told = [
        f"{number(per_1000)} CPU seconds per 1000 answers" if per_1000 is not None else "",
        f"gateway {percent(gateway)} of a core" if gateway is not None else "",
        f"workers {percent(workers)} of a core" if workers is not None else "",
        f"busy {percent(busy)} of the time" if busy is not None else "",
    ]
    server = ", ".join(words for words in told if words)
    return [*lines, f"server: {server}"] if server else lines


def stages(result: BenchResult) -> list[Stage]:
    """Where a request of the best run spends its time, in the order of its life; empty where no server says."""
    run = best_run(result)
    if run is None:
        return []
    total = sum(stage.get("mean", 0.0) for stage in run.stages_ms.values())
    if not total:
        return []
    return [
        Stage(
            name, each.get("mean", 0.0), each.get("p99", math.nan), each.get("mean", 0.0) / total, name == result.limit
        )
        for name, each in run.stages_ms.items()
    ]


def batch_bins(run: Run) -> list[Bin]:
    """Batch sizes in bins that double (1, 2, 3-4, 5-8, ...), from the first to the last that holds any."""
    sizes = {size: count for size, count in run.batch_sizes.items() if size > 0 and count > 0}
    if not sizes:
        return []
    total = sum(sizes.values())
    counts: dict[int, int] = {}
    for size, count in sizes.items():
        counts[(size - 1).bit_length()] = counts.get((size - 1).bit_length(), 0) + count
    return [
        Bin(_bin_label(power), counts.get(power, 0), counts.get(power, 0) / total)
        for power in range(min(counts), max(counts) + 1)
    ]


def mean_batch(run: Run) -> float:
    """Requests per batch; 0 where the endpoint does not say."""
    batches = sum(run.batch_sizes.values())
    return sum(size * count for size, count in run.batch_sizes.items()) / batches if batches else 0.0


def _bin_label(power: int) -> str:
    low, high = (1 << power >> 1) + 1, 1 << power
    return str(high) if low >= high else f"{low}-{high}"


def _note(result: BenchResult, index: int) -> str:
    run = result.runs[index]
    words = [
        "INVALID" if not run.valid else "",
        "unstable" if not run.stable else "",
        "misses" if run.met is False else "",
        "best" if is_varied(result) and index == result.best else "",
        run.label if is_varied(result) else "",
        "median" if index == result.best and len(result.runs) > 1 and not (is_varied(result) or run.label) else "",
    ]
    return ", ".join(word for word in words if word)


def _load_name(result: BenchResult) -> str:
    return "offered/s" if all(run.load.mode == "open" for run in result.runs) else "clients"


def _load_size(run: Run) -> float:
    return run.load.rate if run.load.mode == "open" else float(run.load.concurrency)


def _comparison(each: Comparison) -> str:
    change = f"{each.change_percent:+.1f} % ±{each.interval_percent:.1f} %"
    values = f"({number(each.before)} -> {number(each.after)})"
    if each.different:
        return f"{each.metric}: {change} against {each.what} {values}"
    return f"{each.metric}: no difference from {each.what}, {change} {values}"


def _count(count: int, noun: str, plural: str = "s") -> str:
    return f"{count} {noun}{plural if count != 1 else ''}"
