"""The worker's loop: frames in, the handler, frames out, on the kernel's main thread.

Started by worker/__main__.py. Reading is a callback of the kernel's own event loop with blocking reads of whole frames;
that costs as much as a thread would and lets an interrupt reach the handler (measured: docs/worker-protocol.md).
Everything that can go wrong with a frame is a named error and ends the worker; what goes wrong in user code is an
answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import psutil

from nbserve.errors import EndOfFile, WireError
from nbserve.pipeline import Answer, DeviceLost, Item, Outcome
from nbserve.redaction import Hiding
from nbserve.tracebacks import describe
from nbserve.wire.arena import ArenaView
from nbserve.wire.frames import VERSION, Flag, Frame, Kind, decode_meta, encode_meta
from nbserve.wire.messages import AnswerItem, AnswerMeta, Hello, Load, Notice, Place, RequestItem, Timings
from nbserve.wire.statuspage import StatusPage
from nbserve.worker.device import DeviceMeter
from nbserve.worker.drift import Looks
from nbserve.worker.guard import Cancelled, Guard
from nbserve.worker.session import Session, move_threads, seed_everything, set_threads
from nbserve.worker.stream import DataStream

if TYPE_CHECKING:
    from nbserve.worker.profiler import Profiler

__all__ = ["WorkerLoop"]

log = logging.getLogger("nbserve.worker")

PATIENCE_MS = 1
"""Frames that follow one another within this time are waited for in the stream itself, not in the kernel's loop."""
TURN_S = 0.005
"""So long, and a batch, before the loop gets its turn: a console, a timer."""
DEVICE_LOST_EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h."""


class WorkerLoop:
    """Serves one data stream until it ends."""

    def __init__(self, sock: socket.socket, page: StatusPage, app: Any, last_words_fd: int) -> None:
        self._arena = ArenaView(page.fd)
        self._stream = DataStream(sock, self._arena)
        self._page = page
        self._app = app
        self._last_words_fd = last_words_fd
        self._guard = Guard(page)
        self._session: Session | None = None
        self._profiler: Profiler | None = None
        self._looks: Looks | None = None
        self._redact: frozenset[str] = frozenset()
        self._device = DeviceMeter("cpu")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}  # of coroutine handlers, by batch
        self._turn = asyncio.Lock()  # one batch after the other, in the order in which they came
        self._drains = self._has_left = False
        self._last_s = 0.0  # when the last frame was done with
        self._print_header = {
            "msg_type": "nbserve_batch",
            "session": app.session.session,
            "username": app.session.username,
            "version": "5.3",
        }
        self._handlers: dict[Kind, Callable[[Frame], None]] = {
            Kind.HELLO: self._on_hello,
            Kind.LOAD: self._on_load,
            Kind.BATCH: self._on_batch,
            Kind.CANCEL: self._on_cancel,
            Kind.DRAIN: self._on_drain,
            Kind.PLACE: self._on_place,
            Kind.PROFILE: self._on_profile,
        }

    @classmethod
    def from_environment(cls, app: Any, last_words_fd: int) -> WorkerLoop:
        """The stream and page that the provisioner left in the environment; taken out of it, with the markers."""
        sock = socket.socket(fileno=int(os.environ.pop("NBSERVE_DATA_FD")))
        page = StatusPage(int(os.environ.pop("NBSERVE_STATUS_FD")))
        sock.setblocking(True)
        return cls(sock, page, app, last_words_fd)

    def start(self) -> None:
        """Say HELLO and begin to read; called on the kernel's loop."""
        self._loop = asyncio.get_running_loop()
        self._page.set_progress(0, "start")
        events = self._app.shell.events
        events.register("pre_execute", lambda: self._send(Frame(Kind.PAUSED)))
        events.register("post_execute", lambda: self._send(Frame(Kind.RESUMED)))
        hello = Hello([VERSION], "nbserve-python", os.getpid(), memfd=True, profile=True)
        self._send(Frame(Kind.HELLO, meta=encode_meta(hello)))
        self._loop.add_reader(self._stream.sock, self._on_readable)

    # -- frames in ---------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        """One frame; and, where they come closely, those that follow, for as long as a turn lasts."""
        if self._has_left:
            return
        began_s = time.monotonic()
        comes_closely = began_s - self._last_s < PATIENCE_MS / 1e3
        try:
            frame: Frame | None = self._stream.read()
            while frame is not None:
                handle = self._handlers.get(frame.kind)
                if handle is None:
                    raise WireError(f"unexpected {frame.kind.name} frame from the gateway")
                handle(frame)
                del frame
                self._release()
                now_s = self._last_s = time.monotonic()
                if not comes_closely or now_s - began_s > TURN_S or self._tasks or self._has_left:
                    break
                frame = self._stream.poll(PATIENCE_MS)
            else:
                self._last_s = 0.0  # they come less closely now
            if self._stream.holds_frame:  # by way of the loop: a console must get its turn
                assert self._loop is not None
                self._loop.call_soon(self._on_readable)
        except EndOfFile:
            self._exit()
        except (WireError, OSError) as exc:
            log.error("data stream: %s: %s", type(exc).__name__, exc)
            self._exit()

    def _on_hello(self, frame: Frame) -> None:
        if VERSION not in decode_meta(frame.meta, Hello).versions:
            raise WireError(f"the gateway does not speak frames v{VERSION}")

    def _on_load(self, frame: Frame) -> None:
        load = decode_meta(frame.meta, Load)
        self._redact = frozenset(name.lower() for name in load.redact)
        stage = "import"

        def on_stage(name: str) -> None:
            nonlocal stage
            stage = name
            self._page.set_progress(frame.batch_id, name)

        self._mark_prints(frame.batch_id, [])
        try:
            with self._guard(frame.batch_id):
                self._session = session = Session(load, on_stage)
                pending = session.load()
        except BaseException as exc:
            self._send_failed(frame.batch_id, exc, stage)
            return
        if pending is None:
            self._send_ready(frame.batch_id)
        else:
            self._run_task(frame.batch_id, self._finish_load(frame.batch_id, pending))

    async def _finish_load(self, batch_id: int, pending: Any) -> None:
        try:
            await pending
        except BaseException as exc:
            self._send_failed(batch_id, exc, "initialize")
        else:
            self._send_ready(batch_id)

    def _on_batch(self, frame: Frame) -> None:
        session = self._session
        if session is None:
            raise WireError("BATCH before READY")
        metas = decode_meta(frame.meta, list[RequestItem])
        if len(metas) != len(frame.bodies):
            raise WireError(f"{len(metas)} items described, {len(frame.bodies)} sent")
        items = [
            Item(body, meta.content_type, meta.request_id, meta.route, meta.headers)
            for body, meta in zip(frame.bodies, metas, strict=True)
        ]
        if session.pipeline.is_async:
            self._run_task(frame.batch_id, self._run_async(frame, items))
            return
        self._begin(session, frame, items)
        try:
            with self._guard(frame.batch_id):
                outcome = session.pipeline.run(items)
        except BaseException as exc:
            outcome = self._interrupted(exc, len(items))
        self._answer(frame.batch_id, items, outcome)
        if _is_seeded(frame):
            seed_everything(None)

    async def _run_async(self, frame: Frame, items: list[Item]) -> None:
        assert self._session is not None
        async with self._turn:
            self._begin(self._session, frame, items)
            try:
                outcome = await self._session.pipeline.run_async(items)
            except BaseException as exc:
                outcome = self._interrupted(exc, len(items))
            self._answer(frame.batch_id, items, outcome)
            if _is_seeded(frame):
                seed_everything(None)

    def _begin(self, session: Session, frame: Frame, items: list[Item]) -> None:
        """From here on this batch is the one in hand."""
        self._mark_prints(frame.batch_id, [item.request_id for item in items])
        if _is_seeded(frame):
            seed_everything(0)
        on_stage: Callable[[str], None] = partial(self._page.set_progress, frame.batch_id)
        if self._profiler is not None:
            on_stage = self._profiler.begin(frame.batch_id, items, on_stage)
        session.pipeline.set_on_stage(on_stage)

    def _on_cancel(self, frame: Frame) -> None:
        """For coroutine handlers; a plain handler's batch is over by the time this frame is read."""
        if (task := self._tasks.get(frame.batch_id)) is not None:
            task.cancel()

    def _on_place(self, frame: Frame) -> None:
        place = decode_meta(frame.meta, Place)
        move_threads(place.cores)
        set_threads(place.threads)

    def _on_profile(self, frame: Frame) -> None:
        """Begin a profile, or end the one that goes on."""
        from nbserve.wire.profile import Profile
        from nbserve.worker.profiler import Profiler

        asked = decode_meta(frame.meta, Profile)
        going_on = self._profiler
        if going_on is not None and (going_on.asked.id == asked.id or not asked.stop):
            going_on.stop()
        if asked.stop:
            return
        assert self._loop is not None
        if self._session is None:
            raise WireError("PROFILE before READY")
        pipeline = self._session.pipeline
        self._profiler = Profiler(
            asked,
            handler=pipeline.handler,
            device=pipeline.context.device,
            loop=self._loop,
            send=self._send,
            over=self._forget_profile,
        )
        self._profiler.start()

    def _forget_profile(self) -> None:
        self._profiler = None

    def _on_drain(self, frame: Frame) -> None:
        self._drains = True
        if not self._tasks:
            self._exit()

    def _run_task(self, batch_id: int, coroutine: Any) -> None:
        assert self._loop is not None
        self._tasks[batch_id] = task = self._loop.create_task(coroutine)
        task.add_done_callback(partial(self._task_done, batch_id))

    def _task_done(self, batch_id: int, task: asyncio.Task[None]) -> None:
        del self._tasks[batch_id]
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("data stream: %s: %s", type(exc).__name__, exc)
            self._exit()
        elif self._drains and not self._tasks:
            self._exit()
        elif not self._has_left:
            self._release()

    # -- frames out --------------------------------------------------------------------------------------------------

    def _send(self, frame: Frame) -> None:
        self._stream.write(frame)

    def _release(self) -> None:
        """Give back the room of batches that nobody looks at any more."""
        while self._arena.released:
            self._send(Frame(Kind.RELEASE, batch_id=self._arena.released.popleft()))

    def _send_ready(self, batch_id: int) -> None:
        assert self._session is not None
        ready = self._session.ready()
        self._device = DeviceMeter(ready.device)
        self._page.set_progress(0, "idle")
        pipeline = self._session.pipeline
        inside = {"handler": pipeline.handler, "context": pipeline.context}  # for who looks in by a console
        self._app.shell.push(inside, interactive=False)
        self._send(Frame(Kind.READY, batch_id=batch_id, meta=encode_meta(ready)))
        assert self._loop is not None
        self._looks = Looks(self._session.drift, self._loop, busy=lambda: bool(self._tasks), say=self._notice)

    def _notice(self, text: str) -> None:
        if not self._has_left:
            self._send(Frame(Kind.NOTICE, meta=encode_meta(Notice(text))))

    def _send_failed(self, batch_id: int, exc: BaseException, stage: str) -> None:
        locate = self._session.locate if self._session is not None else _locate_nothing
        info = describe(exc, locate, stage=stage)
        if isinstance(exc, (Cancelled, asyncio.CancelledError)):
            info.type, info.status = "StartupTimeout", 504
            info.message = f"still in {stage} when the start-up time was over"
        elif info.status == 507:
            info.type, info.message = "OutOfMemory", f"out of memory in {stage}: {memory_figures()} ({info.message})"
        flush_prints()
        self._send(Frame(Kind.FAILED, batch_id=batch_id, meta=encode_meta(info)))

    def _answer(self, batch_id: int, asked: Sequence[Item], outcome: Outcome) -> None:
        assert self._session is not None
        answers = outcome.answers
        if self._redact and any(answer.error is not None for answer in answers):
            hide = Hiding(asked, self._redact).error
            answers = [answer._replace(error=hide(answer.error)) if answer.error else answer for answer in answers]
        items = [
            AnswerItem(place, "error" if answer.error else "whole", answer.status, answer.content_type, answer.error)
            for place, answer in enumerate(answers)
        ]
        extra: dict[str, Any] = {}
        if outcome.isolation_s or outcome.memory_fits:
            trouble = {"isolation_s": outcome.isolation_s, "memory_fits": outcome.memory_fits}
            extra = {name: value for name, value in trouble.items() if value}
        metrics, device = self._session.pipeline.context.metrics.drain(), self._device.due()
        meta = AnswerMeta(items, outcome.timings, metrics, extra=extra, device_memory=device)
        bodies = [answer.body for answer in answers]
        self._send(Frame(Kind.ANSWER, batch_id=batch_id, meta=encode_meta(meta), bodies=bodies))
        # Only now: a batch that ran and was not answered must not look as if it had never begun.
        self._page.set_progress(0, "idle")
        if self._profiler is not None:
            self._profiler.end(batch_id, bodies)
        if self._looks is not None:
            self._looks.answered()

    def _interrupted(self, exc: BaseException, count: int) -> Outcome:
        """User code that ended by something that is no Exception: the time limit, or its own exit()."""
        assert self._session is not None
        if isinstance(exc, DeviceLost):
            self._end_with(exc)
        stage = self._page.progress.stage
        info = describe(exc, self._session.locate, stage=stage)
        if isinstance(exc, (Cancelled, asyncio.CancelledError)):
            info.type, info.status = "ResponseTimeout", 504
            info.message = f"the handler was still in {stage} when the response time was over"
        else:
            info.message = f"the handler raised {type(exc).__name__}({info.message})"
        return Outcome([Answer(b"", "", info.status, info)] * count, Timings())

    # -- around ------------------------------------------------------------------------------------------------------

    def _mark_prints(self, batch_id: int, request_ids: list[str]) -> None:
        """Parent header of what the handler prints: else it would land in whatever cell ran last."""
        header = {
            **self._print_header,
            "msg_id": f"nbserve-{batch_id}",
            "nbserve_batch": batch_id,
            "nbserve_requests": ",".join(request_ids),
        }
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "parent_header"):
                stream.parent_header = header

    def _end_with(self, exc: DeviceLost) -> NoReturn:
        """Die at once, the batch unanswered: the gateway tries its requests again, one by one, on a fresh worker."""
        print(f"the device is lost: {exc}", file=sys.stderr)
        flush_prints()
        os.write(self._last_words_fd, f"the device is lost: {exc}\n".encode(errors="replace"))
        os._exit(DEVICE_LOST_EXIT_CODE)

    def _exit(self) -> None:
        """End the kernel: by its own loop, so that atexit hooks run; by force if user threads hold it."""
        assert self._loop is not None
        if self._has_left:
            return
        self._has_left = True
        self._loop.remove_reader(self._stream.sock)
        self._stream.close()
        flush_prints()
        timer = threading.Timer(2.0, os._exit, args=(0,))
        timer.daemon = True
        timer.start()
        self._app.kernel.io_loop.add_callback(self._app.kernel.io_loop.stop)


def flush_prints() -> None:
    """Send what the handler printed now, before the frame or exit that it explains."""
    sys.stdout.flush()
    sys.stderr.flush()


def memory_figures() -> str:
    """What this process uses and what the machine has, in words."""
    used = psutil.Process().memory_info().rss
    machine = psutil.virtual_memory()
    return (
        f"the worker uses {used / 1e9:.1f} GB, {machine.available / 1e9:.1f} of {machine.total / 1e9:.1f} GB are free"
    )


def _is_seeded(frame: Frame) -> bool:
    return bool(frame.flags and frame.flags & Flag.SEEDED)  # first whether there are any: `&` of enums takes 1 us


def _locate_nothing(_file: str, _line: int) -> str | None:
    return None
