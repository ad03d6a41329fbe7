"""The workers of one model version: start them all, restart those that die, scale, stop.

Created by gateway/version; passes what happens on to its listener (by way of the version, gateway/batcher). What it may
do when is in lifecycle.POOL_MOVES.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import zmq.asyncio

from nbserve.config import ModelConfig
from nbserve.errors import Conflict, ErrorInfo, LoadError
from nbserve.gateway.lifecycle import POOL_MOVES, Lifecycle, PoolState
from nbserve.gateway.pool.kernel import zygote_environment
from nbserve.gateway.pool.node_weights import NodeWeights
from nbserve.gateway.pool.placement import WorkerPlan
from nbserve.gateway.pool.provisioner import Start
from nbserve.gateway.pool.spare import Spare
from nbserve.gateway.pool.spec import WorkerSpec
from nbserve.gateway.pool.topology import read_memory
from nbserve.gateway.pool.worker import Worker
from nbserve.gateway.pool.zygote import Lease, Zygotes, why_spawn
from nbserve.wire.frames import Buffer
from nbserve.wire.management import Event
from nbserve.wire.messages import AnswerMeta

__all__ = ["Pool", "PoolListener", "Worker"]

log = logging.getLogger("nbserve.pool")

BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Wait before the n-th restart in a row; one more death after the last of them is FAILED."""
PRELOAD_WAIT_S = 30.0
"""How long a worker waits for a zygote that still imports; then it is spawned, and the next one may be forked."""
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

    def batch_lost(self, worker: Worker, batch_id: int, info: ErrorInfo, *, began: bool) -> None:
        """The worker died with this batch in hand; `began`: and had started on it."""

    def pool_failed(self, info: ErrorInfo) -> None:
        """No worker is left, and none will be started again: why the last one was given up."""


