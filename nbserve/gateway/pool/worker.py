"""One worker as the gateway sees it: its states, its batches, its death.

Created by supervisor.py, which decides about restarts. Its process is kernel.py's, its time limits are limits.py's;
loading is loading.py's, pauses and holds are pauses.py's, what status shows is worker_status.py's.
Tells its owner of every change by callbacks, all on the gateway's loop. Every batch sent ends in exactly one
`batch_answered` or `batch_lost`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from nbserve.errors import Conflict, ErrorInfo, LoadError, WireError
from nbserve.gateway.cancellation import to_the_end
from nbserve.gateway.lifecycle import WORKER_MOVES, Lifecycle
from nbserve.gateway.pool import obituary
from nbserve.gateway.pool.kernel import EXIT_GRACE_S, WorkerKernel, environment
from nbserve.gateway.pool.limits import InHand
from nbserve.gateway.pool.loading import FIRST_LOAD_ID, Loading, load_message
from nbserve.gateway.pool.memory import Usage
from nbserve.gateway.pool.pauses import Hold, Pauses
from nbserve.gateway.pool.placement import WorkerPlan
from nbserve.gateway.pool.prints import Printed
from nbserve.gateway.pool.spec import WorkerSpec
from nbserve.gateway.pool.stream import FrameStream
from nbserve.gateway.pool.worker_status import status_of
from nbserve.wire.arena import LARGE_BYTES
from nbserve.wire.frames import VERSION, Buffer, Flag, Frame, Kind, decode_meta, encode_meta, pack
from nbserve.wire.management import WorkerState, WorkerStatus
from nbserve.wire.messages import AnswerMeta, DeviceMemory, Hello, Notice, Place, Ready, RequestItem
from nbserve.wire.profile import Profile, Profiled
from nbserve.wire.zygote import changes

__all__ = ["Worker", "WorkerOwner"]

log = logging.getLogger("nbserve.pool")

PRINTS_WAIT_S = 2.0
"""A bundle is loaded when the kernel's prints arrive, so that none of `initialize` is lost, or after this."""


class WorkerOwner(Protocol):
    """Who is told what happens to a worker (supervisor.Pool)."""

    def worker_ready(self, worker: Worker) -> None: ...
    def worker_gone(self, worker: Worker, reason: str) -> None: ...
    def worker_died(self, worker: Worker, info: ErrorInfo) -> None: ...
    def batch_answered(self, worker: Worker, batch_id: int, meta: AnswerMeta, bodies: Sequence[Buffer]) -> None: ...
    def batch_lost(self, worker: Worker, batch_id: int, info: ErrorInfo, *, began: bool) -> None: ...


