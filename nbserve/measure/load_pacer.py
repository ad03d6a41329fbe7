"""Calls back when requests are due, within some tens of microseconds. Used by `load.py`.

asyncio's own timers are rounded up to whole milliseconds (epoll's unit), which an open loop would add to every latency.
On Linux a timerfd wakes the loop instead; elsewhere the loop's timers must do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator

__all__ = ["Pacer"]

_AT_ONCE = 64
"""Callbacks in a row before the loop gets its turn: a sender that is late must still read answers."""
_ABSOLUTE, _NONBLOCK, _CLOEXEC = 1, os.O_NONBLOCK, os.O_CLOEXEC


class Pacer:
    """Calls `due(at_s)` for each instant (monotonic clock, ascending) until they end, or `close`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        instants: Iterator[float],
        due: Callable[[float], None],
    ) -> None:
        self._instants, self._due = instants, due
        self._next_s = next(instants, None)
        self._alarm = _TimerFd(loop, self._wake) if sys.platform == "linux" else _LoopTimer(loop, self._wake)
        self._wake()

    def close(self) -> list[float]:
        """Call no more; the instants that were left."""
        left = [] if self._next_s is None else [self._next_s, *self._instants]
        self._next_s = None
        self._alarm.close()
        return left

    def _wake(self) -> None:
        for _ in range(_AT_ONCE):
            if self._next_s is None or self._next_s > time.monotonic():
                break
            at_s, self._next_s = self._next_s, next(self._instants, None)
            self._due(at_s)
        if self._next_s is not None:
            self._alarm.set(self._next_s)
        else:
            self._alarm.close()


class _LoopTimer:
    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop, self._wake = loop, wake
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at_s: float) -> None:
        self._handle = self._loop.call_later(max(0.0, at_s - time.monotonic()), self._wake)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("value", _Timespec)]


class _TimerFd:
    """timerfd_create(2) through the C library; Python has it from 3.13 on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop, self._wake = loop, wake
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._spec = _Itimerspec()
        self._fd: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK | _CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._fired)

    def set(self, at_s: float) -> None:
        nanoseconds = max(1, int(at_s * 1e9))
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(self._spec), None)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _fired(self) -> None:
        os.read(self._fd, 8)
        self._wake()
