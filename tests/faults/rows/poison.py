"""One item that takes the worker down with it, or never ends, among the good ones."""

from __future__ import annotations

import asyncio
import random
import time
from typing import ClassVar

from tests.faults.result import Run, count
from tests.faults.row import Row, steady
from tests.faults.stage import Stage
from tests.faults.traffic import Record

__all__ = ["Exits", "Loops", "Memory", "Segfault"]

WORKERS = 2
BATCH_S = 0.02
COMPANY = 12
RESPONSE_TIMEOUT_S = 1.5


class Segfault(Row):
    """Dies by a signal."""

    name = "segfault"
    fault = "an item that segfaults"
    must = "that item alone fails, the reason named; the others answered"
    back = "until both workers are ready, from when the item was sent"
    do: ClassVar[str] = "segfault"
    statuses: ClassVar[tuple[int, ...]] = (500,)
    words: ClassVar[tuple[str, ...]] = ("SIGSEGV",)

    async def prepare(self, stage: Stage) -> None:
        """Serve."""
        bundle = stage.bundle(batch_s=BATCH_S)
        await stage.serve(bundle, workers=WORKERS, threads=1, response_timeout_s=RESPONSE_TIMEOUT_S)

    async def run(self, stage: Stage, rng: random.Random) -> Run:
        """Load, the item, and on until all workers are back."""
        traffic = steady(stage, rng)
        await asyncio.sleep(0.5 + 0.2 * rng.random())
        sent_s = time.monotonic()
        place = rng.randrange(COMPANY)  # sent in the same moment as good ones: they share its batch
        sent = [traffic.one(self.do if number == place else "") for number in range(COMPANY)]
        item = (await asyncio.gather(*sent))[place]
        back = await stage.until_ready(WORKERS, set(), 20.0)
        back_after_s = time.monotonic() - sent_s
        await asyncio.sleep(0.3)
        run = count(await traffic.stop(), stage.executions.twice(), meant=lambda record: record is item)
        run.back_after_s = back_after_s
        run.figures |= {"item_wait_s": item.wait_s, "reconnects": traffic.reconnects}
        run.must(self._named(item), f"the item was answered with {item.status}, {item.error[:300]!r}")
        run.must(back, "the workers were not ready again within 20 s")
        return run

    def _named(self, item: Record) -> bool:
        return item.status in self.statuses and all(word in item.error for word in self.words)


class Exits(Segfault):
    """Leaves."""

    name = "exit"
    fault = "an item that calls os._exit(3)"
    do = "exit"
    words = ("exited with code 3",)


class Memory(Segfault):
    """The memory runs out for it (its address space is limited for the attempt: MemoryError)."""

    name = "memory"
    fault = "an item that eats all memory (limited by RLIMIT_AS)"
    do = "memory"
    statuses = (507,)
    words = ("memory",)


class Loops(Segfault):
    """Runs into the response timeout."""

    name = "loop"
    fault = f"an item that loops forever (response timeout {RESPONSE_TIMEOUT_S:g} s)"
    do = "loop"
    statuses = (504,)
    words = ("ResponseTimeout", "inference")