class Pool:
    """Workers of one version. `listener` hears of every worker and batch. zygotes: None = all workers are spawned."""

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
        zygotes: Zygotes | None = None,
        weights: NodeWeights | None = None,
    ) -> None:
        self._zygotes = zygotes
        self._weights = weights
        self._lease: Lease | None = None
        self._context = zmq.asyncio.Context()
        self._spec = WorkerSpec(
            bundle_path=bundle_path,
            name=name,
            version=version,
            config=config,
            runtime_dir=runtime_dir,
            emit=emit,
            context=self._context,
        )
        self._listener = listener
        self._restarting: dict[int, asyncio.Task[None]] = {}
        self._deaths: dict[int, int] = {}
        self._next_worker_id = 0
        self._life = Lifecycle(f"{name} version {version} pool", POOL_MOVES, "STARTING")
        self._caretaker: asyncio.Task[None] | None = None
        self._others: set[Worker] = set()  # on their way out, or in
        self.workers: list[Worker] = []
        self._add(plans)

    @property
    def state(self) -> PoolState:
        """Where it is in its life (lifecycle.POOL_MOVES)."""
        return self._life.state

    @property
    def notices(self) -> list[str]:
        """What workers found out about the handler while they serve."""
        return self._spec.notices

    @property
    def weights_copies(self) -> dict[str, int]:
        """NUMA node -> bytes of weights that lie there for these workers."""
        return self._spec.weights.sizes if self._spec.weights is not None else {}

    async def start(self) -> None:
        """Launch all workers; returns when all are READY. Raises LoadError of the first that fails, all stopped."""
        try:
            await self._choose_start()
            await self._lease_weights()
            await self._launch(self.workers)
        except LoadError:
            if self.state == "STARTING":
                self._life.move("gave_up")
            raise
        if self.state != "STARTING":
            raise LoadError("the workers were stopped while they started")
        self._life.move("started")
        self._settle()
        self._caretaker = asyncio.get_running_loop().create_task(self._care())

    async def scale(self, plans: Sequence[WorkerPlan]) -> None:
        """As many workers as plans: new ones are ready when this returns, surplus ones drained.

        Workers that were given up make room for new ones, and those that live are the last to go. Raises LoadError,
        Conflict where it does not serve.
        """
        if self.state not in ("SERVING", "RESTARTING"):
            raise Conflict(f"workers cannot be added or removed: the pool is {self.state}")
        wanted = [worker for worker in self.workers if worker.state != "FAILED"]
        wanted.sort(key=lambda worker: not worker.is_alive)
        self.workers, surplus = wanted[: len(plans)], wanted[len(plans) :]
        self._settle()
        if surplus:
            await asyncio.gather(*(self._dismiss(worker) for worker in surplus))
            return
        new = self._add(plans[len(self.workers) :])
        try:
            await self._launch(new)
        except BaseException:
            self.workers = [worker for worker in self.workers if worker not in new]
            raise
        finally:
            self._settle()

    def place(self, plans: Sequence[WorkerPlan]) -> None:
        """Move the workers to these cores, without a restart."""
        for worker, plan in zip(self.workers, plans, strict=False):
            worker.place(plan)

    async def stop(self, grace_s: float) -> None:
        """Drain all workers and wait until their processes are gone, at most a little over `grace_s`.

        May be called again while it stops, with less patience.
        """
        if self.state == "STOPPED":
            return
        if self.state != "STOPPING":
            self._life.move("stop")
        tasks = [*self._restarting.values(), *([self._caretaker] if self._caretaker else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop(grace_s) for worker in {*self.workers, *self._others}))
        if self._spec.start.spare is not None:
            await self._spec.start.spare.close()
        if self.state == "STOPPING":
            self._context.destroy(linger=0)
            if self._spec.weights is not None:
                self._spec.weights.close()
            self._life.move("stopped")
            if self._zygotes is not None and self._lease is not None:
                self._zygotes.release(self._lease)

    async def _choose_start(self) -> None:
        """Fork or spawn, from now on. Raises LoadError where it was stopped meanwhile."""
        spec = self._spec
        if self._zygotes is None:
            return
        memory = await asyncio.to_thread(read_memory)
        reason = why_spawn(spec.config, sys.platform, memory, has_pidfd=hasattr(os, "pidfd_open"))
        bundle = await asyncio.to_thread(lambda: spec.bundle)
        if self.state != "STARTING":
            raise LoadError("the workers were stopped while they started")
        env = zygote_environment(spec.config, spec.runtime_dir)
        self._lease = lease = None if reason else self._zygotes.lease(spec.name, bundle, env)
        insist = spec.config.start == "fork"
        patience_s = spec.config.startup_timeout_s if insist else min(spec.config.startup_timeout_s, PRELOAD_WAIT_S)
        log_path = spec.runtime_dir / f"spare-{spec.name}-{spec.version}.log"
        can_be_warm = not insist and sys.platform.startswith("linux") and hasattr(os, "pidfd_open")
        spare = Spare(spec.name, bundle, env, log_path) if can_be_warm else None
        spec.start = Start(lease.zygote if lease else None, reason, insist, patience_s, spare)
        spec.standby = lease.standby if lease else None

    async def _lease_weights(self) -> None:
        """Where there are several NUMA nodes, each has a copy. Raises LoadError where it was stopped meanwhile."""
        if self._weights is not None and self._weights.has_several_nodes:
            bundle = await asyncio.to_thread(lambda: self._spec.bundle)
            if self.state != "STARTING":
                raise LoadError("the workers were stopped while they started")
            self._spec.weights = self._weights.lease(bundle, self._spec.notice)

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
            if worker.is_alive:  # it may have died while the others were loading
                self._listener.worker_ready(worker)

    async def _dismiss(self, worker: Worker) -> None:
        """It is no longer needed; if it was being started again, that ends first."""
        if task := self._restarting.pop(worker.id, None):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._end(worker, self._spec.config.response_timeout_s)

    async def _end(self, worker: Worker, grace_s: float) -> None:
        """Stop one that is not, or no longer, among `workers`; `stop` sees to it where this is cut short."""
        self._others.add(worker)
        await worker.stop(grace_s)
        self._others.discard(worker)

    def _settle(self) -> None:
        """The pool's state follows its workers'."""
        alive = any(worker.is_alive for worker in self.workers)
        if self.state == "SERVING" and not alive:
            self._life.move("lost_last")
        elif self.state == "RESTARTING" and alive:
            self._life.move("came_back")
        if self.state == "SERVING" and self._spec.standby is not None:
            self._spec.standby.keep(len(self.workers))
        if self.state == "RESTARTING" and all(worker.state == "FAILED" for worker in self.workers):
            self._life.move("gave_up")
            info = next((worker.error for worker in self.workers if worker.error), None)
            self._listener.pool_failed(info or ErrorInfo(type="LoadError", message="all workers have failed"))

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
        text = f"worker {old.id} is replaced: {why}"
        log.info("%s %s", self._spec.name, text)
        self._spec.tell(kind="gateway", worker=old.id, text=text)
        new = Worker(self._next_worker_id, self._spec, old.plan, self)
        self._next_worker_id += 1
        self._others.add(new)
        try:
            await self._start_alive(new)
            self.workers = [new if worker is old else worker for worker in self.workers]
            self._others.discard(new)
            self._listener.worker_ready(new)
            self._settle()
            await self._end(old, self._spec.config.response_timeout_s)
        except LoadError as exc:
            log.warning("%s worker %d could not be replaced: %s", self._spec.name, old.id, exc.message)
            await self._end(new, 0.0)
            if old.state == "STOPPED":  # it died meanwhile, and nobody has seen to it
                await self._restart(old, exc.to_info())
        except asyncio.CancelledError:
            if new not in self.workers:
                await self._end(new, 0.0)
            raise
        finally:
            self._restarting.pop(old.id, None)

    async def _start_alive(self, worker: Worker) -> None:
        """Launch it; a worker that died in the moment it was READY has failed to start. Raises LoadError."""
        await worker.launch()
        if not worker.is_alive:
            info = worker.error or ErrorInfo(type="WorkerDied", message="the worker died as soon as it was ready")
            raise LoadError(info.message, info=info)

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

    def batch_lost(self, worker: Worker, batch_id: int, info: ErrorInfo, *, began: bool) -> None:
        """Passed on."""
        self._listener.batch_lost(worker, batch_id, info, began=began)

    def worker_died(self, worker: Worker, info: ErrorInfo) -> None:
        """A worker that had been ready died: start it again."""
        if self.state in ("STOPPING", "STOPPED") or worker not in self.workers:
            return
        log.warning("%s worker %d: %s", self._spec.name, worker.id, info.message)
        self._spec.tell(kind="error", worker=worker.id, error=info)
        self._settle()
        if worker.id not in self._restarting:  # else it is being replaced or started already
            self._restarting[worker.id] = asyncio.get_running_loop().create_task(self._restart(worker, info))

    async def _restart(self, worker: Worker, info: ErrorInfo) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                deaths = self._deaths.get(worker.id, 0) if worker.answered == 0 else 0
                if deaths >= len(BACKOFF_S):
                    worker.give_up(info)
                    self._settle()
                    return
                self._deaths[worker.id] = deaths + 1
                await asyncio.sleep(BACKOFF_S[deaths])
                worker.restarts += 1
                try:
                    await self._start_alive(worker)
                except LoadError as exc:
                    info = exc.to_info()
                    await worker.stop(0.0)
                    continue
                loop.call_later(STABLE_S, self._stable, worker, worker.restarts)
                self._listener.worker_ready(worker)
                self._settle()
                return
        finally:
            self._restarting.pop(worker.id, None)

    def _stable(self, worker: Worker, restarts: int) -> None:
        if worker.restarts == restarts and worker.is_alive:
            self._deaths[worker.id] = 0
