"""Launches worker kernels for jupyter_client: a LocalProvisioner that forks where it can, with stream and status page.

Found by jupyter_client through the entry point in pyproject.toml, because the in-memory KernelSpec (`kernel_spec`)
names it; nothing is installed into Lab's launcher. Used by gateway/pool/worker.py only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.launcher import launch_kernel
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from nbserve.gateway.pool.forked import CannotFork
from nbserve.wire.statuspage import StatusPage

if TYPE_CHECKING:  # both know, by way of the kernels that they start, this module
    from nbserve.gateway.pool.spare import Spare
    from nbserve.gateway.pool.zygote import Zygote

__all__ = ["PROVISIONER", "Channel", "MemoryKernelSpecs", "NbserveProvisioner", "Start"]

PROVISIONER = "nbserve-provisioner"
KERNEL = "nbserve-worker"
PYTHON = (sys.executable, "-m", "nbserve.worker")
SOCKET_BUFFER_BYTES = 1 << 20
WARM_UP_AFTER_S = 2.0
"""After a worker was spawned the next one is warmed up: not at once, the one that starts has the cores first."""


class Channel(NamedTuple):
    """The gateway's ends of one worker's stream and status page."""

    sock: socket.socket
    page: StatusPage

    def close(self) -> None:
        """Close both."""
        self.sock.close()
        self.page.close()


class Start(NamedTuple):
    """How a worker is to be started: forked by this zygote, else spawned, for this reason ("" = nobody asks).

    insist: not spawned where it cannot be forked. patience_s: how long to wait for a zygote that still imports.
    spare: a warm process for those that are spawned.
    """

    zygote: Zygote | None = None
    reason: str = ""
    insist: bool = False
    patience_s: float = 0.0
    spare: Spare | None = None


class NbserveProvisioner(LocalProvisioner):
    """One launch: a fresh stream and page are made, their far ends handed to the kernel by number."""

    channel: Channel | None = None
    started = ""
    """ "forked", "spawned", or "spawned: REASON" """

    async def launch_kernel(self, cmd: list[str], start: Start = Start(), **kwargs: Any) -> Any:  # noqa: B008
        """Called by KernelManager.start_kernel; `self.channel` is new after each call. Raises CannotFork if insisted.

        Processes are started in threads or elsewhere: that takes milliseconds, which are not the loop's.
        """
        reason = start.reason
        if start.zygote is not None:
            try:
                with self._new_channel() as fds:
                    await self._fork(start.zygote, cmd, fds, start.patience_s, **kwargs)
                self.started = "forked"
                return self.connection_info
            except CannotFork as exc:
                reason = str(exc)
        if start.insist:
            raise CannotFork(f"{reason}; with `--start auto` it would have been spawned")
        with self._new_channel() as fds:
            if start.spare is None or not await self._adopt(start.spare, cmd, fds, **kwargs):
                await self._spawn(cmd, fds, **kwargs)
        self.started = f"spawned: {reason}" if reason else "spawned"
        return self.connection_info

    async def _fork(
        self,
        zygote: Zygote,
        cmd: Sequence[str],
        fds: Sequence[int],
        patience_s: float,
        *,
        env: dict[str, str],
        stdout: Any,
        cwd: str,
        **_: Any,
    ) -> None:
        process: Any = await zygote.fork(cmd[len(PYTHON) :], env, cwd, (stdout.fileno(), *fds), patience_s=patience_s)
        self.process = process
        self.pid = self.pgid = process.pid  # it leads a session of its own, or is about to
        self.cwd = cwd

    async def _adopt(
        self,
        spare: Spare,
        cmd: Sequence[str],
        fds: Sequence[int],
        *,
        env: dict[str, str],
        stdout: Any,
        cwd: str,
        **_: Any,
    ) -> bool:
        process = await spare.become(cmd[len(PYTHON) :], env, cwd, (stdout.fileno(), *fds))
        asyncio.get_running_loop().call_later(WARM_UP_AFTER_S, spare.warm_up)
        if process is None:
            return False
        self.process, self.cwd = process, cwd
        self.pid = self.pgid = process.pid  # it leads a session of its own
        return True

    async def _spawn(self, cmd: list[str], fds: Sequence[int], **kwargs: Any) -> None:
        names = ("NBSERVE_DATA_FD", "NBSERVE_STATUS_FD", "NBSERVE_GATEWAY_FD")
        env = dict(kwargs.pop("env", None) or os.environ) | dict(zip(names, map(str, fds), strict=False))
        options = LocalProvisioner._scrub_kwargs(kwargs)
        self.process = await asyncio.to_thread(launch_kernel, cmd, env=env, pass_fds=tuple(fds), **options)
        self.pid = self.pgid = self.process.pid  # it leads a session of its own
        self.cwd = kwargs.get("cwd", os.getcwd())

    @contextlib.contextmanager
    def _new_channel(self) -> Iterator[list[int]]:
        """`self.channel`, closed again where the launch fails -> the far ends: stream, page, pidfd of this process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        page = StatusPage.create()
        page.set_progress(0, "start")
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        ours.setblocking(False)
        gateway = _own_pidfd()
        try:
            yield [theirs.fileno(), page.fd, *gateway]
        except BaseException:
            ours.close()
            page.close()
            raise
        finally:
            theirs.close()
            for fd in gateway:
                os.close(fd)
        self.channel = Channel(ours, page)


def _own_pidfd() -> list[int]:
    """A pidfd of this process, by which workers see its end; none on systems that have none."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            return [os.pidfd_open(os.getpid())]
    return []


class MemoryKernelSpecs(KernelSpecManager):
    """The one KernelSpec of worker kernels, never written to disk."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The worker's spec, whatever the name."""
        return KernelSpec(
            argv=[
                *PYTHON,
                "-f",
                "{connection_file}",
                "--HistoryManager.enabled=False",
                "--IPKernelApp.exec_PYTHONSTARTUP=False",
            ],
            display_name=KERNEL,
            language="python",
            metadata={"kernel_provisioner": {"provisioner_name": PROVISIONER}},
        )
