"""Watches the notebook kernel that a gateway lives and dies with. Used by gateway/gateway.

Through a pidfd: it is readable once the process has ended, at no cost until then, and cannot be fooled by a pid that is
used again. (A pipe would be kept open by whatever the kernel forks; a parent-death signal fires when the thread that
started us ends: both were seen.) Where there are no pidfds: the pid and its start time, once a second.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from nbserve.discovery import process_start_time

__all__ = ["OwnerWatch"]

POLL_INTERVAL_S = 1.0


class OwnerWatch:
    """Calls `on_gone` once, on the running loop, when the process has ended; soon if it has already."""

    def __init__(self, pid: int, on_gone: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = pid
        self._on_gone = on_gone
        self._pidfd: int | None = None
        self._timer: asyncio.Handle | None = None
        self._start_time = process_start_time(pid)
        if self._start_time is None:
            self._timer = self._loop.call_soon(self._gone)
        elif hasattr(os, "pidfd_open"):
            try:
                self._pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                self._timer = self._loop.call_soon(self._gone)
            except OSError:  # an old system, or a sandbox that forbids it
                self._poll()
            else:
                self._loop.add_reader(self._pidfd, self._gone)
        else:
            self._poll()

    def close(self) -> None:
        """Watch no more."""
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _poll(self) -> None:
        if process_start_time(self._pid) != self._start_time:
            self._gone()
        else:
            self._timer = self._loop.call_later(POLL_INTERVAL_S, self._poll)

    def _gone(self) -> None:
        self.close()
        self._on_gone()
