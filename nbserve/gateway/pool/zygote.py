"""The gateway's side of zygotes: one process per endpoint that has imported what its workers need, and forks them.

`Zygotes` hands them out to pools (supervisor.py), each with the worker that waits beside it (standby.py); `Zygote.fork`
is called by the provisioner. The process itself is worker/zygote.py, what is said between the two wire/zygote.py. Where
there can be no fork a `CannotFork` says why, and the worker is spawned. A forked worker is ready in a fifth of the time
of a spawned one, and shares its memory (docs/architecture.md has the figures).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nbserve.bundle import Bundle
from nbserve.bundle.imports import imported_names
from nbserve.config import ModelConfig
from nbserve.gateway.cancellation import to_the_end
from nbserve.gateway.pool.forked import CannotFork, ForkedProcess, ZygoteLink
from nbserve.gateway.pool.standby import Standby
from nbserve.gateway.pool.topology import Memory
from nbserve.packets import socket_pair
from nbserve.wire.zygote import Fork, Preload, Preloaded, changes

__all__ = ["CannotFork", "Zygote", "Zygotes", "start_process", "why_spawn"]

log = logging.getLogger("nbserve.pool")

FORK_WAIT_S = 10.0
"""A zygote that has not answered by then is given up (a fork takes some 5 ms)."""
MAX_DEATHS = 3
"""A zygote that died is started again, but no more often than this."""
MAX_LEFT_OUT = 3
"""So many packages are left to the workers; then these are spawned. Each costs another round of importing."""
MIN_AVAILABLE_BYTES = 512 << 20
"""Below this no zygote is started: beside one worker it takes some 30 MB more, and saves memory only with several."""
LINGER_S = 10.0
"""How long one that no pool uses is kept: the next version of its endpoint may be on its way (stop-first, rollback)."""


def why_spawn(config: ModelConfig, platform: str, memory: Memory, *, has_pidfd: bool) -> str:
    """Why the workers of this configuration are not to be forked; empty = they are. Pure."""
    if config.start == "spawn":
        return "asked for"
    if not platform.startswith("linux") or not has_pidfd:
        return "forking needs Linux 5.3 or newer"
    if config.start == "auto" and memory.available_bytes < MIN_AVAILABLE_BYTES:
        return f"only {memory.available_bytes >> 20} MB of memory are free"
    return ""


class _Key(NamedTuple):
    """What decides what a zygote is: another set of these needs another one."""

    name: str
    requirements: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]


class Lease(NamedTuple):
    """What a pool forks its workers with."""

    zygote: Zygote
    standby: Standby


class Zygotes:
    """All zygotes of a gateway: one per endpoint, shared by its versions while they need the same."""

    def __init__(self, runtime_dir: Path) -> None:
        self._runtime_dir = runtime_dir
        self._leases: dict[_Key, Lease] = {}
        self._users: dict[_Key, int] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)

    def lease(self, name: str, bundle: Bundle, env: Mapping[str, str]) -> Lease:
        """The zygote for workers of this bundle in this environment, started if need be; `release` it afterwards."""
        key = _Key(name, tuple(sorted(bundle.manifest.requirements)), tuple(sorted(env.items())))
        self._users[key] = self._users.get(key, 0) + 1
        if key not in self._leases:
            number = next(self._numbers)
            zygote = Zygote(name, bundle, env, self._runtime_dir / f"zygote-{number}.log")
            standby = Standby(zygote, env, self._runtime_dir, self._runtime_dir / f"standby-{number}.log")
            self._leases[key] = Lease(zygote, standby)
            zygote.start()
        return self._leases[key]

    def release(self, lease: Lease) -> None:
        """One user less; without any it ends, after a while."""
        key = next(key for key, one in self._leases.items() if one is lease)
        self._users[key] -= 1
        asyncio.get_running_loop().call_later(LINGER_S, self._drop_unused, key)

    def _drop_unused(self, key: _Key) -> None:
        if not self._users.get(key) and (lease := self._leases.pop(key, None)) is not None:
            task = asyncio.get_running_loop().create_task(_end(lease))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """End all of them; workers that still run are not touched."""
        leases, self._leases = list(self._leases.values()), {}
        await asyncio.gather(*self._closing, *map(_end, leases))


async def _end(lease: Lease) -> None:
    await lease.standby.close()  # first: its exit is reported by the zygote
    await lease.zygote.close()


def start_process(env: Mapping[str, str], fd: int, log_path: Path) -> subprocess.Popen[bytes]:
    """worker/zygote.py with this end of its socket. In a thread: it takes milliseconds, which are not the loop's."""
    with log_path.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "nbserve.worker.zygote"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(fd,),
            start_new_session=True,
        )


