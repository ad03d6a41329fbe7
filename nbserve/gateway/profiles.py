"""Profiles of live workers: begins them, watches their requests from the gateway's side, and keeps what came of them.

At most one at a time an endpoint, for one worker; for a single request (`X-Nbserve-Profile`) every worker is told, as
nobody knows which will get it. Called by gateway/profile_routes and gateway/inference. All on the gateway's loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from nbserve.errors import BadRequest, Conflict, NbserveError, NotFound, Unavailable
from nbserve.gateway.inference import Route
from nbserve.gateway.pool.supervisor import Worker
from nbserve.gateway.registry import Registry
from nbserve.gateway.version import ModelVersion
from nbserve.wire.frames import Buffer
from nbserve.wire.messages import AnswerMeta, Timings
from nbserve.wire.profile import (
    MAX_BATCHES,
    MAX_SECONDS,
    ClockPair,
    Profile,
    Profiled,
    ProfileRecord,
    ProfileRequest,
    ProfileState,
    ProfileStatus,
    RequestSpan,
    WorkerShare,
)

__all__ = ["Profiles"]

log = logging.getLogger("nbserve.gateway")

KEPT = 5
"""Profiles of a name; an older one goes when a new one is there."""
MAX_REQUESTS = 20_000
"""Requests whose times are noted in one profile: 2 MB."""
PACK_GRACE_S = 120.0
"""How long a worker may take to pack its trace once its time is over; 500,000 events take some ten seconds."""
ONE_REQUEST_S = 60.0
"""How long workers stay prepared for a request that is to be profiled; it may wait in the queue."""


class _One:
    """One profile, while it goes on and after."""

    def __init__(self, id_: str, entry: ModelVersion, asked: Profile, workers: list[Worker], now_s: float) -> None:
        self.id = id_
        self.wire_id = id_
        """What workers know it by: unique, as ids of requests need not be."""
        self.entry = entry
        self.asked = asked
        self.workers = workers
        self.began_s, self.ended_s = now_s, 0.0
        self.clock = ClockPair(now_s, time.time())
        self.state: ProfileState = "running"
        self.error = ""
        self.requests: list[RequestSpan] = []
        self.timings: dict[int, Timings] = {}
        self.shares: dict[int, WorkerShare] = {}
        self.result = Profiled(id_, self.clock)
        self.worker: Worker | None = workers[0] if len(workers) == 1 else None
        self.files: dict[int, Path] = {}
        """By worker: where it was told to write its trace."""
        self.file: Path | None = None
        """Where the trace is; None = there is none."""
        self.timer: asyncio.TimerHandle | None = None

    def status(self, now_s: float) -> ProfileStatus:
        """As of now."""
        result, running = self.result, self.state == "running"
        return ProfileStatus(
            id=self.id,
            name=self.entry.name,
            version=self.entry.version,
            worker=self.worker.id if self.worker is not None else None,
            state=self.state,
            batches=len(self.timings) if running else len(result.batches),
            asked_batches=self.asked.batches,
            seconds=(now_s if running else self.ended_s) - self.began_s,
            asked_seconds=self.asked.seconds,
            request_id=self.asked.request_id,
            events=result.events,
            trace_bytes=result.trace_bytes,
            has_trace=self.file is not None,
            truncated=result.truncated,
            note=result.note,
            error=self.error or result.error,
        )

    def record(self, now_s: float) -> ProfileRecord:
        """Of one that is over: what belongs to the batches that the worker profiled."""
        seen = {batch.batch_id for batch in self.result.batches}
        bundle = self.entry.bundle
        return ProfileRecord(
            status=self.status(now_s),
            began_at=self.clock.unix_s,
            clock=self.clock,
            requests=[request for request in self.requests if request.batch_id in seen],
            timings={batch_id: timings for batch_id, timings in self.timings.items() if batch_id in seen},
            worker=self.result,
            shares=[self.shares[number] for number in sorted(self.shares)],
            bundle=str(bundle.path),
            digest=bundle.digest,
        )


class Profiles:
    """The profiles of a gateway. `folder`: where workers write traces; made when needed, removed with the gateway."""

    def __init__(self, registry: Registry, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._folder = folder
        self._clock = clock
        self._running: dict[str, _One] = {}
        self._kept: dict[str, list[_One]] = {}  # newest last
        self._numbers = itertools.count(1)

    # -- begin and end -----------------------------------------------------------------------------------------------

    def start(self, name: str, asked: ProfileRequest, version: str = "", *, log_table: bool = False) -> ProfileStatus:
        """Profile one live worker from now on. Raises NotFound, Conflict, BadRequest, Unavailable."""
        _check(asked)
        entry = self._registry.find(name, version)
        worker = _chosen(entry, asked.worker)
        profile = Profile(
            id=str(next(self._numbers)),
            batches=asked.batches,
            seconds=asked.seconds,
            memory=asked.memory,
            shapes=asked.shapes,
            stacks=asked.stacks,
            log_table=log_table,
        )
        return self._begin(entry, profile, [worker]).status(self._clock())

    def profile_request(self, route: Route, request_id: str) -> None:
        """Profile the batch that a request which now comes will be in; the profile is named like the request.

        Where that cannot be, the request is served all the same, and the events say why.
        """
        entry = self._registry.find(route.name, route.version)
        try:
            # paused ones, too: one that packs a trace is back before the request is sent
            workers = [worker for worker in _alive(entry, paused=True) if worker.can_profile]
            if not workers:
                raise Unavailable(f"{entry.name}: no worker can be profiled now")
            profile = Profile(id=request_id, batches=1, seconds=ONE_REQUEST_S, request_id=request_id, shapes=True)
            self._begin(entry, profile, workers)
        except NbserveError as exc:
            entry.emit("gateway", text=f"request {request_id} was not profiled: {exc.message}")

    def stop(self, name: str) -> ProfileStatus:
        """End the one that goes on; its worker then packs what it has. Raises NotFound."""
        one = self._find(name, "last")
        if one.state == "running":
            self._tell_to_stop(one, one.workers)
        return one.status(self._clock())

    def _begin(self, entry: ModelVersion, profile: Profile, workers: list[Worker]) -> _One:
        name = entry.name
        if name in self._running:
            raise Conflict(f"{name} is being profiled already", hint=f"`nbserve profile {name} --stop` ends that one")
        self._purge()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        one = _One(profile.id, entry, profile, workers, self._clock())
        self._running[name] = one
        entry.watch(_Watch(one, self._clock, self._worker_gone))
        number, hear = next(self._numbers), partial(self._on_profiled, one)
        one.wire_id = str(number)
        for worker in workers:
            one.files[worker.id] = self._folder / f"{number}-{worker.id}.json.gz"
            file = str(one.files[worker.id])
            worker.profile(msgspec.structs.replace(profile, id=one.wire_id, file=file), hear)
        wait_s = profile.seconds + PACK_GRACE_S
        one.timer = asyncio.get_running_loop().call_later(wait_s, self._fail, one, "the worker did not answer in time")
        return one

    def _on_profiled(self, one: _One, worker: Worker, profiled: Profiled) -> None:
        if one.state != "running" or worker not in one.workers or profiled.id != one.wire_id:
            return  # told to stop, as another worker has had the request; it may hear of the next before it says so
        profiled.id = one.id
        others = [other for other in one.workers if other is not worker]
        if not profiled.batches and others:
            one.workers = others
            return
        one.result, one.worker = profiled, worker
        if profiled.trace_bytes and not profiled.error:
            one.file = one.files[worker.id]
        self._end(one, "failed" if profiled.error else "done")
        self._tell_to_stop(one, others)

    def _tell_to_stop(self, one: _One, workers: Sequence[Worker]) -> None:
        for worker in workers:
            if worker.is_alive:
                worker.profile(Profile(id=one.wire_id, stop=True), partial(self._on_profiled, one))

    def _worker_gone(self, one: _One, worker: Worker, reason: str) -> None:
        """Paused workers come back; the others take their profile with them."""
        if one.state != "running" or worker.state == "PAUSED":
            return
        one.workers = [other for other in one.workers if other is not worker]
        if not one.workers:
            self._fail(one, f"worker {worker.id} has gone: {reason}")

    def _fail(self, one: _One, why: str) -> None:
        if one.state == "running":
            one.error = why
            self._end(one, "failed")

    def _end(self, one: _One, state: ProfileState) -> None:
        one.state, one.ended_s = state, self._clock()
        if one.timer is not None:
            one.timer.cancel()
        one.entry.watch(None)
        name = one.entry.name
        if self._running.get(name) is one:
            del self._running[name]
        kept = self._kept.setdefault(name, [])
        kept.append(one)
        while len(kept) > KEPT:
            _remove(kept.pop(0))
        status = one.status(one.ended_s)
        one.entry.emit("gateway", text=_told(status), data={"profile": one.id})

    # -- what there is -----------------------------------------------------------------------------------------------

    def status(self, name: str) -> ProfileStatus:
        """Of the one that goes on, else of the last. Raises NotFound."""
        return self._find(name, "last").status(self._clock())

    def kept(self, name: str) -> list[ProfileStatus]:
        """Those that are over, newest first. Raises NotFound where there is no such model."""
        self._registry.find(name)
        return [one.status(self._clock()) for one in reversed(self._kept.get(name, []))]

    def last(self, name: str) -> tuple[ProfileStatus, float] | None:
        """The newest of the version that serves, and for how many seconds it has been over. Raises NotFound."""
        entry, now_s = self._registry.find(name), self._clock()
        newest = self._running.get(name) or next(reversed(self._kept.get(name, [])), None)
        if newest is None or (newest.state != "running" and newest.entry is not entry):
            return None
        return newest.status(now_s), now_s - newest.ended_s

    def record(self, name: str, id_: str) -> ProfileRecord:
        """All of one but the trace; "last" is the newest. Raises NotFound, Conflict while it goes on."""
        one = self._find(name, id_)
        if one.state == "running":
            raise Conflict(f"profile {one.id} of {name} still goes on")
        return one.record(self._clock())

    def trace(self, name: str, id_: str) -> Path:
        """The packed torch trace. Raises NotFound where there is none."""
        one = self._find(name, id_)
        if one.file is None:
            raise NotFound(f"profile {one.id} of {name} has no torch trace", hint=one.result.note or one.error)
        return one.file

    def _find(self, name: str, id_: str) -> _One:
        self._registry.find(name)
        running = self._running.get(name)
        known = [*self._kept.get(name, []), *([running] if running is not None else [])]
        found = known if id_ == "last" else [one for one in known if one.id == id_]
        if not found:
            which = "has not been profiled" if id_ == "last" else f"has no profile {id_!r}"
            raise NotFound(f"{name} {which}", hint=f"`nbserve profile {name}` makes one; the last {KEPT} are kept")
        return found[-1]

    def _purge(self) -> None:
        """Forget the profiles of names that are served no more."""
        for name in self._kept.keys() - set(self._registry.names()):
            for one in self._kept.pop(name):
                _remove(one)


class _Watch:
    """Sees a version's answers before its batcher does, while a profile goes on."""

    def __init__(
        self,
        one: _One,
        clock: Callable[[], float],
        gone: Callable[[_One, Worker, str], None],
    ) -> None:
        self._one = one
        self._batcher = one.entry.batcher
        self._clock = clock
        self._gone = gone

    def batch_answered(self, worker: Worker, batch_id: int, meta: AnswerMeta, bodies: Sequence[Buffer]) -> None:
        """Note what the batcher knows of the batch, then let it go on."""
        self._share(worker.id, meta)
        if worker in self._one.workers:
            self._note(batch_id, meta)
        self._batcher.batch_answered(worker, batch_id, meta, bodies)

    def worker_gone(self, worker: Worker, reason: str) -> None:
        """Paused, draining or dead."""
        self._batcher.worker_gone(worker, reason)
        self._gone(self._one, worker, reason)

    def _share(self, number: int, meta: AnswerMeta) -> None:
        share = self._one.shares.setdefault(number, WorkerShare(number))
        share.batches += 1
        share.requests += len(meta.items)
        share.seconds += sum(msgspec.structs.astuple(meta.timings))

    def _note(self, batch_id: int, meta: AnswerMeta) -> None:
        batch = self._batcher.in_hand(batch_id)
        if batch is None or batch.future is not None or len(self._one.requests) >= MAX_REQUESTS:
            return
        now_s = self._clock()
        self._one.timings[batch_id] = meta.timings
        for answer in meta.items:
            if answer.kind == "more" or not 0 <= answer.item < len(batch.requests):
                continue
            request = batch.requests[answer.item]
            status = answer.status if answer.error is None else answer.error.status
            self._one.requests.append(
                RequestSpan(
                    request.item.request_id,
                    batch_id,
                    request.arrived_s,
                    batch.idle_since_s,
                    batch.sent_s,
                    now_s,
                    len(request.body),
                    status,
                )
            )


