"""The workers of one model version: start them all, restart those that die, scale, stop.

Created by gateway/registry for each version; passes what happens on to its listener (gateway/batcher).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import zmq.asyncio

from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo, LoadError
from nbserve.gateway.pool.placement import WorkerPlan
from nbserve.gateway.pool.worker import Worker, WorkerSpec
from nbserve.wire.frames import Buffer
from nbserve.wire.management import Event
from nbserve.wire.messages import AnswerMeta

__all__ = ["Pool", "PoolListener", "Worker"]

log = logging.getLogger("nbserve.pool")

BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Wait before the n-th restart in a row; one more death after the last of them is FAILED."""
STABLE_S = 30.0
"""A worker that lived this long starts again from the first backoff (jupyter_client's restarter has 10 s)."""
PROBE_EVERY_S = 10.0
"""How often an idle worker is asked for a sign of life."""
PROBE_TIMEOUT_S = 10.0
"""How long it may take to give one before it is killed."""


class PoolListener(Protocol):
    """Who gets the work done by the pool. All calls come on the gateway's loop."""

    def worker_ready(self, worker: Worker) -> None:
        """READY: freshly loaded, restarted, or resumed."""

    def worker_gone(self, worker: Worker, reason: str) -> None:
        """Paused, draining or dead: send it nothing."""

    def batch_answered(self, worker: Worker, batch_id: int, meta: AnswerMeta, bodies: Sequence[Buffer]) -> None:
        """An ANSWER frame; `meta.last` closes the batch."""

    def batch_lost(self, worker: Worker, batch_id: int, info: ErrorInfo) -> None:
        """The worker died with this batch in hand."""


