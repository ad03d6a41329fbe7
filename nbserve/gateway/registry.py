"""What is done with models and their versions: register, swap, roll back, scale, unregister.

Called by gateway/management. Which versions there are and who serves which path is catalogue.py's. A registration
without a version replaces the default version once the new one is loaded and proven; one with a version stands beside
it. A version that fails leaves what was there before. Registrations of one name come after each other, those of
different names side by side.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

import msgspec

from nbserve.bundle import Bundle
from nbserve.bundle.digests import Digests
from nbserve.errors import (
    BadRequest,
    Conflict,
    ErrorInfo,
    GatewayError,
    LoadError,
    NbserveError,
    Unavailable,
)
from nbserve.gateway.autoscale import TICK_S, Autoscaler, Load
from nbserve.gateway.cancellation import to_the_end
from nbserve.gateway.catalogue import Catalogue
from nbserve.gateway.failures import FailureStore
from nbserve.gateway.inference import check_name
from nbserve.gateway.metrics_page import VersionView
from nbserve.gateway.pool.floorplan import describe
from nbserve.gateway.pool.node_weights import NodeWeights
from nbserve.gateway.pool.placement import Demand, WorkerPlan, plan
from nbserve.gateway.pool.topology import Topology, read_memory
from nbserve.gateway.rates import RateMeter
from nbserve.gateway.swap import Swap, choose_swap, headrooms
from nbserve.gateway.version import ModelVersion, Surroundings
from nbserve.wire.management import Event, ModelStatus, RegisterRequest

__all__ = ["Registry", "bundle_path"]

log = logging.getLogger("nbserve.gateway")


class Registry(Catalogue):
    """The catalogue, and what changes it."""

    def __init__(self, surroundings: Surroundings, topology: Topology, *, grace_s: float) -> None:
        super().__init__()
        self._around = surroundings._replace(weights=NodeWeights(topology))
        self.failures = surroundings.failures or FailureStore()
        self._topology = topology
        self._grace_s = grace_s
        self._locks: dict[str, asyncio.Lock] = {}
        self._digests = Digests()
        self._background: set[asyncio.Task[None]] = set()
        self._rates = RateMeter()
        self._stopping = False

    # -- register ----------------------------------------------------------------------------------------------------

    async def begin(self, asked: RegisterRequest) -> ModelVersion:
        """Start to load a version; returns while it is LOADING.

        Raises BadRequest, BundleError, Conflict, Unavailable.
        """
        path = bundle_path(asked.url)
        if asked.model_name:
            check_name(asked.model_name)
        bundle = await asyncio.to_thread(self._open, path)
        name = asked.model_name or check_name(bundle.name)
        version = check_name(asked.version, "version") if asked.version else self.next_version(name)
        for other in list(self.entries()):
            if other.name == name and other.state == "FAILED" and other.pool is None:
                self.forget(other)
        if there := self.get(name, version):
            raise Conflict(f"version {version} of {name} is {there.state}", hint="choose another version")
        entry = ModelVersion(name, version, bundle, asked.config, self._around)
        self._start(entry, beside=bool(asked.version) and self.default(name) is not None)
        return entry

    def _start(self, entry: ModelVersion, *, beside: bool) -> None:
        """From here on the version is listed, and `stop` sees to its end; so none may begin after it."""
        if self._stopping:
            raise Unavailable("the gateway is shutting down")
        self.add(entry)
        entry.task = asyncio.get_running_loop().create_task(self._bring_up(entry, beside=beside))
        entry.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def register(self, asked: RegisterRequest) -> ModelVersion:
        """Load a version; returns when it serves. Raises what `begin` does, LoadError, ProofError; Conflict if aborted.

        A version that fails is not listed afterwards.
        """
        return await self._loaded(await self.begin(asked))

    async def rollback(self, name: str, version: str = "") -> ModelVersion:
        """Serve a replaced version again, the last one where none is named; returns when it serves.

        It is loaded and proven like a new one; what it replaces can be rolled back to in turn.
        Raises NotFound, Conflict, LoadError, ProofError.
        """
        old = self.kept_as(name, version)
        bundle = await asyncio.to_thread(self._open, old.bundle_path)
        going = self.get(name, old.version)
        if going is not None and going.state == "DRAINING":  # replaced a moment ago: let it finish, then load it anew
            await going.unload(self._grace_s, f"{going.key} is being removed")
            self._forget(going)
        if old not in self.kept(name):
            raise Conflict(f"{name} was removed, or rolled back by somebody else, in the meantime")
        if there := self.get(name, old.version):
            raise Conflict(f"version {old.version} of {name} is {there.state}")
        entry = ModelVersion(name, old.version, bundle, old.config, self._around)
        self._start(entry, beside=False)
        return await self._loaded(entry)

    async def _loaded(self, entry: ModelVersion) -> ModelVersion:
        assert entry.task is not None
        await asyncio.wait([entry.task])
        if entry.task.cancelled():
            raise Conflict(f"loading {entry.name} version {entry.version} was aborted")
        if (exc := entry.task.exception()) is not None:
            self._forget(entry)
            raise exc
        return entry

    async def _bring_up(self, entry: ModelVersion, *, beside: bool) -> None:
        lock = self._locks.setdefault(entry.name, asyncio.Lock())
        try:
            async with lock:
                old = None if beside else self.default(entry.name)
                await self._swap(entry, old)
        except asyncio.CancelledError:
            self._fail(entry, ErrorInfo(type="Conflict", message="loading was aborted", status=Conflict.status))
            self._forget(entry)
            raise
        except NbserveError as exc:
            self._fail(entry, exc.to_info())
            raise
        except Exception as exc:
            log.exception("loading %s failed", entry.key)
            error = GatewayError(f"the gateway failed to load {entry.key}: {type(exc).__name__}: {exc}")
            self._fail(entry, error.to_info())
            raise error from exc

    async def _swap(self, new: ModelVersion, old: ModelVersion | None) -> None:
        mode: Swap = "blue-green"
        if old is not None:
            workers = old.pool.workers if old.pool else []
            rooms = await asyncio.to_thread(lambda: headrooms(workers, read_memory().available_bytes))
            mode, why = choose_swap(new.config.swap, rooms)
            new.emit("gateway", text=f"swap: {mode}, {why}", data={"swap": mode})
        plans = self._plan(new, replaced=old)
        new.workers = len(plans)  # "auto" is decided now
        if mode == "blue-green" and old is not None:
            # Loading and warm-up keep off the cores that serve, where others are free; `_replan` moves it afterwards.
            aside = self._plan(new)
            plans = [apart._replace(threads=final.threads) for apart, final in zip(aside, plans, strict=True)]
        if mode == "stop-first" and old is not None:
            await self._stop_first(new, old, plans)
        else:
            await new.load(plans[:1] if mode == "rolling" else plans, old)
        self._serve(new, default=old is not None or self.default(new.name) is None)
        if old is not None:
            self.keep(old, new.version)
        if old is None or mode == "stop-first":
            return
        old.task = self._run(self._retire(old))
        if mode == "rolling":
            self._run(self._finish_rolling(new, old.task))

    async def _finish_rolling(self, new: ModelVersion, retired: asyncio.Task[None]) -> None:
        """The old version is going: the new one's other workers have room now."""
        await asyncio.wait([retired])
        async with self._locks[new.name]:
            if new.state != "READY" or new.pool is None:
                return
            try:
                await new.pool.scale(self._plan(new))
                self._replan()
            except LoadError as exc:
                if new.state == "READY":  # else: it was removed meanwhile
                    new.emit("error", error=exc.to_info())

    async def _stop_first(self, new: ModelVersion, old: ModelVersion, plans: list[WorkerPlan]) -> None:
        """Not enough memory for both: the old version makes room, and comes back where the new one fails."""
        serves = old.state == "READY"
        if serves:
            self.unroute(old)
            old.move("make_room")
        try:
            await old.unload(self._grace_s, f"{old.name} is being replaced")
            await new.load(plans, old)
        except BaseException:
            if serves:
                await to_the_end(self._bring_back(old))
            raise
        self.unroute(old)
        self._forget(old)
        old.emit("stage", stage="drained")

    async def _bring_back(self, old: ModelVersion) -> None:
        """The new version has failed: load the old one again, unless it was removed meanwhile."""
        await old.unload(0.0, f"{old.name} is being replaced")  # where that was cut short
        if old.state != "LOADING":
            return
        try:
            await old.load(self._plan(old))
        except NbserveError as exc:
            if old.state == "LOADING":
                self._fail(old, exc.to_info())
            return
        if old.state == "LOADING":
            self._serve(old, default=True)

    def _serve(self, entry: ModelVersion, *, default: bool) -> None:
        entry.move("serve")
        self.route(entry, default=default)
        entry.emit("stage", stage="ready")
        self._replan()
        self._run(self._look_at(entry))
        if bounds := entry.config.worker_range:
            self._run(self._follow_load(entry, *bounds))

    async def _look_at(self, entry: ModelVersion) -> None:
        """Whether the warm-up wrote to the weights."""
        await entry.measure()

    def _fail(self, entry: ModelVersion, info: ErrorInfo) -> None:
        entry.move("fail")
        entry.error, entry.pool = info, None
        entry.emit("stage", stage="failed", error=info)

    # -- the other verbs ---------------------------------------------------------------------------------------------

    async def scale(self, name: str, version: str, workers: int) -> ModelVersion:
        """Run this many workers; returns when they are ready. Raises NotFound, BadRequest, LoadError."""
        if workers < 1:
            raise BadRequest(f"there must be at least 1 worker, not {workers}")
        entry = self.find(name, version)
        await self._resize(entry, workers)
        entry.config = msgspec.structs.replace(entry.config, workers=workers)  # a fixed number from now on
        return entry

    async def _resize(self, entry: ModelVersion, workers: int) -> None:
        async with self._locks.setdefault(entry.name, asyncio.Lock()):
            if entry.state != "READY" or entry.pool is None:
                hint = "serve it again: no worker of it will start any more" if entry.state == "FAILED" else ""
                raise Conflict(f"{entry.key} is {entry.state}, it cannot be scaled", hint=hint)
            before, entry.workers = entry.workers, workers
            try:
                await entry.pool.scale(self._plan(entry))
                await entry.warmed()
            except BaseException:
                entry.workers = before
                raise
            self._replan()

    async def _follow_load(self, entry: ModelVersion, least: int, most: int) -> None:
        """Keep the number of workers between these as the load goes; ends with the version, or when it is scaled."""
        scaler = Autoscaler(least, most, entry.config.slo_ms)
        busy_s = entry.batcher.busy_s
        while entry.state == "READY" and entry.config.worker_range == (least, most):
            before_s, busy_s = busy_s, entry.batcher.busy_s
            workers = len(entry.pool.workers) if entry.pool else least
            load = Load(entry.batcher.oldest_wait_s, busy_s - before_s)
            target = scaler.decide(self._around.clock(), workers, load)
            if target != workers:
                entry.emit("gateway", text=f"autoscale: {workers} -> {target} workers", data={"workers": target})
                try:
                    await self._resize(entry, target)
                except NbserveError as exc:  # it may be going, or a worker did not start: the next tick looks again
                    entry.emit("error", error=exc.to_info())
            await asyncio.sleep(TICK_S)

    def set_default(self, name: str, version: str) -> ModelVersion:
        """Requests that name no version go here from now on. Raises NotFound, Conflict."""
        entry = self.find(name, version)
        if entry.state != "READY":
            raise Conflict(f"{entry.key} is {entry.state}, it cannot be the default")
        self.route(entry, default=True)
        return entry

    async def unregister(self, name: str, version: str = "") -> None:
        """Drain and stop one version, or all of a name; a load is aborted. Raises NotFound, Conflict."""
        if version:
            entries = [self.find(name, version)]
            others = [one for one in self.versions(name) if one.state == "READY" and one is not entries[0]]
            if others and self.is_default(entries[0]):
                raise Conflict(
                    f"version {version} is the default of {name}",
                    hint=f"make another one the default: PUT /models/{name}/{others[0].version}/set-default",
                )
        else:
            entries = self.versions(name)
            self.drop_kept(name)
        await asyncio.gather(*(self._remove(entry, self._grace_s) for entry in entries))

    async def stop(self, grace_s: float) -> None:
        """End everything; no registration is accepted any more."""
        self._stopping = True
        await asyncio.gather(*(self._remove(entry, grace_s) for entry in list(self.entries())))
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _remove(self, entry: ModelVersion, grace_s: float) -> None:
        if entry.state == "LOADING" and entry.task is not None and not entry.task.done():
            if not entry.task.cancelling():  # a second time would cut short its clearing up
                entry.task.cancel()
            await asyncio.wait([entry.task])
        elif entry.state == "FAILED" and entry.pool is None:
            self._forget(entry)
        elif entry.state == "DRAINING":
            await entry.unload(grace_s, f"{entry.key} is being removed")
        else:
            await self._retire(entry, grace_s)

    async def _retire(self, entry: ModelVersion, grace_s: float | None = None) -> None:
        """A version that took traffic goes: no new requests, the old ones are finished."""
        self.unroute(entry)
        entry.move("drain")
        await entry.unload(self._grace_s if grace_s is None else grace_s, f"{entry.key} is being removed")
        self._forget(entry)
        self._replan()
        entry.emit("stage", stage="drained")

    def _forget(self, entry: ModelVersion) -> None:
        if self.forget(entry):
            self.failures.forget(entry.name)
        self._rates.forget(entry.key)

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("replacing a version failed", exc_info=exc)

    # -- questions ---------------------------------------------------------------------------------------------------

    async def status(self, entry: ModelVersion) -> ModelStatus:
        """A snapshot of one version."""
        status = await entry.status(default=self.is_default(entry))
        kept = self.kept(entry.name)
        status.kept = [one.version for one in kept]
        status.kept_bundles = [str(one.bundle_path) for one in kept]
        return status

    async def statuses(self) -> list[ModelStatus]:
        """Of all versions, by name."""
        return [await self.status(entry) for entry in self.listed()]

    def views(self) -> Iterable[VersionView]:
        """What /metrics shows."""
        return [entry.view() for entry in self.listed()]

    def placement(self) -> dict[str, Any]:
        """How cores are shared out."""
        plans = {
            entry.key: [worker.plan for worker in entry.pool.workers]
            for entry in self.listed()
            if entry.pool is not None
        }
        return describe(self._topology, plans)

    def rates(self, seconds: float) -> list[Event]:
        """ "rates" events of the versions whose numbers changed since the last call, `seconds` ago."""
        return self._rates.events(self.entries(), seconds)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _open(self, path: Path) -> Bundle:
        """Open a bundle, and check its content; a large file is read once in a gateway's life. In a thread."""
        bundle = Bundle.open(path)
        bundle.check(self._digests.of)
        return bundle

    def _plan(self, entry: ModelVersion, *, replaced: ModelVersion | None = None) -> list[WorkerPlan]:
        """Cores for one version, beside the others that stay."""
        return self._plans(entry, replaced)[entry.key]

    def _replan(self) -> None:
        """A version has come or gone: the cores are shared out anew, and running workers move."""
        plans = self._plans(None, None)
        for entry in self.entries():
            if entry.state == "READY" and entry.pool is not None:
                entry.pool.place(plans[entry.key])
        self._around.placed(tuple(cpu for workers in plans.values() for worker in workers for cpu in worker.cores))

    def _plans(self, new: ModelVersion | None, replaced: ModelVersion | None) -> dict[str, list[WorkerPlan]]:
        demands, running = [], {}
        for entry in self.entries():
            if entry is new or (entry is not replaced and entry.state in ("LOADING", "READY")):
                demands.append(Demand(entry.key, entry.workers, entry.config.threads))
            if entry.state in ("LOADING", "READY") and entry.pool is not None:
                running[entry.key] = [worker.plan for worker in entry.pool.workers]
        return plan(self._topology, demands, running, self._around.others())


def bundle_path(url: str) -> Path:
    """The local folder that a registration names. Raises BadRequest: nothing is fetched from anywhere."""
    if "\0" in url:
        raise BadRequest("the url holds a NUL")
    if "://" in url or url.startswith(("//", "\\\\")) or url.lower().startswith(("file:", "http:", "https:", "s3:")):
        raise BadRequest("remote urls are not fetched; give the absolute path of a bundle folder on this machine")
    path = Path(url)
    if not path.is_absolute():
        raise BadRequest("the url is not an absolute path", hint="give the absolute path of a bundle folder")
    path = path.resolve()
    if not path.is_dir():
        raise BadRequest("there is no bundle folder at this path")
    return path
