"""More than it can do: 150 % and 300 % of the capacity, even and in bursts; 500 clients; and what is left afterwards.

The handler sleeps BATCH_S for a batch of up to BATCH: the capacity is BATCH / BATCH_S a second, and the cores are free
for gateway and clients. With `slo_ms` the gateway refuses what it could not answer in time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import NamedTuple

from tests.faults.result import Run, count
from tests.faults.row import Row
from tests.faults.stage import Stage
from tests.faults.traffic import Record, Traffic

__all__ = ["Overload"]

BATCH, BATCH_S = 8, 0.05
CAPACITY = BATCH / BATCH_S
SLO_S = 0.5
BURST = 16
SETTLE_S, MEASURE_S = 1.0, 4.0
RECOVERY_S = 1.0
AT_ONCE_S = 0.1
"""After which a refusal is late."""
GROWTH_BYTES = 64 << 20
HANGS_S = 2.0
CLIENTS = 500


class Load(NamedTuple):
    """A part of a run: so much of the capacity, in groups of `burst`. rate 0: 500 clients that heed Retry-After."""

    share: float
    burst: int = 1

    @property
    def title(self) -> str:
        """For figures and messages."""
        if not self.share:
            return f"{CLIENTS}_clients"
        return f"{self.share:.0%}_{'bursty' if self.burst > 1 else 'poisson'}"


LOADS = (
    Load(0.9),
    Load(1.0),
    Load(1.2),
    Load(1.5),
    Load(1.5, BURST),
    Load(3.0),
    Load(3.0, BURST),
    Load(0.0),
)


class Overload(Row):
    """One run is all loads, one after the other."""

    name = "overload"
    fault = f"overload 150 % and 300 %, Poisson and in bursts of {BURST}; {CLIENTS} clients on {CAPACITY:g}/s"
    must = (
        "goodput within the SLO >= 95 % of the best at any load; back 1 s after the load goes; 503 at once with "
        "Retry-After; nothing hangs; memory bounded"
    )
    back = "the first answer within the SLO to a request sent after the load went"
    limit_s = 150.0

    async def prepare(self, stage: Stage) -> None:
        """Serve with an objective."""
        bundle = stage.bundle(batch_s=BATCH_S, item_s=0.0)
        await stage.serve(bundle, workers=1, threads=1, max_batch_size=BATCH, slo_ms=SLO_S * 1e3)

    async def run(self, stage: Stage, rng: random.Random) -> Run:
        """Every load with its recovery, then all of them compared."""
        rss_before = stage.rss_bytes()
        goodputs: dict[str, float] = {}
        ideals: dict[str, float] = {}
        reasons: list[str] = []
        records: list[Record] = []
        back_after_s = 0.0
        for load in LOADS:
            traffic, goodput, possible = await self._load(stage, rng, load)
            goodputs[load.title], ideals[load.title] = goodput, possible
            records += traffic.records
            reasons += [f"{load.title}: {reason}" for reason in _refused_badly(traffic.records)]
            later, back_s = await self._recover(stage, rng)
            records += later
            back_after_s = max(back_after_s, back_s)
            if back_s > RECOVERY_S:
                reasons.append(f"{load.title}: no good answer within {RECOVERY_S:g} s after the load")
        run = count(records, stage.executions.twice(), meant=lambda record: record.status == 503)
        run.back_after_s = back_after_s
        grown = stage.rss_bytes() - rss_before
        run.figures |= {f"goodput_{title}": goodput for title, goodput in goodputs.items()}
        run.figures |= {f"ideal_{title}": ideal for title, ideal in ideals.items() if ideal < float("inf")} | {
            "grown_bytes": grown
        }
        best = max(goodputs.values())
        for load in LOADS:
            if load.share == 0 or load.share >= 1.5:
                possible = min(best, ideals[load.title])
                share = goodputs[load.title] / possible
                run.must(share >= 0.95, f"{load.title}: goodput is {share:.1%} of the best possible ({possible:.0f}/s)")
        for reason in reasons:
            run.must(False, reason)
        run.must(grown <= GROWTH_BYTES, f"the gateway grew by {grown / 1e6:.0f} MB")
        return run

    async def _load(self, stage: Stage, rng: random.Random, load: Load) -> tuple[Traffic, float, float]:
        """Traffic, stopped; its goodput, answers within the SLO per second once it has settled; the ideal one."""
        traffic = stage.traffic(rng)
        if load.share:
            traffic.poisson(load.share * CAPACITY, burst=load.burst)
        else:
            await traffic.connect(CLIENTS)
            traffic.clients(CLIENTS, pause_s=0.0, heed_retry_after=True)
        await asyncio.sleep(SETTLE_S)
        from_s = time.monotonic()
        await asyncio.sleep(MEASURE_S)
        to_s = time.monotonic()
        records = await traffic.stop()
        good = sum(one.right and one.wait_s <= SLO_S and from_s <= one.answered_s < to_s for one in records)
        # 500 clients send when they are answered: what they would send to another server is not known.
        ends = ideal_answers([one.due_s for one in records]) if load.share else []
        possible = sum(from_s <= end_s < to_s for end_s in ends) if load.share else float("inf")
        return traffic, good / (to_s - from_s), possible / (to_s - from_s)

    async def _recover(self, stage: Stage, rng: random.Random) -> tuple[list[Record], float]:
        """A light load right after: when the first answer within the SLO came, and whether the last second is clean."""
        traffic = stage.traffic(rng)
        gone_s = time.monotonic()
        traffic.poisson(CAPACITY / 4)
        await asyncio.sleep(RECOVERY_S + 0.7)
        records = await traffic.stop()
        late = [one.due_s - gone_s for one in records if not (one.right and one.wait_s <= SLO_S)]
        if any(after_s > RECOVERY_S for after_s in late):
            return records, float("inf")
        return records, min((one.answered_s - gone_s for one in records if one.right), default=float("inf"))


def ideal_answers(arrivals_s: Sequence[float]) -> list[float]:
    """When a server without overhead answers requests within the SLO: work-conserving, oldest first, none in vain."""
    ends: list[float] = []
    waiting = sorted(arrivals_s)
    free_s = float("-inf")
    while waiting:
        begins_s = max(free_s, waiting[0])
        due = [arrived_s for arrived_s in waiting if arrived_s <= begins_s]
        alive = [arrived_s for arrived_s in due if begins_s + BATCH_S <= arrived_s + SLO_S + 1e-6]
        waiting = alive[BATCH:] + waiting[len(due) :]
        if alive:
            free_s = begins_s + BATCH_S
            ends += [free_s] * len(alive[:BATCH])
    return ends


def _refused_badly(records: Sequence[Record]) -> list[str]:
    """What was wrong with the refusals, and with waits."""
    refused = [record for record in records if record.status == 503]
    silent = sum(not record.retry_after for record in refused)
    waits = sorted(record.wait_s for record in refused)
    late = sum(wait > AT_ONCE_S for wait in waits)
    hung = sum(record.wait_s > HANGS_S for record in records)
    reasons = []
    if silent:
        reasons.append(f"{silent} of {len(refused)} refusals had no Retry-After")
    if late > 0.05 * len(refused):
        reasons.append(
            f"{late} of {len(refused)} refusals came later than {AT_ONCE_S:g} s, the last at {waits[-1]:.2f}"
        )
    if hung:
        reasons.append(f"{hung} requests waited longer than {HANGS_S:g} s")
    return reasons