class Pool:
    """Workers of one version. `listener` hears of every worker and batch."""

    def __init__(
        self,
        *,
        bundle_path: Path,
        name: str,
        version: str,
        config: ModelConfig,
        plans: Sequence[WorkerPlan],
        listener: PoolListener,
        emit: Callable[[Event], None],
        runtime_dir: Path,
        development: bool,
    ) -> None:
        self._context = zmq.asyncio.Context()
        self._spec = WorkerSpec(
            bundle_path=bundle_path,
            name=name,
            version=version,
            config=config,
            runtime_dir=runtime_dir,
            development=development,
            emit=emit,
            context=self._context,
        )
        self._listener = listener
        self._restarting: dict[int, asyncio.Task[None]] = {}
        self._deaths: dict[int, int] = {}
        self._next_worker_id = 0
        self._stopping = False
        self._caretaker: asyncio.Task[None] | None = None
        self._leaving: set[Worker] = set()
        self.workers: list[Worker] = []
        self._add(plans)

    async def start(self) -> None:
        """Launch all workers; returns when all are READY. Raises LoadError of the first that fails, all stopped."""
        await self._launch(self.workers)
        self._caretaker = asyncio.get_running_loop().create_task(self._care())

    async def scale(self, plans: Sequence[WorkerPlan]) -> None:
        """As many workers as plans: new ones are ready when this returns, surplus ones drained. Raises LoadError."""
        surplus = self.workers[len(plans) :]
        if surplus:
            self.workers = self.workers[: len(plans)]
            for worker in surplus:
                if task := self._restarting.pop(worker.id, None):
                    task.cancel()
            await asyncio.gather(*(self._retire(worker) for worker in surplus))
        elif len(plans) > len(self.workers):
            new = self._add(plans[len(self.workers) :])
            try:
                await self._launch(new)
            except LoadError:
                self.workers = [worker for worker in self.workers if worker not in new]
                raise

    def place(self, plans: Sequence[WorkerPlan]) -> None:
        """Move the workers to these cores, without a restart."""
        for worker, plan in zip(self.workers, plans, strict=False):
            worker.place(plan)

    async def stop(self, grace_s: float) -> None:
        """Drain all workers and wait until their processes are gone, at most a little over `grace_s`."""
        self._stopping = True
        tasks = [*self._restarting.values(), *([self._caretaker] if self._caretaker else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop(grace_s) for worker in {*self.workers, *self._leaving}))
        self._context.destroy(linger=0)

    def _add(self, plans: Sequence[WorkerPlan]) -> list[Worker]:
        new = []
        for plan in plans:
            new.append(Worker(self._next_worker_id, self._spec, plan, self))
            self._next_worker_id += 1
        self.workers += new
        return new

    async def _launch(self, workers: Sequence[Worker]) -> None:
        tasks = [asyncio.ensure_future(worker.launch()) for worker in workers]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(worker.stop(0.0) for worker in workers))
            raise
        for worker in workers:
            self._listener.worker_ready(worker)

    async def _retire(self, worker: Worker) -> None:
        self._leaving.add(worker)
        await worker.stop(self._spec.config.response_timeout_s)
        self._leaving.discard(worker)

    # -- care --------------------------------------------------------------------------------------------------------

    async def _care(self) -> None:
        """Every now and then: ask idle workers for a sign of life, replace those that are due."""
        while True:
            await asyncio.sleep(PROBE_EVERY_S)
            for worker in list(self.workers):
                if worker.state == "READY":
                    worker.probe(PROBE_TIMEOUT_S)
                if (why := self._is_due(worker)) and worker.id not in self._restarting:
                    task = asyncio.get_running_loop().create_task(self._replace(worker, why))
                    self._restarting[worker.id] = task

    def _is_due(self, worker: Worker) -> str:
        """Why a worker is to be replaced by a fresh one; empty = it is not."""
        config = self._spec.config
        if worker.state not in ("READY", "BUSY"):
            return ""
        if config.max_requests is not None and worker.requests >= config.max_requests:
            return f"it has served {worker.requests} requests"
        if config.max_rss_bytes is not None and (rss := worker.rss_bytes()) > config.max_rss_bytes:
            return f"its memory has grown to {rss / 1e9:.2f} GB"
        return ""

    async def _replace(self, old: Worker, why: str) -> None:
        """A fresh worker first, then the old one drains: capacity never falls below what was asked for."""
        log.info("%s worker %d is replaced: %s", self._spec.name, old.id, why)
        new = Worker(self._next_worker_id, self._spec, old.plan, self)
        self._next_worker_id += 1
        try:
            await new.launch()
            self.workers = [new if worker is old else worker for worker in self.workers]
            self._listener.worker_ready(new)
            await self._retire(old)
        except LoadError as exc:
            log.warning("%s worker %d could not be replaced: %s", self._spec.name, old.id, exc.message)
            await new.stop(0.0)
        except asyncio.CancelledError:
            if new not in self.workers:
                await new.stop(0.0)
            raise
        finally:
            self._restarting.pop(old.id, None)

    # -- what workers report -----------------------------------------------------------------------------------------

    def worker_ready(self, worker: Worker) -> None:
        """Resumed; fresh workers are announced by `_launch` and `_restart`."""
        self._listener.worker_ready(worker)

    def worker_gone(self, worker: Worker, reason: str) -> None:
        """Passed on."""
        self._listener.worker_gone(worker, reason)

    def batch_answered(self, worker: Worker, batch_id: int, meta: AnswerMeta, bodies: Sequence[Buffer]) -> None:
        """Passed on."""
        self._listener.batch_answered(worker, batch_id, meta, bodies)

    def batch_lost(self, worker: Worker, batch_id: int, info: ErrorInfo) -> None:
        """Passed on."""
        self._listener.batch_lost(worker, batch_id, info)

    def worker_died(self, worker: Worker, info: ErrorInfo) -> None:
        """A worker that had been ready died: start it again."""
        if self._stopping or worker not in self.workers:
            return
        log.warning("%s worker %d: %s", self._spec.name, worker.id, info.message)
        self._spec.emit(
            Event(
                seq=0,
                at=0.0,
                kind="error",
                model=self._spec.name,
                version=self._spec.version,
                worker=worker.id,
                error=info,
            )
        )
        self._restarting[worker.id] = asyncio.get_running_loop().create_task(self._restart(worker, info))

    async def _restart(self, worker: Worker, info: ErrorInfo) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                deaths = self._deaths.get(worker.id, 0) if worker.answered == 0 else 0
                if deaths >= len(BACKOFF_S):
                    worker.give_up(info)
                    return
                self._deaths[worker.id] = deaths + 1
                await asyncio.sleep(BACKOFF_S[deaths])
                worker.restarts += 1
                try:
                    await worker.launch()
                except LoadError as exc:
                    info = exc.to_info()
                    await worker.stop(0.0)
                    continue
                loop.call_later(STABLE_S, self._stable, worker, worker.restarts)
                self._listener.worker_ready(worker)
                return
        finally:
            self._restarting.pop(worker.id, None)

    def _stable(self, worker: Worker, restarts: int) -> None:
        if worker.restarts == restarts and worker.state in ("READY", "BUSY", "PAUSED"):
            self._deaths[worker.id] = 0
