"""One version of one model: its bundle, workers and queue, from loading to the end.

Created by gateway/registry, which decides when a version takes traffic. Loading is: workers start, the first one is
proven on the sample, warm-up batches seed the cost model, the other workers are warmed (gateway/warmup).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from nbserve.bundle import Bundle
from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo, LoadError
from nbserve.gateway.batcher import Batcher, QueueTotal
from nbserve.gateway.cancellation import to_the_end
from nbserve.gateway.cost import CostModel
from nbserve.gateway.failures import Failures, FailureStore
from nbserve.gateway.lifecycle import VERSION_MOVES, Lifecycle
from nbserve.gateway.metrics import VersionStats
from nbserve.gateway.metrics_page import VersionView
from nbserve.gateway.pool.memory import Usage
from nbserve.gateway.pool.node_weights import NodeWeights
from nbserve.gateway.pool.placement import WorkerPlan
from nbserve.gateway.pool.supervisor import Pool, Worker
from nbserve.gateway.pool.zygote import Zygotes
from nbserve.gateway.sweep import Known, Subject, between, fits, is_alike
from nbserve.gateway.warmup import WarmUp
from nbserve.wire.frames import Buffer
from nbserve.wire.management import Event, ModelStatus, VersionState
from nbserve.wire.messages import AnswerMeta

__all__ = ["ModelVersion", "Surroundings", "Watch"]

LOOK_EVERY_S = 5.0
"""At most so often workers are looked at for writes to their weights: some 20 ms of a core for each."""


class Surroundings(NamedTuple):
    """What all versions of a gateway share. `base_url`: of the inference API. `clock`: monotonic seconds.

    `placed` tells other gateways which CPUs the workers have, `others` says which ones theirs have.
    """

    runtime_dir: Path
    emit: Callable[[Event], None]
    base_url: str
    queue_total: QueueTotal
    clock: Callable[[], float] = time.monotonic
    zygotes: Zygotes | None = None
    weights: NodeWeights | None = None
    failures: FailureStore | None = None
    placed: Callable[[tuple[int, ...]], None] = lambda cpus: None
    others: Callable[[], Sequence[int]] = tuple


class Watch(Protocol):
    """Who hears of answers and of workers that go: the batcher, or a profile before it."""

    def worker_gone(self, worker: Worker, reason: str) -> None: ...
    def batch_answered(self, worker: Worker, batch_id: int, meta: AnswerMeta, bodies: Sequence[Buffer]) -> None: ...


class ModelVersion:
    """A version: LOADING, READY, DRAINING or FAILED. `load` may be called again after `unload`."""

    def __init__(
        self, name: str, version: str, bundle: Bundle, config: ModelConfig, surroundings: Surroundings
    ) -> None:
        self.name = name
        self.version = version
        self.bundle = bundle
        self.config = config
        bounds = config.worker_range
        self.workers: int | Literal["auto"] = bounds[0] if bounds else config.workers  # type: ignore[assignment]
        """How many are wanted now; changed by scaling."""
        self._life = Lifecycle(f"{name} version {version}", VERSION_MOVES, "LOADING")
        self.error: ErrorInfo | None = None
        self.stats = VersionStats()
        self.stages_s: dict[str, float] = {}
        self.proof: dict[str, Any] = {"checked": False}
        self.task: asyncio.Task[None] | None = None
        self._warming: set[asyncio.Task[None]] = set()
        self.pool: Pool | None = None
        self._listener: _WarmFirst | None = None
        self._around = surroundings
        self._looked_s = -LOOK_EVERY_S
        self._measured: tuple[float, dict[int, Usage | None]] = (-math.inf, {})
        self._cost_model = CostModel()
        self._largest_swept = 0
        self.batcher = self._new_batcher()

    @property
    def state(self) -> VersionState:
        """Where it is in its life (lifecycle.VERSION_MOVES)."""
        return self._life.state

    def move(self, event: str) -> None:
        """Apply an event of its life. Raises IllegalMove."""
        self._life.move(event)

    @property
    def key(self) -> str:
        """Name and version, as placement and paths have them."""
        return f"{self.name}/{self.version}"

    async def load(self, plans: Sequence[WorkerPlan], replaced: ModelVersion | None = None) -> None:
        """Start workers by these plans, prove and warm them. Raises LoadError or ProofError; nothing is left then.

        replaced: the version that it follows, whose cost may still hold.
        """
        began_s = time.monotonic()
        self.error = None
        self.batcher = self._new_batcher()
        known = replaced._known_for(self, plans) if replaced is not None else None  # it may be gone by then
        self._listener = _WarmFirst(self)
        self.pool = Pool(
            bundle_path=self.bundle.path,
            name=self.name,
            version=self.version,
            config=self.config,
            plans=plans,
            listener=self._listener,
            emit=self._around.emit,
            runtime_dir=self._around.runtime_dir,
            zygotes=self._around.zygotes,
            weights=self._around.weights,
        )
        try:
            await self.pool.start()
            for worker in self.pool.workers:
                worker.is_warm = True  # the sweep below sees to these
            self._note_stages(self.pool.workers[0], time.monotonic() - began_s)
            await self._prove_and_warm(self.pool.workers, known)
        except BaseException:
            await to_the_end(self.unload(0.0, f"{self.name} version {self.version} was not loaded"))
            raise

    async def unload(self, grace_s: float, reason: str) -> None:
        """Finish what is in hand within `grace_s`, refuse the rest for this reason, and end the workers."""
        await self.batcher.close(grace_s, reason)
        if self.pool is not None:
            await self.pool.stop(grace_s)

    def emit(self, kind: Any, **fields: Any) -> None:
        """Emit an event of this version."""
        self._around.emit(Event(seq=0, at=0.0, kind=kind, model=self.name, version=self.version, **fields))

    def watch(self, watch: Watch | None) -> None:
        """Have answers and leaving workers pass by `watch`, which hands them to the batcher; None: not any more."""
        if self._listener is not None:
            self._listener.pass_by(watch or self.batcher)

    # -- warm-up and proof -------------------------------------------------------------------------------------------

    def _known_for(self, new: ModelVersion, plans: Sequence[WorkerPlan]) -> Known | None:
        """What this version's batches say of one that follows it; None = nothing."""
        cost, workers = self._cost_model.cost, self._workers
        if cost is None or not workers or not self._largest_swept:
            return None
        one, other = (
            Subject(version.bundle.manifest.files, version.config, plan.threads)
            for version, plan in ((self, workers[0].plan), (new, plans[0]))
        )
        return Known(cost, self._cost_model.points, self._largest_swept) if is_alike(one, other) else None

    async def _prove_and_warm(self, workers: Sequence[Worker], known: Known | None) -> None:
        if (warm_up := self._warm_up) is None:
            return
        first, others = workers[0], workers[1:]
        with _Timed(self.stages_s, "proof"):
            self.emit("stage", stage="proof")
            proof_s, self.proof = await warm_up.prove(first)
        with _Timed(self.stages_s, "warmup"):
            self.emit("stage", stage="warmup")
            # its first answer is no measure, unless it took no longer than was to be expected
            seen = [(1, proof_s)] if known is not None and fits(known.cost, 1, proof_s) else []
            observations = await warm_up.sweep(first, seen, known)
            self._cost_model.seed([*between(observations, known), *observations])
            self._largest_swept = largest = max(size for size, _ in observations)
            await asyncio.gather(*(warm_up.warm(worker, largest) for worker in others))

    def ready_worker(self, worker: Worker) -> None:
        """A worker is READY. One that came while the version serves answers the sample once before it takes traffic."""
        if self.state != "READY" or worker.is_warm or (warm_up := self._warm_up) is None:
            self.batcher.worker_ready(worker)
            return
        task = asyncio.get_running_loop().create_task(self._warm_alone(worker, warm_up))
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)

    async def warmed(self) -> None:
        """Returns when the workers that came are warm and take traffic, or have died of it."""
        if self._warming:
            await asyncio.wait(set(self._warming))

    async def _warm_alone(self, worker: Worker, warm_up: WarmUp) -> None:
        try:
            await warm_up.once(worker)
        except LoadError:
            return  # it died of it, or is going: the pool knows
        if worker.state == "READY":
            worker.is_warm = True
            self.batcher.worker_ready(worker)

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _warm_up(self) -> WarmUp | None:
        sample = self.bundle.sample
        return WarmUp(self.batcher, sample, self.config) if sample is not None else None

    def _new_batcher(self) -> Batcher:
        loop = asyncio.get_running_loop()
        around = self._around
        return Batcher(
            self.config,
            loop=loop,
            cost_model=self._cost_model,
            stats=self.stats,
            clock=around.clock,
            total=around.queue_total,
            failures=self._failures(),
        )

    def _failures(self) -> Failures | None:
        store = self._around.failures
        return store.of(self.name, self.version, str(self.bundle.path), self.config) if store is not None else None

    def pool_failed(self, info: ErrorInfo) -> None:
        """The last worker was given up: what waits for one is answered."""
        if self.state == "READY":
            self.move("fail")
            self.error = info
            told = info.message if info.type in ("WorkerDied", "LoadError") else f"{info.type}: {info.message}"
            self.batcher.no_more_workers(msgspec.structs.replace(info, message=told))

    def _note_stages(self, worker: Worker, start_s: float) -> None:
        ready = worker.ready
        self.stages_s = {"start": start_s - (ready.load_s if ready else 0.0)} | (ready.stages_s if ready else {})

    # -- what it looks like ------------------------------------------------------------------------------------------

    async def status(self, *, default: bool) -> ModelStatus:
        """A snapshot; /proc is read in a thread."""
        usages = await self.measure()
        cost = self._cost_model.cost
        path = self.name if default else self.key
        return ModelStatus(
            name=self.name,
            version=self.version,
            state=self.state,
            default=default,
            url=f"{self._around.base_url}/predictions/{path}",
            bundle=str(self.bundle.path),
            digest=self.bundle.digest,
            config=self.config,
            workers=[worker.status(usages.get(worker.id)) for worker in self.pool.workers] if self.pool else [],
            queue_items=self.batcher.queue_items,
            queue_bytes=self.batcher.queue_bytes,
            requests=self.stats.by_class(),
            batch_sizes={str(size): count for size, count in sorted(self.stats.batch_sizes.items())},
            cost={"a_s": cost.a_s, "c_s": cost.c_s, "margin_s": cost.margin_s} if cost else {},
            stages_s=self.stages_s,
            weights_copies=self.pool.weights_copies if self.pool else {},
            proof=self.proof,
            warnings=[
                *(_has_written(worker) for worker in self._workers if worker.weights_written_bytes),
                *(self.pool.notices if self.pool else ()),
            ],
            error=self.error,
        )

    async def measure(self, max_age_s: float = 0.0) -> dict[int, Usage | None]:
        """What its workers use, by their ids, as of `max_age_s` ago at most; in a thread.

        Says so once of each that was found to write to shared weights.
        """
        workers, now_s = self._workers, self._around.clock()
        measured_s, usages = self._measured
        if now_s - measured_s < max_age_s and usages.keys() == {worker.id for worker in workers}:
            return usages
        looks = now_s - self._looked_s >= LOOK_EVERY_S
        if looks:
            self._looked_s = now_s

        def read() -> list[tuple[Usage | None, int | None]]:
            return [(worker.usage(), worker.overwritten_bytes() if looks else None) for worker in workers]

        found = await asyncio.to_thread(read)
        for worker, (_, written) in zip(workers, found, strict=True):
            if written is not None:
                self._note_written(worker, written)
        usages = {worker.id: usage for worker, (usage, _) in zip(workers, found, strict=True)}
        self._measured = now_s, usages
        return usages

    def _note_written(self, worker: Worker, written_bytes: int) -> None:
        before, worker.weights_written_bytes = worker.weights_written_bytes, written_bytes
        if written_bytes and not before:
            self.emit("gateway", worker=worker.id, text=_has_written(worker), data={"written_bytes": written_bytes})

    @property
    def _workers(self) -> list[Worker]:
        return list(self.pool.workers) if self.pool else []

    def view(self) -> VersionView:
        """What /metrics shows."""
        workers = self._workers
        return VersionView(
            self.name,
            self.version,
            self.stats,
            self.batcher.queue_items,
            self.batcher.queue_bytes,
            dict(Counter(worker.state for worker in workers)),
            sum(worker.restarts for worker in workers),
        )


class _WarmFirst:
    """The pool's listener: everything goes to the batcher, but cold workers by way of the sample."""

    def __init__(self, version: ModelVersion) -> None:
        self._version = version
        self.batch_lost = version.batcher.batch_lost
        self.pool_failed = version.pool_failed
        self.pass_by(version.batcher)

    def pass_by(self, watch: Watch) -> None:
        """Who hears of answers and of workers that go; set anew for a profile, so that it costs nothing without."""
        self.worker_gone = watch.worker_gone
        self.batch_answered = watch.batch_answered

    def worker_ready(self, worker: Worker) -> None:
        """READY: freshly loaded, restarted, or resumed."""
        self._version.ready_worker(worker)


class _Timed:
    """Adds the time spent inside to a dict."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._began_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] = time.monotonic() - self._began_s


def _has_written(worker: Worker) -> str:
    written = f"{(worker.weights_written_bytes or 0) / 1e6:.1f} MB"
    return (
        f"worker {worker.id} has written to {written} of the weights: it has a copy of these pages for itself, and may "
        "answer differently from the others; change a clone() of the tensors instead"
    )
