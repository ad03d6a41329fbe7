"""The Jupyter kernel of one worker: its process, environment, prints and figures, from launch to the last file.

Owned by worker.py, which makes a new one for each launch. Knows nothing of batches or states; the frames that travel
over the data stream are worker.py's too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import psutil
import zmq.asyncio
from jupyter_client.manager import AsyncKernelManager

from nbserve.config import ModelConfig
from nbserve.gateway.pool import memory
from nbserve.gateway.pool.forked import UNKNOWN_EXIT
from nbserve.gateway.pool.placement import WorkerPlan, thread_environment
from nbserve.gateway.pool.prints import Printed, printed
from nbserve.gateway.pool.provisioner import KERNEL, Channel, MemoryKernelSpecs, NbserveProvisioner, Start
from nbserve.wire.arena import Arena
from nbserve.wire.statuspage import Progress

__all__ = ["WorkerKernel", "environment", "zygote_environment"]

EXIT_GRACE_S = 2.0
"""How long a worker may take to leave after its stream was closed."""
_REAP_EVERY_S = 0.005


class WorkerKernel:
    """One kernel process. `start` once, `connect` once, and after the stream has ended `reap` and `close`."""

    def __init__(self, context: zmq.asyncio.Context, runtime_dir: Path, on_print: Callable[[Printed], None]) -> None:
        self._context, self._runtime_dir = context, runtime_dir
        self._manager: AsyncKernelManager | None = None
        self._on_print = on_print
        self._prints: asyncio.Task[None] | None = None
        self._channel: Channel | None = None
        self.arena: Arena | None = None
        """Memory shared with the process, for large batches."""
        self.prints_on = asyncio.Event()
        """Set once its prints arrive: what is printed before is lost."""
        self.pid: int | None = None
        self.env: dict[str, str] = {}
        """What it was started with."""
        self._log_path = Path()
        self.started = ""
        """How: "forked", "spawned", or "spawned: REASON"."""

    async def start(self, env: dict[str, str], log_path: Path, start: Start) -> None:
        """Launch the process; what it writes outside Jupyter goes to the log. Raises what the launch does."""
        self.env, self._log_path = env, log_path
        manager, output = await asyncio.to_thread(self._prepare, log_path)
        self._manager = manager
        with output:
            await manager.start_kernel(env=env, stdout=output, stderr=output, cwd=os.getcwd(), start=start)
        provisioner = manager.provisioner
        assert isinstance(provisioner, NbserveProvisioner)
        self._channel = channel = provisioner.channel
        assert channel is not None
        self.arena = Arena(channel.page.fd)
        self.pid = provisioner.pid
        self.started = provisioner.started

    def _prepare(self, log_path: Path) -> tuple[AsyncKernelManager, BinaryIO]:
        """In a thread: traitlets and files take milliseconds, which are not the loop's."""
        stem = self._runtime_dir / f"w{os.urandom(4).hex()}"  # unix socket paths end at 107 characters
        manager = AsyncKernelManager(
            kernel_name=KERNEL,
            kernel_spec_manager=MemoryKernelSpecs(),
            transport="ipc",
            ip=str(stem),
            connection_file=f"{stem}.json",
            context=self._context,
        )
        manager.transport_encryption = "disabled"
        manager.write_connection_file()
        return manager, log_path.open("wb")

    async def is_running(self) -> bool:
        """Whether its process is there."""
        provisioner = self._manager.provisioner if self._manager is not None else None
        return provisioner is not None and await provisioner.poll() is None

    def hand_over(self, log_path: Path, on_print: Callable[[Printed], None]) -> None:
        """One that was started for whoever comes is a worker's from now on: its log has this name."""
        self._log_path.replace(log_path)
        self._on_print = on_print

    async def discard(self) -> None:
        """End one that nobody has connected to, and leave nothing."""
        if self._channel is not None:
            self._channel.sock.close()
        self.kill()
        await self.reap()
        await self.close()
        with contextlib.suppress(FileNotFoundError):
            self._log_path.unlink()

    def follow_prints(self) -> None:
        """From now on, which is once it has said HELLO: zmq tries a socket that is not bound yet again after 0.1 s."""
        self._prints = asyncio.get_running_loop().create_task(self._follow_prints())

    async def connect(self, protocol: asyncio.Protocol) -> asyncio.WriteTransport:
        """The data stream, to be read by this protocol."""
        assert self._channel is not None
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: protocol, sock=self._channel.sock)
        return transport

    @property
    def connection_file(self) -> str:
        """For `jupyter console --existing`."""
        return str(self._manager.connection_file) if self._manager is not None else ""

    @property
    def progress(self) -> Progress:
        """What it last said it was about to do."""
        return self._channel.page.progress if self._channel is not None else Progress(0, "start", 0)

    def interrupt(self, batch_id: int) -> None:
        """Interrupt the user code of this batch (or LOAD), if it is still at it."""
        if self._channel is not None and self.pid is not None:
            self._channel.page.cancelled = batch_id
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to its process group."""
        if self.pid is not None:
            with contextlib.suppress(PermissionError):
                try:
                    os.killpg(self.pid, signal.SIGKILL)
                except ProcessLookupError:  # it has ended, or it was forked this moment and leads no group yet
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self.pid, signal.SIGKILL)

    def _end_group(self) -> None:
        """Processes that the handler has started, and left: the group's number is theirs while one of them lives."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def reap(self) -> int | None:
        """Wait for its end, which is near, and hurry it on where it is not -> exit code, -signal; None = not known."""
        provisioner = self._manager.provisioner if self._manager is not None else None
        if provisioner is None:
            return None
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + EXIT_GRACE_S
        while (code := await provisioner.poll()) is None:
            if loop.time() > deadline_s:
                self.kill()
                deadline_s += EXIT_GRACE_S
            await asyncio.sleep(_REAP_EVERY_S)
        self._end_group()
        self.pid = None
        return code if code != UNKNOWN_EXIT else None

    async def close(self) -> None:
        """Deliver its last prints, and remove its sockets and files. After `reap`, or a `start` that raised."""
        if self._prints is not None:
            self._prints.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._prints
        if self._manager is not None:
            with contextlib.suppress(OSError):
                await self._manager.cleanup_resources()
            self._manager.cleanup_ipc_files()
        if self._channel is not None:
            if self.arena is not None:
                self.arena.close()
            self._channel.page.close()
            self._channel = self.arena = None

    async def _follow_prints(self) -> None:
        assert self._manager is not None
        iopub = cast(zmq.asyncio.Socket, self._manager.connect_iopub())
        try:
            while True:
                parts = await iopub.recv_multipart()
                self.prints_on.set()
                self._take(parts)
                await asyncio.sleep(0)  # requests are not held up by who prints without end
        finally:
            with contextlib.suppress(zmq.Again):  # what has come is delivered
                while True:
                    self._take(await iopub.recv_multipart(zmq.NOBLOCK))
            iopub.close(linger=0)

    def _take(self, parts: list[bytes]) -> None:
        if (what := printed(parts)) is not None:
            self._on_print(what)

    # -- figures -----------------------------------------------------------------------------------------------------

    def rss_bytes(self) -> int:
        """Its memory now; 0 where it has no process."""
        if self.pid is not None:
            with contextlib.suppress(psutil.Error):
                return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    def usage(self) -> memory.Usage | None:
        """Memory and CPU time; None where it has no process. Takes milliseconds: for a thread."""
        return memory.usage(pid) if (pid := self.pid) is not None else None

    def overwritten_bytes(self, folder: Path) -> int | None:
        """What it has written over of mapped files below this folder; None where unknown. For a thread."""
        return memory.overwritten_bytes(pid, folder) if (pid := self.pid) is not None else None


def environment(plan: WorkerPlan, config: ModelConfig, runtime_dir: Path) -> dict[str, str]:
    """A worker's environment: the gateway's, its cores and threads, and what the user gave."""
    own = thread_environment(plan.threads) | {"NBSERVE_CORES": ",".join(map(str, plan.cores))}
    return _shared_environment(config, runtime_dir) | own | config.env


def zygote_environment(config: ModelConfig, runtime_dir: Path) -> dict[str, str]:
    """A worker's, but for its cores; one thread, so that importing the maths libraries starts none."""
    return _shared_environment(config, runtime_dir) | config.env | thread_environment(1)


def _shared_environment(config: ModelConfig, runtime_dir: Path) -> dict[str, str]:
    hidden = ("JPY_PARENT_PID", "JPY_SESSION_NAME", "PYTHONINSPECT", "NBSERVE_TOKEN")
    env = {key: value for key, value in os.environ.items() if key not in hidden}
    env |= {"IPYTHONDIR": str(runtime_dir / "ipython"), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    if config.device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    return env
