"""Worker kernels for simulated time: they take the place of pool/kernel.WorkerKernel, speak frames over a stream that
is a function call, and do what the payloads say. Everything else of the gateway is the real thing.

A payload is `kind-number`. Answers are given in reverse order, and name the version and the payload.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbserve.errors import ErrorInfo
from nbserve.gateway.pool.memory import Usage
from nbserve.gateway.pool.prints import Printed
from nbserve.gateway.pool.topology import Memory
from nbserve.wire.frames import Flag, Frame, FrameReader, Kind, decode_meta, encode_meta, pack
from nbserve.wire.messages import AnswerItem, AnswerMeta, Hello, Load, Ready, Timings
from nbserve.wire.statuspage import Progress
from tests.unit.gateway.running import SAMPLE

START_S, BOOT_S, LOAD_S, READ_S = 0.05, 0.1, 0.2, 0.0004
BATCH_S, ITEM_S = 0.0008, 0.0001
"""So short that full batches are sent ahead of their turn."""

FATES = ("fine", "no start", "raises", "dies", "answers wrongly", "fails in the warm-up", "dies in the warm-up")
"""What becomes of the workers of a version (its environment variable FATE)."""
KINDS = ("ok", "bad", "part", "short", "die", "die_once", "slow", "deaf", "big")
"""What becomes of a request, and of the batch that it is in."""


class Machine:
    """What the kernels share: memory, faults that are switched on, and who has begun what."""

    def __init__(self) -> None:
        self.kernels: list[SimKernel] = []
        self.begun: Counter[str] = Counter()
        self.failing_loads = 0
        self.fits = 2
        self.oom_kills = 0
        self._pids = itertools.count(1)

    def kernel(self, context: Any, runtime_dir: Path, on_print: Callable[[Printed], None]) -> SimKernel:
        """As WorkerKernel is constructed."""
        kernel = SimKernel(self)
        self.kernels.append(kernel)
        return kernel

    def memory(self) -> Memory:
        """As topology.read_memory."""
        return Memory(16 * 10**9, 8 * 10**9, self.oom_kills)

    def living(self) -> list[SimKernel]:
        """Those whose process runs, oldest first."""
        return [kernel for kernel in self.kernels if kernel.pid is not None and not kernel.is_dead]

    def next_pid(self) -> int:
        """A new one."""
        return next(self._pids)


class SimTransport(asyncio.WriteTransport):
    """The gateway's end of the stream."""

    def __init__(self, kernel: SimKernel) -> None:
        super().__init__()
        self._kernel = kernel

    def writelines(self, list_of_data: Any) -> None:
        assert not self._kernel.is_dead
        self._kernel.loop.call_soon(self._kernel.feed, b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self._kernel.is_dead

    def abort(self) -> None:
        self._kernel.die(-9)


class SimKernel:
    """One kernel process that is not there."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.loop = asyncio.get_running_loop()
        self.pid: int | None = None
        self.connection_file = ""
        self.env: dict[str, str] = {}
        self.started = "spawned"
        self.arena = None
        self.progress = Progress(0, "start", 0)
        self.prints_on = asyncio.Event()
        self.prints_on.set()
        self.is_dead = False
        self.is_closed = False
        self.is_paused = False
        self.is_hung = False
        self.load_s = LOAD_S
        self._code: int | None = None
        self._fate = "fine"
        self._load: tuple[int, Load] | None = None
        self._protocol: asyncio.Protocol | None = None
        self._reader = FrameReader()
        self._inbox: deque[Frame] = deque()
        self._hand: Frame | None = None
        self._is_draining = False

    # -- as WorkerKernel ---------------------------------------------------------------------------------------------

    async def start(self, env: dict[str, str], log_path: Path, start: Any) -> None:
        self.env = env
        await asyncio.sleep(START_S)
        self._fate = env.get("FATE", "fine")
        if self._fate == "no start":
            self.is_dead = True
            raise OSError("no process can be started")
        self.pid = self.machine.next_pid()

    async def connect(self, protocol: asyncio.Protocol) -> asyncio.WriteTransport:
        self._protocol = protocol
        hello = Frame(Kind.HELLO, meta=encode_meta(Hello([1])))
        self.loop.call_later(BOOT_S, self._send, hello)
        return SimTransport(self)

    def follow_prints(self) -> None:
        """There are none."""

    def interrupt(self, batch_id: int) -> None:
        self.loop.call_soon(self._cancel, batch_id)

    def kill(self) -> None:
        self.die(-9)

    async def reap(self) -> int | None:
        await asyncio.sleep(READ_S)
        assert self.is_dead
        self.pid = None
        return self._code

    async def close(self) -> None:
        assert self.is_dead
        self.is_closed = True

    def rss_bytes(self) -> int:
        return 10**8

    def usage(self) -> Usage:
        return Usage(10**8, 10**8, 1.0)

    def overwritten_bytes(self, folder: Path) -> int | None:
        return 0

    @property
    def has_work(self) -> bool:
        """Whether it has a batch, begun or not."""
        return self._hand is not None or bool(self._inbox)

    # -- faults ------------------------------------------------------------------------------------------------------

    def die(self, code: int) -> None:
        """The process ends; the gateway sees the stream end."""
        if not self.is_dead and self.pid is not None:
            self.is_dead, self._code = True, code
            if self._protocol is not None:
                self.loop.call_soon(self._protocol.connection_lost, None)

    def pause(self) -> None:
        """Somebody runs something in its shell: a batch in hand goes on (it awaits), others wait."""
        if self._load is not None and not self.is_paused:
            self.is_paused = True
            self._send(Frame(Kind.PAUSED))

    def resume(self) -> None:
        """The shell is free again."""
        if self.is_paused:
            self.is_paused = False
            self._send(Frame(Kind.RESUMED))
            self._take_next()

    # -- frames in ---------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """What the gateway has written arrives."""
        for frame in self._reader.feed(data):
            if self.is_dead:
                return
            if frame.kind is Kind.LOAD:
                self.loop.call_later(self.load_s, self._loaded, frame.batch_id, decode_meta(frame.meta, Load))
            elif frame.kind is Kind.DRAIN:
                self._is_draining = True
                self._leave_if_done()
            elif frame.kind is Kind.BATCH:
                frame = frame._replace(bodies=[bytes(body) for body in frame.bodies])
                assert not frame.flags & Flag.RETRY or len(frame.bodies) == 1
                busy = [other for other in (self._hand, *self._inbox) if other is not None and other.bodies]
                if busy and frame.bodies:
                    assert len(busy) == 1, "it was sent a third batch"
                    assert not frame.flags, "a retry or a warm-up must not wait behind others"
                    assert not busy[0].flags, "nothing may be sent after a retry or a warm-up"
                self._inbox.append(frame)
                self.loop.call_later(READ_S, self._take_next)

    def _loaded(self, load_id: int, load: Load) -> None:
        fails = self._fate == "raises" or self.machine.failing_loads > 0
        self.machine.failing_loads = max(0, self.machine.failing_loads - 1)
        if self._fate == "dies":
            self.die(-11)
        elif fails:
            info = ErrorInfo(type="ValueError", message="initialize raised", stage="initialize")
            self._send(Frame(Kind.FAILED, batch_id=load_id, meta=encode_meta(info)))
        else:
            self._load = load_id, load
            self.progress = Progress(0, "idle", 0)
            ready = Ready(self.pid or 0, load.cores, load.threads, load_s=LOAD_S)
            self._send(Frame(Kind.READY, batch_id=load_id, meta=encode_meta(ready)))

    def _take_next(self) -> None:
        if self.is_dead or self.is_hung or self.is_paused or self._hand is not None or not self._inbox:
            return
        self._hand = frame = self._inbox.popleft()
        if not frame.bodies:
            self._answer(frame, [], [])
            return
        self.progress = Progress(frame.batch_id, "decode", 0)
        kinds = set()
        if not frame.flags & Flag.WARMUP:
            assert len(set(frame.bodies)) == len(frame.bodies)
            self.machine.begun.update(body.decode() for body in frame.bodies)  # type: ignore[union-attr]
            kinds = {_kind(body) for body in frame.bodies if self._is_due(body)}
        if "big" in kinds and len(frame.bodies) > self.machine.fits:
            self.machine.oom_kills += 1
            self.loop.call_later(BATCH_S, self.die, -9)
        elif kinds & {"die", "die_once"} or (frame.flags & Flag.WARMUP and self._fate == "dies in the warm-up"):
            self.loop.call_later(BATCH_S, self.die, -11)
        elif not kinds & {"slow", "deaf"}:
            self.loop.call_later(BATCH_S + ITEM_S * len(frame.bodies), self._finish, frame)

    def _is_due(self, body: Any) -> bool:
        """Those that misbehave once have done so by now."""
        return _kind(body) != "die_once" or self.machine.begun[bytes(body).decode()] == 1

    def _finish(self, frame: Frame) -> None:
        if self.is_dead or self._hand is not frame:
            return
        if frame.flags & Flag.WARMUP:
            self._answer_sample(frame)
            return
        items, bodies = [], []
        parts: list[tuple[AnswerItem, bytes]] = []
        for place, body in reversed(list(enumerate(frame.bodies))):
            payload, whole = bytes(body).decode(), self._right(bytes(body))
            if _kind(body) == "bad":
                info = ErrorInfo(type="ValueError", message=f"cannot do {payload}")
                items.append(AnswerItem(place, "error", 500, "", info))
                bodies.append(b"")
            elif _kind(body) == "part":
                parts.append((AnswerItem(place, "more", 200, "text/plain"), whole[:3]))
                items.append(AnswerItem(place, "last", 200, "text/plain"))
                bodies.append(whole[3:])
            elif _kind(body) != "short":
                items.append(AnswerItem(place, "whole", 200, "text/plain"))
                bodies.append(whole)
        if parts:
            meta = AnswerMeta([item for item, _ in parts], Timings(), last=False)
            self._send(Frame(Kind.ANSWER, 0, frame.batch_id, encode_meta(meta), [part for _, part in parts]))  # type: ignore[arg-type]
        self._answer(frame, items, bodies)

    def _answer_sample(self, frame: Frame) -> None:
        count = len(frame.bodies)
        assert set(frame.bodies) == {SAMPLE.body}
        right = SAMPLE.expected_body if self._fate != "answers wrongly" else b'{"echo":"something else"}'
        items = [AnswerItem(place, "whole", 200, SAMPLE.expected_content_type) for place in range(count)]
        if self._fate == "fails in the warm-up" and count > 1:
            info = ErrorInfo(type="ValueError", message="too many rows")
            items = [AnswerItem(place, "error", 500, "", info) for place in range(count)]
        self._answer(frame, items, [right] * count)

    def _right(self, body: bytes) -> bytes:
        assert self._load is not None
        return f"{self._load[1].version}|{body.decode()}".encode()

    def _cancel(self, batch_id: int) -> None:
        frame = self._hand
        if self.is_dead or self.is_hung or frame is None or frame.batch_id != batch_id:
            return
        if "deaf" not in {_kind(body) for body in frame.bodies}:
            info = ErrorInfo(type="ResponseTimeout", message="it took too long", status=504)
            items = [AnswerItem(place, "error", 504, "", info) for place in range(len(frame.bodies))]
            self._answer(frame, items, [b""] * len(items))

    # -- frames out --------------------------------------------------------------------------------------------------

    def _answer(self, frame: Frame, items: list[AnswerItem], bodies: list[bytes]) -> None:
        meta = AnswerMeta(items, Timings(inference_s=BATCH_S))
        self._send(Frame(Kind.ANSWER, Flag.NONE, frame.batch_id, encode_meta(meta), bodies))
        self._hand, self.progress = None, Progress(0, "idle", 0)
        self._take_next()
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._is_draining and self._hand is None and not self._inbox:
            self.die(0)

    def _send(self, frame: Frame) -> None:
        if not self.is_dead:
            self.loop.call_soon(self._arrive, b"".join(pack(frame)))

    def _arrive(self, data: bytes) -> None:
        if not self.is_closed:
            assert self._protocol is not None
            self._protocol.data_received(data)


def _kind(body: Any) -> str:
    return bytes(body).decode().partition("-")[0]
