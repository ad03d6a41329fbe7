"""A load process: `python -m nbserve.measure.load`, started by `crew.py`. Sends as it is told, reports what came back.

Plans come over standard input, one JSON object a line; ticks and a report for each go to standard output. It ends with
its standard input, in the middle of a run too: nobody's load outlives who asked for it. Never imports torch.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import importlib.util
import itertools
import os
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from nbserve.measure.arrivals import arrivals
from nbserve.measure.load_answers import connect_error, stages_of, status_error
from nbserve.measure.load_connection import Answer, Connection
from nbserve.measure.load_pacer import Pacer
from nbserve.measure.messages import NOT_SENT, TOO_LATE, FromLoad, Plan, Ready, Report, Tick, WindowCount
from nbserve.measure.scheduling import waited_s
from nbserve.measure.stats import LONGEST_US, encoded, new_histogram

__all__ = ["Sender", "main"]

_MOST_CONNECTIONS = 1000
"""Of one process; requests that are due while all of them wait for answers are sent as soon as one is free."""
_SAMPLES = 4096
"""Server-Timing headers read at most; from there on every second one is dropped, and half as many are read."""
_TICK_S = 0.5
_CLOCK_RATE = 100.0
"""Closed loop: ticks a second by which the process sees how late it is."""
_RECONNECT_AFTER_S = 0.05


class Sender:
    """One run: sends by the clock (open loop) or after each answer (closed loop), and counts."""

    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop) -> None:
        self._plan, self._loop = plan, loop
        self._requests = itertools.cycle(plan.requests)
        self._begin_s = plan.start_at_s + plan.warmup_s
        self._end_s = self._begin_s + plan.duration_s
        self._closed_loop = plan.rate <= 0
        self._tls = ssl.create_default_context() if plan.tls else None
        self._address = plan.host
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._waiting: deque[float] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._drained = asyncio.Event()
        self._sending = True
        self._windows = max(1, round(plan.duration_s / plan.window_s))
        self._answered = [0] * (self._windows + 1)
        self._failed = [0] * (self._windows + 1)
        self._latencies = [new_histogram() for _ in range(self._windows + 1)]
        self._lag = new_histogram()
        self._due = self._sent = self._seen = self._all_answered = self._all_failed = 0
        self._errors: dict[str, int] = {}
        self._stages: list[dict[str, float]] = []
        self._sample_mask = 0
        self._clock_at: list[tuple[float, float, float]] = []

    async def run(self) -> Report:
        """Send until the end, wait for what is in flight, report."""
        plan, loop = self._plan, self._loop
        self._address = await self._resolve()
        await asyncio.sleep(max(0.0, plan.start_at_s - time.monotonic()))
        pacer = Pacer(loop, self._instants(), self._tick if self._closed_loop else self._send_due)
        for at_s in (self._begin_s, self._end_s):
            loop.call_later(max(0.0, at_s - time.monotonic()), self._note_clocks)
        for _ in range(plan.clients):
            self._connect(max(plan.start_at_s, time.monotonic()))
        sweeps = [loop.create_task(self._sweep()), loop.create_task(self._say_ticks())]
        try:
            await asyncio.sleep(max(0.0, self._end_s - time.monotonic()))
            self._stop_sending(pacer.close())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), plan.timeout_s + 1)
        finally:
            pacer.close()  # twice does no harm
            for task in (*sweeps, *self._connecting):
                task.cancel()
            await asyncio.gather(*sweeps, *self._connecting, return_exceptions=True)
            await self._close_connections()
        return self._report()

    # -- sending -----------------------------------------------------------------------------------------------------

    def _instants(self) -> Iterator[float]:
        """When requests are due; closed loop: the ticks of the clock."""
        plan = self._plan
        if self._closed_loop:
            offsets = arrivals("constant", _CLOCK_RATE, plan.seed)
        elif plan.arrivals == "recorded":
            offsets = iter(plan.offsets_s)
        else:
            offsets = arrivals(plan.arrivals, plan.rate, plan.seed, share=plan.share, shares=plan.shares)
        return itertools.takewhile(lambda at_s: at_s < self._end_s, (plan.start_at_s + offset for offset in offsets))

    def _tick(self, at_s: float) -> None:
        self._note_lag(at_s, time.monotonic())

    def _note_lag(self, at_s: float, now_s: float) -> None:
        if at_s >= self._begin_s:
            self._lag.record_value(min(LONGEST_US, max(1, int((now_s - at_s) * 1e6))))

    def _send_due(self, at_s: float) -> None:
        """Open loop: a request is due."""
        if at_s >= self._begin_s:
            self._due += 1
        self._note_lag(at_s, time.monotonic())
        if self._idle:
            self._send(self._idle.pop(), at_s)
        elif len(self._busy) + len(self._connecting) < _MOST_CONNECTIONS:
            self._connect(at_s)
        else:
            self._waiting.append(at_s)

    def _send(self, connection: Connection, due_s: float) -> None:
        if due_s >= self._begin_s:
            self._sent += 1
            self._due += self._closed_loop
        if connection.is_closed:
            self._fail(due_s, "connection closed")
            self._after(None, time.monotonic())
            return
        self._seen += 1
        connection.wants_timing = self._seen & self._sample_mask == 0
        self._busy.add(connection)
        connection.send(next(self._requests), due_s, time.monotonic())

    def _connect(self, due_s: float) -> None:
        task = self._loop.create_task(self._open(due_s))
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        self._look_if_drained()

    async def _open(self, due_s: float) -> None:
        """A new connection, and on it the request that waits for it since `due_s`."""
        plan = self._plan
        try:
            _, connection = await asyncio.wait_for(
                self._loop.create_connection(
                    lambda: Connection(self),
                    self._address,
                    plan.port,
                    ssl=self._tls,
                    server_hostname=plan.server_name if self._tls else None,
                ),
                plan.timeout_s,
            )
        except (OSError, TimeoutError) as exc:
            self._fail(due_s, connect_error(exc))
            if self._closed_loop:
                await asyncio.sleep(_RECONNECT_AFTER_S)
                if self._sending:
                    self._connect(time.monotonic())
        else:
            if self._sending or not self._closed_loop:  # what was due is sent, however late
                self._send(connection, due_s)
            else:
                connection.abort()

    async def _resolve(self) -> str:
        """The first address of the host that takes a connection (localhost may be two)."""
        plan = self._plan
        found = await self._loop.getaddrinfo(plan.host, plan.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[4][0]) for address in found))
        for address in addresses[:-1]:
            with contextlib.suppress(OSError, TimeoutError):
                _, writer = await asyncio.wait_for(asyncio.open_connection(address, plan.port), plan.timeout_s)
                writer.close()
                await writer.wait_closed()
                return address
        return addresses[-1]

    # -- answers -----------------------------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """`_open` goes on when its await returns."""

    def answered(self, connection: Connection, answer: Answer, reusable: bool) -> None:
        """One request is done."""
        now_s = time.monotonic()
        due_s = connection.due_s
        self._busy.discard(connection)
        if 200 <= answer.status < 300:
            self._count(due_s, now_s)
            if answer.timing and due_s >= self._begin_s:
                self._take_stages(answer.timing, (now_s - connection.sent_s) * 1e3)
        else:
            self._fail(due_s, status_error(answer))
        if not reusable:
            connection.abort()
            self._after(None, now_s)
        else:
            self._after(connection, now_s)

    def lost(self, connection: Connection, why: str) -> None:
        """A connection is gone; a request that waited on it failed."""
        if connection.is_waiting:
            connection.is_waiting = False
            self._busy.discard(connection)
            self._fail(connection.due_s, why)
            self._after(None, time.monotonic())
        elif connection in self._idle:
            self._idle.remove(connection)

    def _after(self, free: Connection | None, now_s: float) -> None:
        """What comes after an answer: the next request of this client, or one that waits for a connection."""
        if not self._sending or now_s >= self._end_s:
            if free is not None:
                self._idle.append(free)
            self._look_if_drained()
        elif self._closed_loop or self._waiting:
            due_s = now_s if self._closed_loop else self._next_waiting(now_s)
            if free is not None:
                self._send(free, due_s)
            else:
                self._connect(due_s)
        elif free is not None:
            self._idle.append(free)

    def _next_waiting(self, now_s: float) -> float:
        """The request that waits longest; of the warm-up's none are sent any more once it is over."""
        due_s = self._waiting.popleft()
        while due_s < self._begin_s <= now_s and self._waiting:
            due_s = self._waiting.popleft()
        return due_s

    def _count(self, due_s: float, now_s: float) -> None:
        self._all_answered += 1
        window = self._window(now_s)
        if window >= 0:
            self._answered[window] += 1
            if due_s >= self._begin_s:
                latency_us = int((now_s - due_s) * 1e6)
                self._latencies[window].record_value(min(LONGEST_US, max(1, latency_us)))

    def _fail(self, due_s: float, what: str) -> None:
        self._all_failed += 1
        if due_s >= self._begin_s:
            self._errors[what] = self._errors.get(what, 0) + 1
            self._failed[max(0, self._window(time.monotonic()))] += 1

    def _window(self, now_s: float) -> int:
        """Which window an instant is in; -1 in the warm-up, the one after the last where it is too late."""
        if now_s < self._begin_s:
            return -1
        return self._windows if now_s >= self._end_s else int((now_s - self._begin_s) / self._plan.window_s)

    def _take_stages(self, timing: bytes, latency_ms: float) -> None:
        stages = stages_of(timing)
        if stages:
            stages["network"] = max(0.0, latency_ms - stages.pop("total", sum(stages.values())))
            self._stages.append(stages)
            if len(self._stages) >= _SAMPLES:
                del self._stages[::2]
                self._sample_mask = self._sample_mask * 2 + 1

    # -- the end -----------------------------------------------------------------------------------------------------

    def _stop_sending(self, left: list[float]) -> None:
        """`left`: instants up to now for which the process had no time."""
        self._sending = False
        for at_s in left if not self._closed_loop else []:
            self._due += at_s >= self._begin_s
            self._note_lag(at_s, time.monotonic())
            self._fail(at_s, TOO_LATE)
        for due_s in self._waiting:
            self._fail(due_s, f"{NOT_SENT}: {_MOST_CONNECTIONS} requests were unanswered")
        self._waiting.clear()
        self._look_if_drained()

    def _look_if_drained(self) -> None:
        if not self._sending and not self._busy and not self._connecting:
            self._drained.set()

    async def _sweep(self) -> None:
        """Give up on requests that are answered too late."""
        while True:
            await asyncio.sleep(min(0.25, self._plan.timeout_s / 4))
            too_old_s = time.monotonic() - self._plan.timeout_s
            for connection in [one for one in self._busy if one.sent_s < too_old_s]:
                connection.is_waiting = False
                self._busy.discard(connection)
                connection.abort()
                self._fail(connection.due_s, f"timeout after {self._plan.timeout_s:g} s")
                self._after(None, time.monotonic())

    async def _close_connections(self) -> None:
        for connection in (*self._idle, *self._busy):
            connection.is_waiting = False
            connection.abort()
        await asyncio.sleep(0)

    async def _say_ticks(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            _say(Tick(answered=self._all_answered, failed=self._all_failed))

    def _note_clocks(self) -> None:
        self._clock_at.append((time.monotonic(), time.process_time(), waited_s()))

    def _report(self) -> Report:
        self._note_clocks()  # the third, where a starved loop did not come to the second
        (begin_s, cpu_begin_s, waited_begin_s), (end_s, cpu_end_s, waited_end_s), *_ = self._clock_at
        windows = zip(self._answered, self._failed, self._latencies, strict=True)
        return Report(
            due=self._due,
            sent=self._sent,
            errors=self._errors,
            windows=[WindowCount(answered=a, failed=f, histogram=encoded(h)) for a, f, h in windows],
            lag=encoded(self._lag),
            stages=self._stages,
            wall_s=end_s - begin_s,
            cpu_s=cpu_end_s - cpu_begin_s,
            waited_s=waited_end_s - waited_begin_s,
        )


def _say(message: FromLoad) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def _raise_file_limit() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * _MOST_CONNECTIONS
    with contextlib.suppress(ValueError, OSError):
        if 0 <= soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(hard, wanted), hard))


async def _run(plan: Plan) -> None:
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), os._exit, 0)  # whoever asked has gone: it says nothing before our report
    try:
        _say(await Sender(plan, loop).run())
    finally:
        loop.remove_reader(sys.stdin.fileno())
        os.set_blocking(sys.stdin.fileno(), True)  # libuv has it otherwise, and the next plan would read as the end


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed: it takes less of the machine that is measured."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory


def main() -> None:
    """Do what comes over standard input, until it ends."""
    _raise_file_limit()
    gc.freeze()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner, contextlib.suppress(BrokenPipeError):
        _say(Ready())
        for line in sys.stdin.buffer:
            plan = msgspec.json.decode(line, type=Plan)
            if plan.cores:
                os.sched_setaffinity(0, plan.cores)
            runner.run(_run(plan))


if __name__ == "__main__":
    main()
