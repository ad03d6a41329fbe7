"""Rules about batching, workers and memory: what the endpoint's options have to do with it. Pure."""

from __future__ import annotations

import statistics

from nbserve.measure.advice.facts import Facts, WorkerFacts
from nbserve.measure.advice.finding import Finding

__all__ = ["a_worker_is_slow", "batches_never_fill", "delay_costs", "memory_is_short"]

FEW_BATCHES = 20
"""Fewer tell nothing."""

DELAY_SHARE = 0.2
SMALL_BATCH = 2.0


def delay_costs(facts: Facts) -> Finding | None:
    """Requests wait a fifth of their time for a batch that stays small."""
    if facts.config.max_batch_delay_ms <= 0 or facts.batches < FEW_BATCHES or not facts.latency_s:
        return None
    share = facts.stages_s.get("batch", 0.0) / facts.latency_s
    mean = sum(size * count for size, count in facts.batch_sizes.items()) / facts.batches
    if share < DELAY_SHARE or mean >= SMALL_BATCH:
        return None
    return Finding(
        rule="batch-delay-costs",
        level="warning",
        what=f"{share:.0%} of a request's time is spent waiting for its batch, which then has {mean:.1f} requests",
        why=f"--max-batch-delay-ms {facts.config.max_batch_delay_ms:g} waits for requests that do not come",
        todo="--max-batch-delay-ms 0 (the default): what queues while workers are busy is the batch",
        value=share,
        threshold=DELAY_SHARE,
        source="our choice: a fifth of the latency for less than a second request (measured in docs/batching.md)",
    )


FULL_SHARE = 0.5


def batches_never_fill(facts: Facts) -> Finding | None:
    """The largest batch of many had less than half of what is allowed."""
    most = facts.config.max_batch_size
    if most < 4 or facts.batches < 5 * FEW_BATCHES:
        return None
    largest = max(facts.batch_sizes)
    share = largest / most
    if share >= FULL_SHARE:
        return None
    return Finding(
        rule="batch-never-fills",
        level="note",
        what=f"the largest of {facts.batches:,} batches had {largest} requests, of {most} that are allowed",
        why="requests come too slowly for larger batches, so the model's speed at full batches is not reached",
        todo=f"nothing, if the rate is what you expect; else more clients at once, or fewer workers; "
        f"--max-batch-size {max(1, 2 * largest)} would spare memory and warm-up",
        value=share,
        threshold=FULL_SHARE,
        source="our choice: below half, the next smaller power of two would do",
    )


SLOW_FACTOR = 1.5


def a_worker_is_slow(facts: Facts) -> Finding | None:
    """A worker takes half as long again for a request as the others do."""
    pace = {worker.id: worker.seconds / _count(worker) for worker in facts.workers if worker.batches >= FEW_BATCHES}
    if len(pace) < 2:
        return None
    slowest = max(pace, key=lambda number: pace[number])
    usual = statistics.median(seconds for number, seconds in pace.items() if number != slowest)
    factor = pace[slowest] / usual if usual else 0.0
    if factor < SLOW_FACTOR:
        return None
    return Finding(
        rule="slow-worker",
        level="warning",
        what=f"worker {slowest} needs {factor:.1f} times as many seconds {facts.worker_seconds_are} as the others",
        why="its requests are the slow ones of the endpoint's latencies",
        todo="`nbserve status` shows its cores: others may run there, or it may sit on another NUMA node; "
        f"`nbserve profile NAME --worker {slowest}` shows what it does",
        value=factor,
        threshold=SLOW_FACTOR,
        source="the usual mark of a straggler: Spark's spark.speculation.multiplier was 1.5 up to 3.5",
    )


def _count(worker: WorkerFacts) -> int:
    """By requests where they are known: batches differ in size."""
    return max(1, worker.requests or worker.batches)


MEMORY_SHARE = 0.9


def memory_is_short(facts: Facts) -> Finding | None:
    """A worker is near its own limit, or the machine near its end."""
    limit = facts.config.max_rss_bytes or 0
    largest = max(facts.workers, key=lambda worker: worker.rss_bytes, default=None)
    used = largest.rss_bytes / limit if limit and largest is not None else 0.0
    where = (
        f"worker {largest.id} has {_gigabytes(largest.rss_bytes)} of --max-rss {_gigabytes(limit)}" if largest else ""
    )
    if facts.total_bytes:
        machine = 1 - facts.available_bytes / facts.total_bytes
        if machine > used:
            used = machine
            where = f"{_gigabytes(facts.available_bytes)} of the machine's {_gigabytes(facts.total_bytes)} are left"
    if used < MEMORY_SHARE:
        return None
    return Finding(
        rule="memory-near-limit",
        level="warning",
        what=f"{where} ({used:.0%} in use)",
        why="at the limit workers are recycled, or killed by the system with what they have in hand",
        todo="fewer workers, smaller batches (--max-batch-size), half precision, or a higher limit (--max-rss)",
        value=used,
        threshold=MEMORY_SHARE,
        source="our choice; the kernel begins to reclaim well before, and batches need room to grow",
    )


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
