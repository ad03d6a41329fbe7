"""A warm process that waits to become the next worker of an endpoint, where workers are spawned and not forked.

One `Spare` per pool that spawns (supervisor.py), used by the provisioner. It is worker/zygote.py told not to fork: it
imports what the endpoint needs, threads and open files or not, and then is the worker. Spawning one takes a second or
more, this one a twentieth of it; it costs the memory of a worker that has loaded nothing.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from nbserve.bundle import Bundle
from nbserve.bundle.imports import imported_names
from nbserve.gateway.cancellation import to_the_end
from nbserve.gateway.pool.forked import CannotFork, ZygoteLink
from nbserve.gateway.pool.topology import read_memory
from nbserve.gateway.pool.zygote import start_process
from nbserve.packets import socket_pair
from nbserve.wire.zygote import Fork, Preload, changes

__all__ = ["Spare"]

log = logging.getLogger("nbserve.pool")

MIN_AVAILABLE_BYTES = 1 << 30
"""Below this nothing is kept warm."""
ANSWER_WAIT_S = 2.0
"""A spare that has not answered by then is ended, and a worker is spawned."""
FIXED_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")
"""Variables that Python and the loader read when a process starts: where one differs, the spare is of no use."""


class Spare:
    """At most one process. `env`: of its worker, but for what each has its own. All on the gateway's loop."""

    def __init__(self, name: str, bundle: Bundle, env: Mapping[str, str], log_path: Path) -> None:
        self._name, self._bundle, self._env, self._log_path = name, bundle, dict(env), log_path
        self._process: subprocess.Popen[bytes] | None = None
        self._link: ZygoteLink | None = None
        self._warming: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._is_over = False
        """No more of them: closed, or the last one ended while it imported."""

    @property
    def pid(self) -> int | None:
        """Of the process that is warm; None while there is none."""
        return self._process.pid if self._process is not None and self._link is not None else None

    def warm_up(self) -> None:
        """Have one, soon; nothing where there is one, or where the last one ended while it imported."""
        if (self._warming is None or self._warming.done()) and self._process is None and not self._is_over:
            self._warming = asyncio.get_running_loop().create_task(self._warm_up())

    async def become(
        self, args: Sequence[str], env: Mapping[str, str], cwd: str, fds: Sequence[int]
    ) -> subprocess.Popen[bytes] | None:
        """The process, now a worker with this command line, environment, folder and these descriptors; None: spawn.

        fds: log, data stream, status page, pidfd of the gateway.
        """
        process, link = self._process, self._link
        own = changes(self._env, env)
        if process is None or link is None or any(name.startswith(FIXED_AT_START) for name in own):
            return None
        self._process = self._link = None
        try:
            async with asyncio.timeout(ANSWER_WAIT_S):
                forked = await link.fork(Fork(1, list(args), own, cwd), fds)
        except BaseException as exc:  # also where the start is given up: nobody else knows of the process now
            await to_the_end(self._end(process))
            if not isinstance(exc, (CannotFork, TimeoutError)):
                raise
            return None
        finally:
            link.close()
        forked.ended(0)  # our own child: Popen hears of its end
        return process

    async def close(self) -> None:
        """End it and wait for that."""
        self._is_over = True
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait([self._warming])
        if self._link is not None:
            self._link.close()
        if self._process is not None:
            await self._end(self._process)
        if self._ending is not None:
            await self._ending
        self._process = self._link = None

    async def _warm_up(self) -> None:
        if (await asyncio.to_thread(read_memory)).available_bytes < MIN_AVAILABLE_BYTES:
            return
        ours, theirs = socket_pair()
        link = ZygoteLink(ours, self._ended)
        try:
            with theirs:
                await to_the_end(asyncio.to_thread(self._spawn, theirs.fileno()))
            names = await asyncio.to_thread(imported_names, self._bundle)
            await link.preload(Preload(names, self._bundle.manifest.requirements))
        except BaseException as exc:
            link.close()
            if self._process is not None:
                await self._end(self._process)
                self._process = None
            if not isinstance(exc, (CannotFork, OSError)):
                raise
            self._is_over = True
            log.info("%s: no worker is kept warm: %s", self._name, exc)
        else:
            self._link = link

    def _spawn(self, fd: int) -> None:
        env = self._env | {"NBSERVE_ZYGOTE_FD": str(fd), "NBSERVE_SPARE": "1"}
        self._process = start_process(env, fd, self._log_path)

    def _ended(self) -> None:
        """It has died while nobody needed it: the next worker is spawned, and another spare warmed up then."""
        if self._link is not None and self._process is not None:
            self._ending = asyncio.get_running_loop().create_task(self._end(self._process))
            self._process = self._link = None

    @staticmethod
    async def _end(process: subprocess.Popen[bytes]) -> None:
        process.kill()
        await asyncio.to_thread(process.wait)