class Zygote:
    """One zygote process, and its successor where it dies. `env`: that of its workers, but for what each has its own.

    All methods are called on the gateway's loop.
    """

    def __init__(self, name: str, bundle: Bundle, env: Mapping[str, str], log_path: Path) -> None:
        self.name = name
        self.pid: int | None = None
        self._bundle = bundle
        self._env = dict(env)
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self._link: ZygoteLink | None = None
        self._booting: asyncio.Task[None] | None = None
        self._deaths = 0
        self._broken = ""
        self._closed = False

    def start(self) -> None:
        """Begin to import, in the background."""
        self._booting = asyncio.get_running_loop().create_task(self._boot())

    async def fork(
        self, args: Sequence[str], env: Mapping[str, str], cwd: str, fds: Sequence[int], *, patience_s: float
    ) -> ForkedProcess:
        """A new worker with this command line, environment and folder, and copies of these descriptors.

        fds: log, data stream, status page, pidfd of the gateway. Waits for what is still being imported, at most
        `patience_s`. Raises CannotFork.
        """
        if self._booting is not None and not self._booting.done():
            await asyncio.wait([self._booting], timeout=patience_s)
            if not self._booting.done():
                raise CannotFork("the zygote is still importing")
        if self._link is None:
            raise CannotFork(self._broken or "the zygote has just died")
        try:
            async with asyncio.timeout(FORK_WAIT_S):
                return await self._link.fork(Fork(next(_ids), list(args), changes(self._env, env), cwd), fds)
        except TimeoutError:
            if self._process is not None:
                self._process.kill()  # the end of its socket does the rest
            raise CannotFork(f"the zygote gave no answer within {FORK_WAIT_S:g} s") from None

    async def close(self) -> None:
        """End the process and wait for that; its children live on, their exit codes unknown."""
        self._closed = True
        if self._booting is not None:
            self._booting.cancel()
            await asyncio.wait([self._booting])
        if self._link is not None:
            self._link.close()
            self._link = None
        await self._end()

    # -- life --------------------------------------------------------------------------------------------------------

    async def _boot(self) -> None:
        """Start the process, have it import, and hear that it can fork; `_broken` says why where it cannot.

        An import that makes forking unsafe is left to the workers, and the rest is imported anew.
        """
        skipped: dict[str, str] = {}
        while True:
            try:
                self._link, done = await self._preloaded(skipped)
            except Exception as exc:  # whatever it is, workers can be spawned
                await self._end()
                if isinstance(exc, CannotFork) and exc.name and len(skipped) < MAX_LEFT_OUT:
                    skipped[exc.name.partition(":")[0].partition(".")[0]] = str(exc)
                    continue
                self._broken = str(exc) if isinstance(exc, CannotFork) else f"{type(exc).__name__}: {exc}"
                log.warning("%s: its workers are spawned, not forked: %s", self.name, self._broken)
            else:
                why_not = "".join(f"; not {name}: {why}" for name, why in (skipped | done.skipped).items())
                log.info("%s: zygote ready in %.2f s: %s%s", self.name, done.seconds, " ".join(done.names), why_not)
            return

    async def _preloaded(self, left_out: Mapping[str, str]) -> tuple[ZygoteLink, Preloaded]:
        """A new process that has imported all but these packages. Raises CannotFork."""
        link = None
        try:
            ours, theirs = socket_pair()
            with theirs:
                link = ZygoteLink(ours, self._died)
                await to_the_end(asyncio.to_thread(self._spawn, theirs.fileno()))
            names = await asyncio.to_thread(imported_names, self._bundle)
            names = [name for name in names if name.partition(":")[0].partition(".")[0] not in left_out]
            done = await link.preload(Preload(names, self._bundle.manifest.requirements))
        except BaseException as exc:
            if link is None:
                raise
            link.close()
            if isinstance(exc, CannotFork) and link.died_importing and self._process is not None:
                await self._end()
                raise CannotFork(f"the zygote ended with code {self._process.returncode} while it imported") from None
            raise
        return link, done

    def _spawn(self, fd: int) -> None:
        self._process = start_process(self._env | {"NBSERVE_ZYGOTE_FD": str(fd)}, fd, self._log_path)
        self.pid = self._process.pid

    def _died(self) -> None:
        """The end of its socket. While it imports, `_boot` hears of it by itself."""
        if self._link is None:
            return
        self._link = None
        self._deaths += 1
        if self._closed:
            return
        if self._deaths > MAX_DEATHS:
            self._broken = f"the zygote has died {self._deaths} times"
            log.warning("%s: workers are spawned from now on: %s", self.name, self._broken)
            return
        log.warning("%s: its zygote (pid %s) has died, a new one is started; its workers live on", self.name, self.pid)
        self._booting = asyncio.get_running_loop().create_task(self._reboot())

    async def _reboot(self) -> None:
        await self._end()
        await self._boot()

    async def _end(self) -> None:
        """Kill the process, if it is not dead, and wait for that."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


_ids = itertools.count(1)
