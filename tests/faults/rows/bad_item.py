"""One bad item among 8, and among 32: alone in a batch of exactly that size, then in a flow of them."""

from __future__ import annotations

import asyncio
import random
from typing import ClassVar

from tests.faults.result import Run, count
from tests.faults.row import CLIENTS, PAUSE_S, POISSON_PER_S, Row
from tests.faults.stage import Stage
from tests.faults.traffic import Record, Traffic

__all__ = ["BadItem8", "BadItem32"]

KINDS = ("decode", "preprocess", "inference", "encode")
PLUG_S = 0.15
"""How long the worker is kept busy, so that a batch of the wanted size gathers behind it."""
FLOW_S = 1.0


class BadItem8(Row):
    """In batches of 8."""

    name = "bad-8"
    fault = "1 bad item in batches of 8: malformed JSON, raises in preprocess, in inference, cannot be encoded"
    must = "exactly the bad ones fail, each with its own error"
    size: ClassVar[int] = 8

    async def prepare(self, stage: Stage) -> None:
        """Serve with one worker: what waits for it is one batch."""
        await stage.serve(stage.bundle(), workers=1, threads=1, max_batch_size=self.size)

    async def run(self, stage: Stage, rng: random.Random) -> Run:
        """A batch for each way to be bad, then a second of traffic with one bad item among `size`."""
        traffic = stage.traffic(rng)
        formed = [await self._batch(traffic, kind, rng) for kind in KINDS]
        records = await traffic.stop()
        flow = stage.traffic(rng, lambda: rng.choice(KINDS) if rng.random() < 1 / self.size else "")
        flow.clients(CLIENTS, pause_s=PAUSE_S)
        flow.poisson(POISSON_PER_S)
        await asyncio.sleep(FLOW_S)
        run = count([*records, *await flow.stop()], stage.executions.twice(), meant=_is_its_own_error)
        run.figures |= {"batches_formed": sum(size == self.size for size in formed)}
        run.must(all(formed), f"no batch of {self.size} came about: {formed}")
        spared = sum(record.right for record in [*records, *flow.records] if record.do)
        run.must(not spared, f"{spared} bad items were answered with 200")
        return run

    async def _batch(self, traffic: Traffic, kind: str, rng: random.Random) -> int:
        """Send one batch with a bad item at a random place; the largest batch that its good items were in."""
        plug = asyncio.create_task(traffic.one(sleep_s=PLUG_S))
        await asyncio.sleep(PLUG_S / 3)
        bad = rng.randrange(self.size)
        records = await asyncio.gather(*(traffic.one(kind if place == bad else "") for place in range(self.size)))
        await plug
        return max(record.batch for record in records)


class BadItem32(BadItem8):
    """In batches of 32."""

    name = "bad-32"
    fault = "1 bad item in batches of 32: the same"
    size = 32


def _is_its_own_error(record: Record) -> bool:
    """Whether a bad item failed with what it did, and nobody else's fault."""
    if record.do == "decode":
        return record.status == 400
    if record.do in ("preprocess", "inference"):
        return record.status == 500 and f"bad item {record.id} in {record.do}" in record.error
    return record.do == "encode" and record.status == 500 and "HandlerError" in record.error
