"""SIGKILL of workers under load: of one of two, of the only one, of all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from typing import ClassVar

from tests.faults.result import Run, count
from tests.faults.row import Row, steady
from tests.faults.stage import Stage

__all__ = ["KillAll", "KillOneOfTwo", "KillOnly"]

INITIALIZE_S = 0.3
BATCH_S = 0.02
SLACK_S = 0.5
"""For what is between: noticing the death; then the requests of the lost batch, one by one, and those that gathered
meanwhile, some hundred."""


class KillOneOfTwo(Row):
    """Another worker is there to take over."""

    name = "kill-2"
    fault = "SIGKILL of 1 of 2 workers"
    must = "0 failed; longest wait <= own service time + start + initialize"
    back = "until both workers are ready again"
    workers: ClassVar[int] = 2
    victims: ClassVar[int] = 1

    async def prepare(self, stage: Stage) -> None:
        """Serve."""
        bundle = stage.bundle(initialize_s=INITIALIZE_S, batch_s=BATCH_S)
        await stage.serve(bundle, workers=self.workers, threads=1)

    async def run(self, stage: Stage, rng: random.Random) -> Run:
        """Kill within a second of load, wait for the new worker."""
        seen = (await stage.events())[-1].seq
        traffic = steady(stage, rng)
        await asyncio.sleep(0.5 + rng.random() * 0.5)
        victims = rng.sample(await stage.worker_pids(), self.victims)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed_s = time.monotonic()
        back = await stage.until_ready(self.workers, set(victims), 20.0)
        back_after_s = time.monotonic() - killed_s
        await asyncio.sleep(0.5)
        run = count(await traffic.stop(), stage.executions.twice())
        run.back_after_s = back_after_s
        run.must(back, "the workers were not ready again within 20 s")
        start_s = await self._start_s(stage, seen)
        run.figures |= {"start_and_initialize_s": start_s, "reconnects": traffic.reconnects}
        limit_s = BATCH_S + start_s + SLACK_S
        run.must(
            run.longest_wait_s <= limit_s,
            f"a request waited {run.longest_wait_s:.2f} s; service, start and initialize took {limit_s:.2f} s",
        )
        run.must(not traffic.strays, f"{traffic.strays} connections were sent an answer that nobody asked for")
        return run

    async def _start_s(self, stage: Stage, since: int) -> float:
        """From launch to READY, of the slowest worker that was started after event `since`."""
        ready = {event.worker: event.at for event in await stage.events(since) if event.state == "READY"}
        workers = (await stage.model()).workers
        return max((ready[worker.id] - worker.started_at for worker in workers if worker.id in ready), default=0.0)


class KillOnly(KillOneOfTwo):
    """Requests wait for the restart."""

    name = "kill-1"
    fault = "SIGKILL of the only worker"
    back = "until it is ready again"
    workers = 1


class KillAll(KillOneOfTwo):
    """As bad as it gets."""

    name = "kill-all"
    fault = "SIGKILL of both workers at once"
    victims = 2