class Worker:
    """One worker kernel. `launch` may be called again after it has stopped or failed."""

    def __init__(self, id: int, spec: WorkerSpec, plan: WorkerPlan, owner: WorkerOwner) -> None:  # noqa: A002
        self.id = id
        self.plan = plan
        self.ready: Ready | None = None
        self.restarts = 0
        self.batches = 0
        self.requests = 0
        self.is_warm = False
        """Whether it has answered the sample since it was last launched; kept by its owner."""
        self.answered = 0
        """Requests answered well since it was last launched."""
        self.device_memory: DeviceMemory | None = None
        """What it last said of its GPU; None on a CPU."""
        self.weights_written_bytes: int | None = None
        """What it had written over of the mapped weights when that was last looked at; None = not yet."""
        self.error: ErrorInfo | None = None
        self.started_at = 0.0
        self.started_how = ""
        """How it was started: "forked", "spawned", or "spawned: REASON"."""
        self._spec = spec
        self._owner = owner
        self._life = Lifecycle(f"{spec.name} worker {id}", WORKER_MOVES, "STOPPED")
        self._loop = asyncio.get_running_loop()
        self._kernel: WorkerKernel | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._takes_memfd = False
        self.can_profile = False
        """Whether its HELLO said that it takes PROFILE."""
        self._hear_profiled: Callable[[Worker, Profiled], None] | None = None
        self._in_hand = InHand(self._loop, self._interrupt, self.kill)
        self._loading: Loading | None = None
        self._gone = asyncio.Event()
        self._memory = obituary.MemoryWatch(self.rss_bytes)
        self._probe_timer: asyncio.TimerHandle | None = None
        self._pauses = Pauses(self._in_hand, self._stand_aside, self._come_back)

    @property
    def state(self) -> WorkerState:
        """Where it is in its life (lifecycle.WORKER_MOVES)."""
        return self._life.state

    @property
    def is_alive(self) -> bool:
        """Loaded, and neither dead nor leaving."""
        return self.state in ("READY", "BUSY", "PAUSED")

    @property
    def pid(self) -> int | None:
        """Of its process; None where it has none."""
        return self._kernel.pid if self._kernel is not None else None

    @property
    def connection_file(self) -> str:
        """For `jupyter console --existing`."""
        return self._kernel.connection_file if self._kernel is not None else ""

    @property
    def device(self) -> str:
        """What it runs on; what was asked for until it is READY."""
        return self.ready.device if self.ready else self._spec.config.device

    # -- start -------------------------------------------------------------------------------------------------------

    async def launch(self) -> None:
        """Start the kernel and have it load the bundle; returns when READY. Raises LoadError naming the stage."""
        self._life.move("start")
        self._gone.clear()
        self.is_warm = False
        self.error, self.ready, self.device_memory, self.weights_written_bytes = None, None, None, None
        self.answered = 0
        self.started_at = time.time()
        self._loading = loading = Loading(self._spec.config.startup_timeout_s, self._interrupt, self.kill)
        self._memory.start()
        try:
            await self._spawned()
            self._stage("start")
            self.ready = await self._loaded(loading)
        finally:
            self._memory.stop()

    async def _loaded(self, loading: Loading) -> Ready:
        try:
            return await loading.outcome(lambda: self._kernel.progress.stage if self._kernel else "start")
        except LoadError as exc:
            self.error = exc.to_info()
            raise LoadError(self.error.message, info=self.error) from None

    async def _spawned(self) -> None:
        """Start the process, to the end even when cancelled: half a start could not be stopped. Raises LoadError."""
        try:
            await to_the_end(self._spawn())
        except Exception as exc:
            message = f"the worker's kernel could not be started: {type(exc).__name__}: {exc}"
            info = ErrorInfo(type=type(exc).__name__, message=message, stage="start")
            raise LoadError(message, info=info) from exc

    async def _spawn(self) -> None:
        spec = self._spec
        try:
            if spec.standby is not None:
                self._kernel = await spec.standby.take(self._log_path, self._print)
            if (kernel := self._kernel) is None:
                self._kernel = kernel = WorkerKernel(spec.context, spec.runtime_dir, self._print)
                await kernel.start(self._env(), self._log_path, spec.start)
            self._note_start(kernel.started)
            stream = FrameStream(self._on_frame, self._on_broken_stream, self._on_stream_closed)
            self._transport = await kernel.connect(stream)
        except Exception:
            self._life.move("died")
            await self._close_kernel()
            self._gone.set()
            raise

    def _env(self) -> dict[str, str]:
        return environment(self.plan, self._spec.config, self._spec.runtime_dir)

    def _note_start(self, how: str) -> None:
        """Status shows how it was started; where it could not be forked, that is said once for each reason."""
        if how.startswith("spawned: ") and how != self.started_how and self._spec.config.start != "spawn":
            log.info("%s worker %d was %s", self._spec.name, self.id, how)
            self._emit(kind="gateway", text=f"worker {self.id} was {how}", data={"start": how})
        self.started_how = how

    # -- work --------------------------------------------------------------------------------------------------------

    def send(
        self,
        batch_id: int,
        items: list[RequestItem],
        bodies: Sequence[Buffer],
        flags: Flag = Flag.NONE,
        timeout_s: float | None = None,
    ) -> None:
        """Send one batch. After `timeout_s` its user code is interrupted, and killed if that does not help."""
        assert self._transport is not None
        self._life.move("sent")
        self._in_hand.add(batch_id, timeout_s)
        self.batches += 1
        if not flags or not flags & Flag.WARMUP:  # `&` of enums takes 1 us, and most batches have none
            self.requests += len(items)
        meta = encode_meta(items)
        place = self._place_in_arena(batch_id, bodies)
        if place is not None:
            self._write(Frame(Kind.BATCH, flags | Flag.MEMFD, batch_id, meta, bodies, place))
        else:
            self._write(Frame(Kind.BATCH, flags, batch_id, meta, bodies))

    def _place_in_arena(self, batch_id: int, bodies: Sequence[Buffer]) -> int | None:
        """Where the bodies of a large batch now lie in shared memory; None = they go over the stream."""
        if not self._takes_memfd or self._kernel is None or self._kernel.arena is None:
            return None
        if sum(map(len, bodies)) < LARGE_BYTES:
            return None
        return self._kernel.arena.lay(batch_id, bodies)

    def place(self, plan: WorkerPlan) -> None:
        """Run by this plan from now on; at once where it runs, else from its next start."""
        if plan == self.plan:
            return
        self.plan = plan
        if self.ready is not None and self.is_alive:
            self.ready.cores, self.ready.threads = list(plan.cores), plan.threads
            meta = encode_meta(Place(list(plan.cores), plan.threads))
            self._write(Frame(Kind.PLACE, meta=meta))

    def profile(self, asked: Profile, hear: Callable[[Worker, Profiled], None]) -> None:
        """Have it profile itself, or stop that; `hear` is told what came of it. Only where `can_profile`."""
        self._hear_profiled = hear
        self._write(Frame(Kind.PROFILE, meta=encode_meta(asked)))

    def probe(self, timeout_s: float) -> None:
        """Ask for a sign of life: an empty batch, which it answers at once; killed if it has not after `timeout_s`.

        For workers that hang though nothing was asked of them, such as a thread of the handler that keeps the GIL.
        """
        assert self._transport is not None
        self._probe_timer = self._loop.call_later(timeout_s, self._deaf)
        self._write(Frame(Kind.BATCH, Flag.WARMUP, _PROBE_ID, encode_meta([])))

    def _deaf(self) -> None:
        if self.state != "PAUSED" and not self._in_hand and self.hold is None:
            log.warning("%s worker %d gives no sign of life, it is killed", self._spec.name, self.id)
            self.kill()

    def _write(self, frame: Frame) -> None:
        """Send a frame. A stream that has just closed takes none: what was in hand is reported lost by `_bury`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(pack(frame))

    def _interrupt(self, batch_id: int) -> None:
        if self._kernel is not None and self._transport is not None:
            self._write(Frame(Kind.CANCEL, batch_id=batch_id))
            self._kernel.interrupt(batch_id)

    # -- frames in ---------------------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        if frame.kind is Kind.ANSWER:
            self._on_answer(frame)
        elif frame.kind is Kind.RELEASE:
            self._on_release(frame.batch_id)
        elif frame.kind is Kind.HELLO:
            self._on_hello(frame)
        elif frame.kind is Kind.READY:
            self._on_ready(decode_meta(frame.meta, Ready))
        elif frame.kind is Kind.FAILED:
            self._on_failed(decode_meta(frame.meta, ErrorInfo))
        elif frame.kind is Kind.PAUSED:
            self._pauses.shell_taken()
        elif frame.kind is Kind.RESUMED:
            self._pauses.shell_free()
        elif frame.kind is Kind.PROFILED:
            self._on_profiled(decode_meta(frame.meta, Profiled))
        elif frame.kind is Kind.NOTICE:
            self._spec.notice(decode_meta(frame.meta, Notice).text, self.id)
        else:
            raise WireError(f"unexpected {frame.kind.name} frame from a worker")

    def _on_release(self, batch_id: int) -> None:
        if self._kernel is None or self._kernel.arena is None:
            raise WireError(f"RELEASE of batch {batch_id} by a worker without an arena")
        self._kernel.arena.release(batch_id)

    def _on_profiled(self, profiled: Profiled) -> None:
        if self._hear_profiled is None:
            raise WireError("PROFILED by a worker that was not asked to")
        self._hear_profiled(self, profiled)

    def _on_hello(self, frame: Frame) -> None:
        hello = decode_meta(frame.meta, Hello)
        if VERSION not in hello.versions:
            raise WireError(f"the worker speaks frames {hello.versions}, this gateway v{VERSION}")
        self._takes_memfd, self.can_profile = hello.memfd, hello.profile
        self._life.move("hello")
        if self.state == "DRAINING":  # it was told to leave before there was a stream to say so
            self._write(Frame(Kind.DRAIN))
            return
        self._loop.create_task(self._send_load()).add_done_callback(_log_failure)

    async def _send_load(self) -> None:
        assert self._kernel is not None
        self._kernel.follow_prints()
        # Prints of `initialize` must not be lost: wait until the subscription to iopub is known to work.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PRINTS_WAIT_S):
                await self._kernel.prints_on.wait()
        weights = await self._spec.weights.on(self.plan.node) if self._spec.weights is not None else {}
        if self.state != "LOADING" or self._transport is None:
            return
        assert self._loading is not None
        env = changes(self._kernel.env, self._env())
        is_first = self.id == 0 and self.restarts == 0
        load = load_message(self._spec, self.id, self.plan, env, weights, is_first=is_first)
        self._write(Frame(Kind.HELLO, meta=encode_meta(Hello([VERSION], "nbserve-gateway", os.getpid()))))
        self._write(Frame(Kind.LOAD, batch_id=self._loading.begin(), meta=encode_meta(load)))
        self._stage("initialize")

    def _on_ready(self, ready: Ready) -> None:
        if ready.cores and tuple(ready.cores) != self.plan.cores:
            log.warning("%s worker %d runs on %s, planned %s", self._spec.name, self.id, ready.cores, self.plan.cores)
        self.ready, self.device_memory = ready, ready.device_memory
        self._life.move("ready")
        assert self._loading is not None
        self._loading.ready(ready)
        self._emit_state()

    def _on_failed(self, info: ErrorInfo) -> None:
        assert self._loading is not None
        self._loading.failed(info)
        self.kill()

    def _on_answer(self, frame: Frame) -> None:
        meta = decode_meta(frame.meta, AnswerMeta)
        self.device_memory = meta.device_memory or self.device_memory
        if frame.batch_id == _PROBE_ID:
            self._end_probe()
            return
        if frame.batch_id not in self._in_hand:
            raise WireError(f"answer for batch {frame.batch_id}, which this worker does not have")
        self.answered += sum(item.error is None for item in meta.items)
        if meta.last:
            self._in_hand.remove(frame.batch_id)
            if not self._in_hand:
                self._life.move("answered")
        self._owner.batch_answered(self, frame.batch_id, meta, frame.bodies)

    def _end_probe(self) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()
            self._probe_timer = None

    # -- pauses ------------------------------------------------------------------------------------------------------

    @property
    def hold(self) -> Hold | None:
        """Somebody looks inside; see `take_hold`."""
        return self._pauses.hold

    def take_hold(self, seconds: float, *, serves: bool) -> None:
        """Somebody looks inside: no requests (`serves`: requests with no time limit), for so long or until `release`.

        What it has in hand it still answers. Raises Conflict where it is not running.
        """
        if not self.is_alive:
            raise Conflict(f"worker {self.id} of {self._spec.name} is {self.state}", hint="name one that is READY")
        self._pauses.take_hold(seconds, serves=serves)

    def release(self) -> None:
        """Give it back: it serves as before."""
        self._pauses.release()

    def _stand_aside(self) -> None:
        if self.state in ("READY", "BUSY"):
            self._life.move("paused")
            self._emit_state()
            self._owner.worker_gone(self, "paused: its shell is in use")

    def _come_back(self) -> None:
        if self.state == "PAUSED":
            self._life.move("resumed_busy" if self._in_hand else "resumed")
            self._emit_state()
            self._owner.worker_ready(self)

    # -- end ---------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Take no more batches; the kernel leaves once it has answered what it has."""
        if self.state in ("STOPPED", "FAILED", "DRAINING"):
            return
        self._life.move("drain")
        self._emit_state()
        self._owner.worker_gone(self, "draining")
        self._write(Frame(Kind.DRAIN))

    async def stop(self, grace_s: float) -> None:
        """Drain, wait up to `grace_s` for batches in hand, then kill. Returns when the process is gone."""
        self.drain()
        if self._kernel is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s if self._in_hand else min(grace_s, EXIT_GRACE_S)):
                await self._gone.wait()
        if not self._gone.is_set():
            self.kill()
            await self._gone.wait()

    def kill(self) -> None:
        """SIGKILL to the kernel's process group; what it had in hand is reported lost when the stream closes."""
        if self._kernel is not None:
            self._kernel.kill()

    def give_up(self, info: ErrorInfo) -> None:
        """No more restarts: FAILED, with the reason shown in status."""
        self.error = info
        self._life.move("gave_up")
        self._emit_state()

    def _on_broken_stream(self, exc: WireError) -> None:
        log.error("%s worker %d: %s: %s", self._spec.name, self.id, type(exc).__name__, exc)
        self.kill()
        if self._transport is not None:
            self._transport.abort()

    def _on_stream_closed(self) -> None:
        self._loop.create_task(self._bury()).add_done_callback(_log_failure)

    async def _bury(self) -> None:
        """The stream has ended: reap the process, report what is lost, clean up."""
        assert self._kernel is not None
        code = await self._kernel.reap()
        progress = self._kernel.progress
        await self._close_kernel()
        info = await asyncio.to_thread(self._explain, code, progress.stage)
        was_draining = self.state == "DRAINING"
        self._life.move("died")
        self._transport = None
        self._pauses.end()
        self._end_probe()
        self._emit_state()
        if not was_draining:
            self._owner.worker_gone(self, info.message)
        for batch_id, late in self._in_hand.lose().items():
            reason = obituary.time_limit(info, self._spec.config.response_timeout_s) if late else info
            self._owner.batch_lost(self, batch_id, reason, began=progress.batch_id == batch_id)
        assert self._loading is not None
        if not self._loading.failed(info) and not was_draining and self._loading.is_loaded:
            self.error = info
            self._owner.worker_died(self, info)
        self._gone.set()

    def _explain(self, code: int | None, stage: str) -> ErrorInfo:
        """In a thread: reads its log, its bundle, and what the cgroups say."""
        info = obituary.death(code, stage, self._log_path, self._spec.locate)
        self._memory.explain(info)
        return info

    async def _close_kernel(self) -> None:
        if self._kernel is not None:
            await self._kernel.close()
            self._kernel = None

    # -- prints and status -------------------------------------------------------------------------------------------

    def _print(self, printed: Printed) -> None:
        """A log event, marked with worker, batch and request ids."""
        batch_id = printed.batch_id
        self._emit(
            kind="log",
            text=printed.text,
            stream=printed.stream,
            batch_id=batch_id if batch_id is not None and batch_id < FIRST_LOAD_ID else None,
            request_ids=printed.request_ids,
        )

    def rss_bytes(self) -> int:
        """Its memory now; 0 where it has no process."""
        return self._kernel.rss_bytes() if self._kernel is not None else 0

    def usage(self) -> Usage | None:
        """Memory and CPU time; None where it has no process. Takes milliseconds: for a thread."""
        return kernel.usage() if (kernel := self._kernel) is not None else None

    def overwritten_bytes(self) -> int | None:
        """What it has written over of its mapped weights; None where unknown. Takes milliseconds: for a thread."""
        return kernel.overwritten_bytes(self._spec.bundle_path) if (kernel := self._kernel) is not None else None

    def status(self, usage: Usage | None = None) -> WorkerStatus:
        """A snapshot, with what it was found to use."""
        return status_of(self, usage)

    @property
    def _log_path(self) -> Path:
        return self._spec.runtime_dir / f"{self._spec.name[:40]}-{self._spec.version[:12]}-{self.id}.log"

    def _stage(self, stage: str) -> None:
        self._emit(kind="stage", stage=stage)

    def _emit_state(self) -> None:
        self._emit(kind="state", state=self.state, error=self.error)

    def _emit(self, **fields: Any) -> None:
        self._spec.tell(worker=self.id, **fields)


_PROBE_ID = FIRST_LOAD_ID - 1


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (exc := task.exception()) is not None:
        log.error("worker task failed", exc_info=exc)
