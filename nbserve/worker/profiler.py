"""A profile of a worker's batches while it serves: torch.profiler where the handler has loaded torch, and stage spans.

Made by worker/loop on a PROFILE frame and imported only then; the loop tells it of each batch's begin and end. It ends
itself at the first bound that is reached, with a PROFILED frame; if the gateway goes, it goes with the worker. Nothing
that goes wrong here may harm a batch: it becomes the `error` of the frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, cast

from nbserve.errors import NbserveError
from nbserve.pipeline import Item
from nbserve.wire.frames import Buffer, Frame, Kind, encode_meta
from nbserve.wire.profile import BatchSpan, ClockPair, Profile, Profiled, StageSpan
from nbserve.worker.profiler_args import Arguments, arguments_of

__all__ = ["BATCH_MARK", "Profiler"]

log = logging.getLogger("nbserve.worker")

BATCH_MARK = "nbserve batch "
"""What a batch is called in the torch trace, its id behind: by these the trace is put onto the worker's own clock."""

OnStage = Callable[[str], None]


class Profiler:
    """One profile. `send`: a frame to the gateway; `over`: called when it has ended, before PROFILED is sent.

    handler: may say by `profiler_args` how it is to be profiled.
    """

    def __init__(
        self,
        asked: Profile,
        *,
        handler: Any,
        device: str,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[Frame], None],
        over: Callable[[], None],
    ) -> None:
        self.asked = asked
        self._handler = handler
        self._arguments = Arguments({})
        self._device = device
        self._send = send
        self._over = over
        self._torch = sys.modules.get("torch")
        self._recorder: Any = None  # torch.profiler.profile
        self._first: tuple[Any, list[BatchSpan]] | None = None  # the warm-up batch, for want of others
        self._most = asked.batches
        self._truncated = ""
        self._spans: list[BatchSpan] = []
        self._ended = False
        self._open: _OpenBatch | None = None
        self._timer = loop.call_later(asked.seconds, self.stop)

    def start(self) -> None:
        """Begin; of one that waits for a single request only get ready. Requests go elsewhere meanwhile."""
        with self._guarded():
            if not self.asked.request_id:
                self._send(Frame(Kind.PAUSED))
                try:
                    self._record()
                finally:
                    self._send(Frame(Kind.RESUMED))
            elif self._torch is not None:
                import torch.profiler  # noqa: F401 - now, not while the request waits

    def begin(self, batch_id: int, items: Sequence[Item], on_stage: OnStage) -> OnStage:
        """A batch begins -> who is to be told of its stages."""
        wanted = self.asked.request_id
        if self._ended or not items or (wanted and all(item.request_id != wanted for item in items)):
            return on_stage  # without items it is a question for a sign of life
        try:
            if wanted:
                self._record()
            self._open = opened = _OpenBatch(batch_id, items, self._torch)
        except Exception as exc:
            self._fail(exc)
            return on_stage

        def tell(stage: str) -> None:
            on_stage(stage)
            opened.enter(stage)

        return tell

    def end(self, batch_id: int, bodies: Sequence[Buffer]) -> None:
        """A batch was answered."""
        opened, self._open = self._open, None
        if self._ended or opened is None or opened.batch_id != batch_id:
            return
        with self._guarded():
            self._spans.append(opened.close(sum(map(len, bodies))))
            if len(self._spans) >= self._most or self.asked.request_id:
                self.stop()
            elif self._first is None:
                self._weigh()

    def stop(self) -> None:
        """End it with what there is; also called when its time is over."""
        if self._ended:
            return
        self._ended = True
        self._timer.cancel()
        if self._open is not None:  # a coroutine's batch, still in hand
            self._open.close(0)
            self._open = None
        self._over()
        pauses = self._recorder is not None  # packing a trace takes seconds: requests go elsewhere
        if pauses:
            self._send(Frame(Kind.PAUSED))
        try:
            result = self._result()
        except Exception as exc:
            log.exception("the profile was lost")
            result = self._profiled(error=_said(exc))
        finally:
            self._recorder = self._first = None
        self._send(Frame(Kind.PROFILED, meta=encode_meta(result)))
        if pauses:
            self._send(Frame(Kind.RESUMED))

    # -- torch -------------------------------------------------------------------------------------------------------

    def _record(self) -> None:
        """Start torch's profiler."""
        torch: Any = self._torch
        if torch is None:
            return
        from torch.profiler import ProfilerActivity, profile

        activities = [ProfilerActivity.CPU]
        if self._device.startswith("cuda"):
            activities.append(ProfilerActivity.CUDA)
        self._arguments = arguments_of(self.asked, self._handler, activities, ProfilerActivity.CPU)
        recorder = profile(**self._arguments.keywords)
        recorder.start()
        self._recorder = recorder

    def _weigh(self) -> None:
        """The first batch shows how many events one makes; it is also the warm-up, and is kept only if none follows."""
        if self._recorder is None:
            self._first = (None, [])
            return
        recorder, self._recorder = self._recorder, None
        recorder.stop()
        self._first = (recorder, self._spans)
        self._spans = []
        events = max(1, _count(recorder))
        most = max(1, self.asked.max_events // events)
        if most < self._most:
            self._truncated = f"a batch makes {events:,} events, so {most:,} batches are all that fit"
            self._most = most
        self._record()

    def _result(self) -> Profiled:
        recorder = self._recorder
        if recorder is not None:
            recorder.stop()
        if not self._spans and self._first is not None and self._first[1]:
            recorder, self._spans = self._first
        if not self._spans:
            return self._profiled(note=f"no batch came in {self.asked.seconds:g} s")
        if recorder is None:
            return self._profiled(note="the handler has not loaded torch: these are the spans of its stages alone")
        return self._packed(recorder)

    def _packed(self, recorder: Any) -> Profiled:
        assert self._torch is not None
        given = self._arguments.given
        note = f"with the handler's profiler_args: {', '.join(given)}" if given else ""
        result = self._profiled(profiler=f"torch {self._torch.__version__}", events=_count(recorder), note=note)
        recorder.export_chrome_trace(self.asked.file)
        result.trace_bytes = os.path.getsize(self.asked.file)
        if result.trace_bytes > self.asked.max_bytes:
            os.unlink(self.asked.file)
            result.error = f"the trace has {result.trace_bytes / 1e6:.0f} MB, at most {self.asked.max_bytes / 1e6:.0f}"
        elif self._arguments.on_trace_ready is not None:
            self._hand_over(recorder, result)
        if self.asked.log_table:
            print(recorder.key_averages().table(sort_by="self_cpu_time_total", row_limit=10), flush=True)
        return result

    def _hand_over(self, recorder: Any, result: Profiled) -> None:
        """Call the handler's `on_trace_ready`. A trace can be saved only once: a second time it is a copy of ours."""
        assert self._arguments.on_trace_ready is not None

        def export(path: str, **_: Any) -> None:
            with gzip.open(self.asked.file) as ours, _open_to_write(path) as theirs:
                shutil.copyfileobj(ours, theirs)

        recorder.export_chrome_trace = export
        try:
            self._arguments.on_trace_ready(recorder)
        except Exception as exc:
            log.error("on_trace_ready of the handler's profiler_args has failed", exc_info=exc)
            result.note += f"; its on_trace_ready failed: {type(exc).__name__}: {exc}"

    # -- around ------------------------------------------------------------------------------------------------------

    def _profiled(self, **fields: Any) -> Profiled:
        clock = ClockPair(time.monotonic(), time.time())
        threads = self._torch.get_num_threads() if self._torch is not None else 0
        return Profiled(
            self.asked.id,
            clock,
            self._spans,
            device=self._device,
            threads=threads,
            truncated=self._truncated,
            **fields,
        )

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """What goes wrong inside ends the profile, not the batch."""
        try:
            yield
        except Exception as exc:
            self._fail(exc)

    def _fail(self, exc: Exception) -> None:
        log.error("the profile has failed", exc_info=exc)
        if not self._ended:
            self._ended = True
            self._timer.cancel()
            self._over()
            self._send(Frame(Kind.PROFILED, meta=encode_meta(self._profiled(error=_said(exc)))))


class _OpenBatch:
    """The batch in hand: its stages, as spans of ours and as ranges of the torch trace."""

    def __init__(self, batch_id: int, items: Sequence[Item], torch: Any) -> None:
        self.batch_id = batch_id
        self._items = len(items)
        self._bytes = sum(len(item.body) for item in items)
        self._torch = torch
        self._stages: list[StageSpan] = []
        self._stage: tuple[str, float] | None = None
        self._ranges: list[Any] = []
        self._closed = False
        self._began_s = time.monotonic()
        self._push(f"{BATCH_MARK}{batch_id}")

    def enter(self, stage: str) -> None:
        """A stage begins, and the one before it ends."""
        if self._closed:  # the profile was over before the batch
            return
        self._leave()
        self._stage = stage, time.monotonic()
        self._push(stage)

    def close(self, answer_bytes: int) -> BatchSpan:
        """All is answered."""
        self._closed = True
        self._leave()
        while self._ranges:
            self._pop()
        seconds = time.monotonic() - self._began_s
        return BatchSpan(self.batch_id, self._began_s, seconds, self._items, self._stages, self._bytes, answer_bytes)

    def _leave(self) -> None:
        if self._stage is not None:
            name, began_s = self._stage
            self._stage = None
            self._stages.append(StageSpan(name, began_s, time.monotonic() - began_s))
            self._pop()

    def _push(self, name: str) -> None:
        if self._torch is not None:
            opened = self._torch.profiler.record_function(name)
            opened.__enter__()
            self._ranges.append(opened)

    def _pop(self) -> None:
        if self._ranges:
            self._ranges.pop().__exit__(None, None, None)


def _count(recorder: Any) -> int:
    """Events of a profile that has stopped; `events()` of the public interface would build an object of each."""
    return len(recorder.profiler.kineto_results.events())


def _open_to_write(path: str) -> IO[bytes]:
    """As torch does: packed where the name says so."""
    opened = gzip.open(path, "wb", compresslevel=3) if path.endswith(".gz") else open(path, "wb")  # noqa: SIM115
    return cast("IO[bytes]", opened)


def _said(exc: Exception) -> str:
    """Our own words as they are; of others' with their class."""
    return exc.message if isinstance(exc, NbserveError) else f"{type(exc).__name__}: {exc}"
