"""A worker kernel that waits, with nothing loaded, to be the next worker of an endpoint whose workers are forked.

One `Standby` beside each zygote (zygote.py), shared by the pools of its endpoint: a restart, a second worker and the
version that replaces another begin with it. Forking a worker takes 0.1 s, half of it the start of ipykernel; the one
that waits has all of it behind it, and has said HELLO. What it cannot know yet, its cores and threads, comes with LOAD.
Where workers are spawned, spare.py keeps a process that has imported.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import zmq.asyncio

from nbserve.gateway.cancellation import to_the_end
from nbserve.gateway.pool.forked import CannotFork
from nbserve.gateway.pool.kernel import WorkerKernel
from nbserve.gateway.pool.prints import Printed
from nbserve.gateway.pool.provisioner import WARM_UP_AFTER_S, Start
from nbserve.gateway.pool.topology import Memory, read_memory

if TYPE_CHECKING:
    from nbserve.gateway.pool.zygote import Zygote

__all__ = ["Standby", "is_worth_it"]

log = logging.getLogger("nbserve.pool")

MOST_WORKERS = 2
"""With more, it wins nothing: those that start at the same time are forked, and where one dies the others serve on."""
MIN_AVAILABLE_BYTES = 512 << 20
"""Below this none is kept; it takes some 30 MB that it does not share."""


def is_worth_it(workers: int, memory: Memory) -> bool:
    """Whether one is to be kept beside so many workers. Pure."""
    return 0 < workers <= MOST_WORKERS and memory.available_bytes >= MIN_AVAILABLE_BYTES


class Standby:
    """At most one kernel. `env`: of its worker, as far as it is known. All on the gateway's loop."""

    def __init__(self, zygote: Zygote, env: Mapping[str, str], runtime_dir: Path, log_path: Path) -> None:
        self._zygote, self._env, self._runtime_dir, self._log_path = zygote, dict(env), runtime_dir, log_path
        self._context = zmq.asyncio.Context()  # outlives the pools that take from here
        self._kernel: WorkerKernel | None = None
        self._workers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        """Of the process that waits; None while there is none."""
        return self._kernel.pid if self._kernel is not None else None

    def keep(self, workers: int) -> None:
        """So many workers serve now: soon there is one to follow them, or none where it is not worth it."""
        self._workers = workers
        if self._timer is None and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(WARM_UP_AFTER_S, self._look)

    async def take(self, log_path: Path, on_print: Callable[[Printed], None]) -> WorkerKernel | None:
        """The kernel, to `connect` to; it writes to this log from now on. None where there is none: fork."""
        kernel, self._kernel = self._kernel, None
        if kernel is None:
            return None
        try:
            if await kernel.is_running():
                kernel.hand_over(log_path, on_print)
                return kernel
        except BaseException:  # nobody else knows of the process now
            await to_the_end(kernel.discard())
            raise
        await to_the_end(kernel.discard())
        return None

    async def close(self) -> None:
        """End it and wait for that. Those that were taken must have been closed before."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._kernel is not None:
            await self._kernel.discard()
            self._kernel = None
        self._context.destroy(linger=0)

    def _look(self) -> None:
        self._timer = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._follow())
        else:  # what it follows may be old
            self._task.add_done_callback(lambda _: self.keep(self._workers))

    async def _follow(self) -> None:
        """Start one, or end it, as it is wanted."""
        is_wanted = is_worth_it(self._workers, await asyncio.to_thread(read_memory))
        if self._kernel is not None and not (is_wanted and await self._kernel.is_running()):
            kernel, self._kernel = self._kernel, None
            await kernel.discard()
        if is_wanted and self._kernel is None and not self._is_closed:
            await self._start()

    async def _start(self) -> None:
        kernel = WorkerKernel(self._context, self._runtime_dir, lambda _printed: None)
        try:
            await kernel.start(self._env, self._log_path, Start(self._zygote, insist=True))
        except Exception as exc:
            await kernel.close()
            if not isinstance(exc, (CannotFork, OSError)):
                raise
            log.info("%s: no worker is kept waiting: %s", self._zygote.name, exc)
        else:
            self._kernel = kernel
