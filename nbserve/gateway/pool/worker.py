"""One worker as the gateway sees it: launch, handshake, load, batches, time limits, death.

Owns the kernel manager, the data stream and the status page of one worker kernel. Created by supervisor.py, which
decides about restarts; tells its owner of every change by callbacks, all on the gateway's loop. Every batch sent ends
in exactly one `batch_answered` or `batch_lost`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil
import zmq.asyncio
from jupyter_client.manager import AsyncKernelManager

from nbserve.bundle import Bundle
from nbserve.config import ModelConfig
from nbserve.errors import EndOfFile, ErrorInfo, LoadError, WireError
from nbserve.gateway.lifecycle import WORKER_MOVES, Lifecycle
from nbserve.gateway.pool import obituary
from nbserve.gateway.pool.placement import WorkerPlan
from nbserve.gateway.pool.provisioner import KERNEL, Channel, MemoryKernelSpecs, NbserveProvisioner
from nbserve.gateway.pool.topology import read_memory
from nbserve.wire.frames import VERSION, Buffer, Flag, Frame, FrameReader, Kind, decode_meta, encode_meta, pack
from nbserve.wire.management import Event, WorkerState, WorkerStatus
from nbserve.wire.messages import AnswerMeta, Hello, Load, Place, Ready, RequestItem

__all__ = ["Worker", "WorkerOwner", "WorkerSpec"]

log = logging.getLogger("nbserve.pool")

INTERRUPT_GRACE_S = 5.0
"""How long an interrupted handler may take to come back before its worker is killed."""
EXIT_GRACE_S = 2.0
"""How long a worker may take to leave after its stream was closed."""


class WorkerOwner(Protocol):
    """Who is told what happens to a worker (supervisor.Pool)."""

    def worker_ready(self, worker: Worker) -> None: ...
    def worker_gone(self, worker: Worker, reason: str) -> None: ...
    def worker_died(self, worker: Worker, info: ErrorInfo) -> None: ...
    def batch_answered(self, worker: Worker, batch_id: int, meta: AnswerMeta, bodies: Sequence[Buffer]) -> None: ...
    def batch_lost(self, worker: Worker, batch_id: int, info: ErrorInfo) -> None: ...


class WorkerSpec:
    """What all workers of a version share."""

    def __init__(
        self,
        *,
        bundle_path: Path,
        name: str,
        version: str,
        config: ModelConfig,
        runtime_dir: Path,
        development: bool,
        emit: Callable[[Event], None],
        context: zmq.asyncio.Context,
    ) -> None:
        self.bundle_path = bundle_path
        self.name = name
        self.version = version
        self.config = config
        self.runtime_dir = runtime_dir
        self.development = development
        self.emit = emit
        self.context = context
        self.locate = Bundle.open(bundle_path).locate


class _Stream(asyncio.Protocol):
    """The gateway's side of the data stream: bytes -> frames -> the worker's handlers."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._reader = FrameReader()

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._worker._on_frame(frame)
        except WireError as exc:
            self._worker._on_broken_stream(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            self._reader.eof()
        except EndOfFile:  # between two frames: how every stream ends
            pass
        except WireError as broken:
            log.warning("worker %d: %s: %s", self._worker.id, type(broken).__name__, broken)
        self._worker._on_stream_closed()


class Worker:
    """One worker kernel. `launch` may be called again after it has stopped or failed."""

    def __init__(self, id: int, spec: WorkerSpec, plan: WorkerPlan, owner: WorkerOwner) -> None:  # noqa: A002
        self.id = id
        self.plan = plan
        self.ready: Ready | None = None
        self.pid: int | None = None
        self.restarts = 0
        self.batches = 0
        self.requests = 0
        self.is_warm = False
        """Whether it has answered the sample since it was last launched; kept by its owner."""
        self.answered = 0
        """Requests answered well since it was last launched."""
        self.error: ErrorInfo | None = None
        self.started_at = 0.0
        self._spec = spec
        self._owner = owner
        self._life = Lifecycle(f"{spec.name} worker {id}", WORKER_MOVES, "STOPPED")
        self._loop = asyncio.get_running_loop()
        self._manager: AsyncKernelManager | None = None
        self._channel: Channel | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._in_flight: dict[int, asyncio.TimerHandle | None] = {}
        self._load_id = 0
        self._loaded: asyncio.Future[Ready] | None = None
        self._prints: asyncio.Task[None] | None = None
        self._prints_on = asyncio.Event()
        self._gone = asyncio.Event()
        self._peak_rss_bytes = 0
        self._oom_kills = 0
        self._timed_out: set[int] = set()
        self._probe_timer: asyncio.TimerHandle | None = None

    @property
    def state(self) -> WorkerState:
        """Where it is in its life (lifecycle.WORKER_MOVES)."""
        return self._life.state

    # -- start -------------------------------------------------------------------------------------------------------

    async def launch(self) -> None:
        """Start the kernel and have it load the bundle; returns when READY. Raises LoadError naming the stage."""
        self._life.move("start")
        self._gone.clear()
        self._prints_on.clear()
        self._load_id = 0
        self.is_warm = False
        self.error, self.ready, self._peak_rss_bytes, self.answered = None, None, 0, 0
        self.started_at = time.time()
        self._loaded = self._loop.create_future()
        self._loaded.add_done_callback(lambda future: future.exception())  # retrieved, even if launch was cancelled
        self._oom_kills = read_memory().oom_kills
        watch = self._loop.create_task(self._watch_memory())
        try:
            await self._spawned()
            self._stage("start")
            await asyncio.wait([self._loaded], timeout=self._spec.config.startup_timeout_s)
            if not self._loaded.done():
                await self._interrupt_load()
        finally:
            watch.cancel()
        try:
            self.ready = await self._loaded
        except LoadError as exc:
            self.error = exc.to_info()
            raise LoadError(self.error.message, info=self.error) from None

    async def _spawned(self) -> None:
        """Start the process, to the end even when cancelled: half a start could not be stopped."""
        spawn = self._loop.create_task(self._spawn())
        try:
            await asyncio.shield(spawn)
        except BaseException as exc:
            await asyncio.wait([spawn])
            failure = spawn.exception()
            if failure is not None:
                self._life.move("died")
                await self._end_prints()
                self._gone.set()
            if failure is exc:
                message = f"the worker's kernel could not be started: {type(exc).__name__}: {exc}"
                raise LoadError(
                    message, info=ErrorInfo(type=type(exc).__name__, message=message, stage="start")
                ) from exc
            raise

    async def _spawn(self) -> None:
        spec, runtime = self._spec, self._spec.runtime_dir
        stem = runtime / f"w{os.urandom(4).hex()}"  # unix socket paths end at 107 characters
        manager = AsyncKernelManager(
            kernel_name=KERNEL,
            kernel_spec_manager=MemoryKernelSpecs(),
            transport="ipc",
            ip=str(stem),
            connection_file=f"{stem}.json",
            context=spec.context,
        )
        manager.transport_encryption = "disabled"
        self._manager = manager
        log_path = self._log_path
        with log_path.open("wb") as output:
            await manager.start_kernel(env=self._environment(), stdout=output, stderr=output, cwd=os.getcwd())
        provisioner = manager.provisioner
        assert isinstance(provisioner, NbserveProvisioner)
        assert provisioner.channel is not None
        self._channel = provisioner.channel
        self.pid = provisioner.pid
        self._prints = self._loop.create_task(self._follow_prints(manager))
        transport, _ = await self._loop.create_connection(lambda: _Stream(self), sock=self._channel.sock)
        self._transport = transport

    def _environment(self) -> dict[str, str]:
        threads = str(self.plan.threads)
        hidden = ("JPY_SESSION_NAME", "PYTHONINSPECT", "NBSERVE_TOKEN")
        env = {key: value for key, value in os.environ.items() if key not in hidden}
        env |= {
            "NBSERVE_CORES": ",".join(map(str, self.plan.cores)),
            # Spinning at barriers while a sibling is descheduled is the loss that was measured (2-4x CPU).
            "OMP_WAIT_POLICY": "PASSIVE",
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "NUMEXPR_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "false",
            "IPYTHONDIR": str(self._spec.runtime_dir / "ipython"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        device = self._spec.config.device
        if device == "cpu":
            env["CUDA_VISIBLE_DEVICES"] = ""
        return env | self._spec.config.env

    async def _interrupt_load(self) -> None:
        """The start-up time is over: ask user code to stop, so that its stack can be shown; then kill."""
        assert self._loaded is not None
        stage = self._channel.page.progress.stage if self._channel else "start"
        deaf = ""
        if self._load_id:  # before LOAD was sent there is no user code, and a SIGINT would only end the process
            self._interrupt(self._load_id)
            await asyncio.wait([self._loaded], timeout=INTERRUPT_GRACE_S)
            deaf = ", and did not stop when interrupted"
        if not self._loaded.done():
            limit = self._spec.config.startup_timeout_s
            info = ErrorInfo(
                type="StartupTimeout",
                message=f"still in {stage} after {limit:g} s{deaf}",
                status=504,
                stage=stage,
                hint="raise --startup-timeout-s, or make this stage quicker",
            )
            self._loaded.set_exception(LoadError(info.message, info=info))
            self.kill()
        elif (exc := self._loaded.exception()) is not None and isinstance(exc, LoadError) and exc.info is not None:
            exc.info.hint = exc.info.hint or "raise --startup-timeout-s, or make this stage quicker"

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
        timer = self._loop.call_later(timeout_s, self._expire, batch_id) if timeout_s is not None else None
        self._in_flight[batch_id] = timer
        self.batches += 1
        if not flags & Flag.WARMUP:
            self.requests += len(items)
        self._write(Frame(Kind.BATCH, flags, batch_id, encode_meta(items), bodies))

    def place(self, plan: WorkerPlan) -> None:
        """Run by this plan from now on; at once where it runs, else from its next start."""
        if plan == self.plan:
            return
        self.plan = plan
        if self.ready is not None and self.state in ("READY", "BUSY", "PAUSED") and self._transport is not None:
            self.ready.cores, self.ready.threads = list(plan.cores), plan.threads
            meta = encode_meta(Place(list(plan.cores), plan.threads))
            self._write(Frame(Kind.PLACE, meta=meta))

    def probe(self, timeout_s: float) -> None:
        """Ask for a sign of life: an empty batch, which it answers at once; killed if it has not after `timeout_s`.

        For workers that hang though nothing was asked of them, such as a thread of the handler that keeps the GIL.
        """
        assert self._transport is not None
        self._probe_timer = self._loop.call_later(timeout_s, self._deaf)
        self._write(Frame(Kind.BATCH, Flag.WARMUP, _PROBE_ID, encode_meta([])))

    def _deaf(self) -> None:
        if self.state != "PAUSED" and not self._in_flight:
            log.warning("%s worker %d gives no sign of life, it is killed", self._spec.name, self.id)
            self.kill()

    def _write(self, frame: Frame) -> None:
        """Send a frame. A stream that has just closed takes none: what was in hand is reported lost by `_bury`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(pack(frame))

    def _expire(self, batch_id: int) -> None:
        if batch_id in self._in_flight and self.state != "PAUSED":
            self._timed_out.add(batch_id)
            self._interrupt(batch_id)
            self._in_flight[batch_id] = self._loop.call_later(INTERRUPT_GRACE_S, self.kill)

    def _interrupt(self, batch_id: int) -> None:
        if self._channel is None or self._transport is None or self.pid is None:
            return
        self._channel.page.cancelled = batch_id
        self._write(Frame(Kind.CANCEL, batch_id=batch_id))
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)

    # -- frames in ---------------------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        if frame.kind is Kind.ANSWER:
            self._on_answer(frame)
        elif frame.kind is Kind.HELLO:
            self._on_hello(frame)
        elif frame.kind is Kind.READY:
            self._on_ready(decode_meta(frame.meta, Ready))
        elif frame.kind is Kind.FAILED:
            info = decode_meta(frame.meta, ErrorInfo)
            self._fail_load(info)
        elif frame.kind is Kind.PAUSED:
            self._pause()
        elif frame.kind is Kind.RESUMED:
            self._resume()
        else:
            raise WireError(f"unexpected {frame.kind.name} frame from a worker")

    def _on_hello(self, frame: Frame) -> None:
        hello = decode_meta(frame.meta, Hello)
        if VERSION not in hello.versions:
            raise WireError(f"the worker speaks frames {hello.versions}, this gateway v{VERSION}")
        self._life.move("hello")
        self._loop.create_task(self._send_load()).add_done_callback(_log_failure)

    async def _send_load(self) -> None:
        # Prints of `initialize` must not be lost: wait until the subscription to iopub is known to work.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await self._prints_on.wait()
        if self.state != "LOADING" or self._transport is None:
            return
        spec = self._spec
        self._load_id = next(_load_ids)
        load = Load(
            bundle=str(spec.bundle_path),
            name=spec.name,
            version=spec.version,
            worker=self.id,
            threads=self.plan.threads,
            cores=list(self.plan.cores),
            device=spec.config.device,
            development=spec.development,
            isolate=spec.config.isolate == "on",
        )
        hello = Frame(Kind.HELLO, meta=encode_meta(Hello([VERSION], "nbserve-gateway", os.getpid())))
        self._write(hello)
        self._write(Frame(Kind.LOAD, batch_id=self._load_id, meta=encode_meta(load)))
        self._stage("initialize")

    def _on_ready(self, ready: Ready) -> None:
        if ready.cores and tuple(ready.cores) != self.plan.cores:
            log.warning("%s worker %d runs on %s, planned %s", self._spec.name, self.id, ready.cores, self.plan.cores)
        self.ready = ready
        self._life.move("ready")
        assert self._loaded is not None
        if not self._loaded.done():
            self._loaded.set_result(ready)
        self._emit_state()

    def _on_answer(self, frame: Frame) -> None:
        meta = decode_meta(frame.meta, AnswerMeta)
        if frame.batch_id == _PROBE_ID:
            self._end_probe()
            return
        if frame.batch_id not in self._in_flight:
            raise WireError(f"answer for batch {frame.batch_id}, which this worker does not have")
        self.answered += sum(item.error is None for item in meta.items)
        if meta.last:
            timer = self._in_flight.pop(frame.batch_id)
            if timer is not None:
                timer.cancel()
            self._timed_out.discard(frame.batch_id)
            if not self._in_flight:
                self._life.move("answered")
        self._owner.batch_answered(self, frame.batch_id, meta, frame.bodies)

    def _end_probe(self) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()
            self._probe_timer = None

    def _pause(self) -> None:
        """Somebody uses the worker's shell: no new batches, and the clocks of its batches stop."""
        if self.state not in ("READY", "BUSY"):
            return
        self._life.move("paused")
        for batch_id, timer in self._in_flight.items():
            if timer is not None:
                timer.cancel()
                self._in_flight[batch_id] = None
        self._emit_state()
        self._owner.worker_gone(self, "paused: its shell is in use")

    def _resume(self) -> None:
        if self.state != "PAUSED":
            return
        self._life.move("resumed")
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
        if self._manager is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s if self._in_flight else min(grace_s, EXIT_GRACE_S)):
                await self._gone.wait()
        if not self._gone.is_set():
            self.kill()
            await self._gone.wait()

    def kill(self) -> None:
        """SIGKILL to the kernel's process group; what it had in hand is reported lost when the stream closes."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

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
        code = await self._reap()
        await self._end_prints()
        stage = self._channel.page.progress.stage if self._channel is not None else ""
        info = obituary.death(code, stage, self._log_path, self._spec.locate)
        obituary.explain_memory(info, self._peak_rss_bytes, read_memory(), self._oom_kills)
        was_draining = self.state == "DRAINING"
        self._life.move("died")
        self.pid, self._transport = None, None
        if self._channel is not None:
            self._channel.page.close()
            self._channel = None
        self._end_probe()
        lost, self._in_flight = self._in_flight, {}
        for timer in lost.values():
            if timer is not None:
                timer.cancel()
        self._emit_state()
        if not was_draining:
            self._owner.worker_gone(self, info.message)
        for batch_id in lost:
            timed_out = batch_id in self._timed_out
            reason = obituary.time_limit(info, self._spec.config.response_timeout_s) if timed_out else info
            self._owner.batch_lost(self, batch_id, reason)
        self._timed_out.clear()
        loaded = self._loaded
        if loaded is not None and not loaded.done():
            loaded.set_exception(LoadError(info.message, info=info))
        elif not was_draining and loaded is not None and loaded.exception() is None:
            self.error = info
            self._owner.worker_died(self, info)
        self._gone.set()

    async def _reap(self) -> int | None:
        manager = self._manager
        if manager is None or manager.provisioner is None:
            return None
        code: int | None = None
        deadline = self._loop.time() + EXIT_GRACE_S
        while (code := await manager.provisioner.poll()) is None:
            if self._loop.time() > deadline:
                self.kill()
                deadline += EXIT_GRACE_S
            await asyncio.sleep(0.005)
        return code

    async def _end_prints(self) -> None:
        manager = self._manager
        if self._prints is not None:
            await asyncio.sleep(0)  # what iopub has received is delivered first
            self._prints.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._prints
            self._prints = None
        if manager is not None:
            with contextlib.suppress(OSError):
                await manager.cleanup_resources()
            manager.cleanup_ipc_files()
            self._manager = None

    def _fail_load(self, info: ErrorInfo) -> None:
        assert self._loaded is not None
        if not self._loaded.done():
            self._loaded.set_exception(LoadError(info.message, info=info))
        self.kill()

    # -- prints and status -------------------------------------------------------------------------------------------

    async def _follow_prints(self, manager: AsyncKernelManager) -> None:
        """Jupyter's iopub -> log events, marked with worker, batch and request ids."""
        client = manager.client()
        client.start_channels(shell=False, iopub=True, stdin=False, hb=False, control=False)
        try:
            while True:
                message = await client.iopub_channel.get_msg(timeout=None)
                self._prints_on.set()
                if message["msg_type"] == "stream":
                    parent = message.get("parent_header") or {}
                    batch_id, requests = parent.get("nbserve_batch"), parent.get("nbserve_requests") or ""
                    self._emit(
                        kind="log",
                        text=message["content"]["text"],
                        stream=message["content"]["name"],
                        batch_id=batch_id if batch_id is not None and batch_id < _FIRST_LOAD_ID else None,
                        request_ids=requests.split(",") if requests else [],
                    )
        finally:
            client.stop_channels()

    async def _watch_memory(self) -> None:
        """Peak memory while loading, to tell an out-of-memory death from another; 4 looks a second."""
        while True:
            await asyncio.sleep(0.25)
            self._peak_rss_bytes = max(self._peak_rss_bytes, self.rss_bytes())

    def rss_bytes(self) -> int:
        """Its memory now; 0 where it has no process."""
        if self.pid is not None:
            with contextlib.suppress(psutil.Error):
                return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    def status(self) -> WorkerStatus:
        """A snapshot; reads /proc."""
        status = WorkerStatus(
            id=self.id,
            state=self.state,
            pid=self.pid,
            cores=list(self.ready.cores if self.ready else self.plan.cores),
            threads=self.plan.threads,
            device=self.ready.device if self.ready else self._spec.config.device,
            started_at=self.started_at,
            restarts=self.restarts,
            batches=self.batches,
            connection_file=self._manager.connection_file if self._manager else "",
            error=self.error,
        )
        if self.pid is not None:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(self.pid)
                memory = process.memory_full_info()
                times = process.cpu_times()
                status.rss_bytes, status.pss_bytes = memory.rss, getattr(memory, "pss", None)
                status.cpu_s = times.user + times.system
        return status

    @property
    def _log_path(self) -> Path:
        return self._spec.runtime_dir / f"{self._spec.name[:40]}-{self._spec.version[:12]}-{self.id}.log"

    def _stage(self, stage: str) -> None:
        self._emit(kind="stage", stage=stage)

    def _emit_state(self) -> None:
        self._emit(kind="state", state=self.state, error=self.error)

    def _emit(self, **fields: Any) -> None:
        spec = self._spec
        spec.emit(Event(seq=0, at=0.0, model=spec.name, version=spec.version, worker=self.id, **fields))


_FIRST_LOAD_ID = 1 << 63
_PROBE_ID = _FIRST_LOAD_ID - 1
_load_ids = itertools.count(_FIRST_LOAD_ID)
"""Ids of LOADs, which can be cancelled like batches: never those of batches, which count up from 1."""


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (exc := task.exception()) is not None:
        log.error("worker task failed", exc_info=exc)
