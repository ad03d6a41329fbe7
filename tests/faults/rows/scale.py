"""More workers and fewer, again and again, under load."""

from __future__ import annotations

import asyncio
import random
import time

from tests.faults.result import Run, count
from tests.faults.row import Row, steady
from tests.faults.stage import MODEL, Stage

__all__ = ["Scale"]

MOST = 4


class Scale(Row):
    """1 -> 4 -> 1; twenty runs are twenty rounds with the same gateway."""

    name = "scale"
    fault = f"scale 1 -> {MOST} -> 1, again and again"
    must = "0 failed"
    back = f"until the {MOST} workers are ready"

    async def prepare(self, stage: Stage) -> None:
        """Serve with one."""
        await stage.serve(stage.bundle(batch_s=0.02), workers=1, threads=1)

    async def run(self, stage: Stage, rng: random.Random) -> Run:
        """Up, a moment with all of them, down."""
        traffic = steady(stage, rng)
        await asyncio.sleep(0.3)
        began_s = time.monotonic()
        up = await stage.manage("PUT", f"/models/{MODEL}?workers={MOST}")
        up_s = time.monotonic() - began_s
        ready = len(await stage.worker_pids())
        await asyncio.sleep(0.3)
        down = await stage.manage("PUT", f"/models/{MODEL}?workers=1")
        left = len((await stage.model()).workers)
        await asyncio.sleep(0.3)
        run = count(await traffic.stop(), stage.executions.twice())
        run.back_after_s = up_s
        run.must(up.status == down.status == 200, f"scaling was answered with {up.status} and {down.status}")
        run.must(ready == MOST and left == 1, f"{ready} workers were ready after scaling up, {left} left after down")
        run.must(not run.completed_twice, f"{run.completed_twice} requests were completed twice")
        return run
