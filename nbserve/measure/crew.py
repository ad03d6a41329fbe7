"""The load processes of one measurement, from the outside: start, one run after another, end. Called by `measured.py`.

They are in a session of their own, so that Ctrl-C reaches us alone, and end with their standard input, so that none is
left if we are killed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import IO

import msgspec

from nbserve.errors import MeasureError
from nbserve.measure.messages import FromLoad, Plan, Ready, Report, Tick

__all__ = ["Crew", "cores_for_load"]

_START_WITHIN_S = 60.0
_END_WITHIN_S = 2.0
_GRACE_S = 20.0
"""How much later than the plan's end, its timeout included, a report may come: a starved process is slow, not dead."""
_READ_BYTES = 1 << 20


def cores_for_load(usable: Sequence[int], workers: Sequence[int], most: int = 4) -> list[int]:
    """Cores that no worker is pinned to, one of them left for the gateway; [] where none is free: then do not pin.

    The gateway is left the lowest one, which placement keeps for it where there are four cores or more.
    """
    free = sorted(set(usable) - set(workers))
    return free[1:][-most:]


class Crew:
    """`count` load processes. A context manager: they are gone when it is left. Raises MeasureError if one dies."""

    def __init__(self, count: int) -> None:
        self._members = [_Member() for _ in range(count)]

    def __enter__(self) -> Crew:
        try:
            for member in self._members:
                member.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [member.process.pid for member in self._members]

    def __len__(self) -> int:
        return len(self._members)

    def run(self, plans: Sequence[Plan], on_tick: Callable[[int, int], float]) -> list[Report]:
        """One run, a plan for each process. `on_tick(answered, failed)` says in how many seconds it wants a call."""
        for member, plan in zip(self._members, plans, strict=True):
            member.send(plan)
        plan = plans[0]
        deadline_s = plan.start_at_s + plan.warmup_s + plan.duration_s + plan.timeout_s + _GRACE_S
        reports: dict[_Member, Report] = {}
        ticks: dict[_Member, Tick] = {}
        wake_s = 0.0
        with selectors.DefaultSelector() as selector:
            for member in self._members:
                selector.register(member.output, selectors.EVENT_READ, member)
            while len(reports) < len(self._members):
                for key, _ in selector.select(wake_s):
                    for message in key.data.read():
                        if isinstance(message, Tick):
                            ticks[key.data] = message
                        elif isinstance(message, Report):
                            reports[key.data] = message
                answered = sum(tick.answered for tick in ticks.values())
                wake_s = on_tick(answered, sum(tick.failed for tick in ticks.values()))
                if time.monotonic() > deadline_s:
                    raise MeasureError(
                        "a load process did not report",
                        hint="the machine may be overloaded: lower --rate or --concurrency",
                    )
        return [reports[member] for member in self._members]

    def close(self) -> None:
        """End the processes; what they are doing is dropped."""
        for member in self._members:
            member.hang_up()
        deadline_s = time.monotonic() + _END_WITHIN_S
        for member in self._members:
            member.end(max(0.0, deadline_s - time.monotonic()))


class _Member:
    """One load process and its pipes."""

    def __init__(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        self._partial = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nbserve.measure.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout.fileno()

    def wait_ready(self) -> None:
        """Until it has started. Raises MeasureError where it does not."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            deadline_s = time.monotonic() + _START_WITHIN_S
            while selector.select(max(0.0, deadline_s - time.monotonic())):
                if any(isinstance(message, Ready) for message in self.read()):
                    return
        message = f"a load process did not start within {_START_WITHIN_S:g} s"
        raise MeasureError(message, hint="is the machine overloaded?")

    def send(self, plan: Plan) -> None:
        stdin = self.process.stdin
        assert stdin is not None
        try:
            stdin.write(msgspec.json.encode(plan) + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def read(self) -> Iterator[FromLoad]:
        """The messages that are there now. Raises MeasureError at the end of its output."""
        data = os.read(self.output, _READ_BYTES)
        if not data:
            raise self._died()
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            yield msgspec.json.decode(line, type=FromLoad)

    def hang_up(self) -> None:
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def end(self, within_s: float) -> None:
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()

    def _died(self) -> MeasureError:
        code = self.process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        return MeasureError(
            f"a load process {how}" + (f": {last[0]}" if last else ""),
            hint="SIGKILL is mostly the kernel's, for lack of memory" if code == -signal.SIGKILL else "",
        )
