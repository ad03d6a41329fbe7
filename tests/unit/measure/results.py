"""Measurements for the tests of the report: built by hand around real HdrHistograms."""

from __future__ import annotations

import random
from typing import Any

from nbserve.measure.result import BenchResult, ClientCheck, Comparison, Load, Run, Window
from nbserve.measure.stats import decoded, encoded, latencies_ms, new_histogram

STAGES = {
    "queue": 0.45,
    "batch": 0.12,
    "decode": 0.08,
    "preprocess": 2.15,
    "inference": 1.1,
    "postprocess": 0.06,
    "encode": 0.05,
    "transport": 0.11,
    "network": 0.2,
}


def drawn_ms(count: int, seed: int, scale: float = 1.0) -> list[float]:
    """A body around 4 ms and a long tail."""
    chance = random.Random(seed)
    return [scale * (2 + chance.lognormvariate(0.6, 0.4) + (chance.random() < 0.01) * 8) for _ in range(count)]


def histogram_of(values_ms: list[float]) -> str:
    """Encoded as a load process encodes them: microseconds."""
    histogram = new_histogram()
    for value in values_ms:
        histogram.record_value(round(value * 1000))
    return encoded(histogram)


def run(
    *, rate: float = 212.0, seed: int = 1, scale: float = 1.0, load: Load | None = None, failed: int = 0, **changed: Any
) -> Run:
    """Ten seconds at this rate."""
    values = drawn_ms(int(rate * 10), seed, scale)
    histogram = histogram_of(values)
    windows = [
        Window(
            start_s=float(second),
            seconds=1.0,
            answered=int(rate * (0.95 + 0.01 * ((second * 7 + seed) % 10))),
            failed=failed if second == 6 else 0,
            p50_ms=4.0 * scale,
            p99_ms=scale * (8 + (second * 5 + seed) % 4 + 9 * (second == 6) * bool(failed)),
        )
        for second in range(10)
    ]
    fields: dict[str, Any] = {
        "load": load or Load(mode="closed", concurrency=32),
        "sent": len(values) + failed,
        "answered": len(values),
        "errors": {"503 QueueFull": failed - 2, "timeout": 2} if failed else {},
        "rate": rate,
        "offered": load.rate if load and load.rate else rate,
        "latency_ms": latencies_ms(decoded(histogram)),
        "histogram": histogram,
        "windows": windows,
        "stages_ms": {name: {"mean": mean * scale, "p99": mean * scale * 3} for name, mean in STAGES.items()},
        "batch_sizes": {1: 20, 2: 45, 3: 80, 4: 110, 7: 60, 12: 12, 32: 3},
        "server_cpu_s_per_1000": 1.34,
        "gateway_cpu": 0.28,
        "workers_cpu": 1.02,
        "workers_busy": 0.93,
        "client": ClientCheck(processes=2, cores=[0, 1], lag_p99_ms=0.31, cpu=0.43),
    }
    return Run(**(fields | changed))


def result(*runs: Run, **changed: Any) -> BenchResult:
    """Those runs of one endpoint; a single good one where none is given."""
    fields: dict[str, Any] = {
        "name": "digits",
        "url": "http://127.0.0.1:8123/predictions/digits",
        "version": "3",
        "digest": "ab12",
        "at": 1.7e9,
        "runs": list(runs) or [run()],
        "limit": "preprocess",
        "verdict": "212 req/s at p99 8.4 ms; the limit is preprocess",
        "reason": "50 % of a request's time is spent in preprocess while the workers are busy.",
        "advice": "Make preprocess cheaper, or run more workers (--workers).",
        "environment": {"nbserve": "0.1.0", "python": "3.11.9", "machine": {"cores": 2}},
    }
    return BenchResult(**(fields | changed))


def repeats() -> BenchResult:
    """Three repeats with intervals and comparisons."""
    return result(
        *(run(rate=rate, seed=seed) for seed, rate in enumerate((205.0, 212.0, 216.0), 1)),
        best=1,
        interval_percent={"rate": 3.1, "p50": 1.2, "p99": 6.4},
        interval_method="3 repeats, Student's t",
        comparisons=[
            Comparison(
                what="the run of 14:02",
                metric="rate",
                before=196.0,
                after=212.0,
                change_percent=8.2,
                interval_percent=3.1,
                different=True,
            ),
            Comparison(
                what="the run of 14:02",
                metric="p99",
                before=8.5,
                after=8.4,
                change_percent=-1.2,
                interval_percent=6.4,
                different=False,
            ),
        ],
    )


def rivals() -> BenchResult:
    """Two versions measured by turns."""
    faster = Comparison(
        what="version 2",
        metric="rate",
        before=180.0,
        after=212.0,
        change_percent=17.8,
        interval_percent=2.5,
        different=True,
    )
    runs = [run(label="version 3"), run(label="version 2", rate=180.0, scale=1.2, seed=2)]
    return result(*runs, comparisons=[faster])


def search() -> BenchResult:
    """A search whose highest rates miss the SLO."""
    tried = [(50.0, 0.8), (100.0, 0.9), (200.0, 1.0), (400.0, 6.0), (300.0, 1.9), (250.0, 1.2)]
    runs = [
        run(
            rate=min(rate, 310.0),
            seed=int(rate),
            scale=scale,
            load=Load(mode="open", rate=rate, duration_s=3.0),
            failed=40 if rate == 400 else 0,
            met=scale <= 1.2,
        )
        for rate, scale in tried
    ]
    verdict = "250 req/s is the most that keeps p99<15ms; the limit is preprocess"
    return result(*runs, best=5, slo="p99<15ms", verdict=verdict)


def invalid() -> BenchResult:
    """The client was the bottleneck; errors and an unsteady rate besides."""
    reason = "the load process used 99 % of its core"
    one = run(
        failed=37,
        valid=False,
        invalid=[reason, "requests were sent 48 ms late (p99)"],
        stable=False,
        client=ClientCheck(processes=1, cores=[], lag_p99_ms=48.0, cpu=0.99),
    )
    return result(one, verdict=f"INVALID: {reason}; 212 req/s was what the client could send", limit="client")