def _alive(entry: ModelVersion, *, paused: bool = False) -> list[Worker]:
    workers = entry.pool.workers if entry.pool is not None and entry.state == "READY" else []
    return [worker for worker in workers if worker.is_alive and (paused or worker.state != "PAUSED")]


def _chosen(entry: ModelVersion, number: int | None) -> Worker:
    """The worker that was asked for, else the busiest: that is where the traffic is."""
    alive = _alive(entry)
    if not alive:
        raise Unavailable(f"{entry.key}: no worker is ready to be profiled", retry_after_s=1)
    if number is None:
        worker = max(alive, key=lambda worker: worker.batches)
    else:
        found = [worker for worker in alive if worker.id == number]
        if not found:
            there = ", ".join(str(worker.id) for worker in alive)
            raise NotFound(f"{entry.key} has no worker {number} that is ready", hint=f"there are: {there}")
        worker = found[0]
    if not worker.can_profile:
        raise BadRequest(
            f"worker {worker.id} of {entry.key} cannot be profiled: its software did not say that it takes PROFILE",
            hint="workers of nbserve can; others need the frames PROFILE and PROFILED of docs/worker-protocol.md",
        )
    return worker


def _check(asked: ProfileRequest) -> None:
    if not 1 <= asked.batches <= MAX_BATCHES:
        raise BadRequest(f"batches must be 1 to {MAX_BATCHES:,}, not {asked.batches}")
    if not 0 < asked.seconds <= MAX_SECONDS:
        raise BadRequest(f"seconds must be above 0 and at most {MAX_SECONDS:g}, not {asked.seconds:g}")


def _remove(one: _One) -> None:
    for file in one.files.values():
        file.unlink(missing_ok=True)


def _told(status: ProfileStatus) -> str:
    if status.error:
        return f"profile {status.id} has failed: {status.error}"
    return f"profile {status.id}: {status.batches} batches of worker {status.worker}, {status.events:,} events"
