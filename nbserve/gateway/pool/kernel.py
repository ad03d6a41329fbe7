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
from typing import NamedTuple

import psutil
import zmq.asyncio
from jupyter_client.manager import AsyncKernelManager

from nbserve.config import ModelConfig
from nbserve.gateway.pool.placement import WorkerPlan, thread_environment
from nbserve.gateway.pool.provisioner import KERNEL, Channel, MemoryKernelSpecs, NbserveProvisioner
from nbserve.wire.statuspage import Progress

__all__ = ["Printed", "Usage", "WorkerKernel", "environment"]

EXIT_GRACE_S = 2.0
"""How long a worker may take to leave after its stream was closed."""
_REAP_EVERY_S = 0.005


class Printed(NamedTuple):
    """What user code printed; `batch_id` and `request_ids` as the worker marked it."""

    text: str
    stream: str
    batch_id: int | None
    request_ids: list[str]


class Usage(NamedTuple):
    """What the process uses; `pss_bytes` None where the system does not tell."""

    rss_bytes: int
    pss_bytes: int | None
    cpu_s: float


class WorkerKernel:
    """One kernel process. `start` once, `connect` once, and after the stream has ended `reap` and `close`."""

    def __init__(self, context: zmq.asyncio.Context, runtime_dir: Path, on_print: Callable[[Printed], None]) -> None:
        stem = runtime_dir / f"w{os.urandom(4).hex()}"  # unix socket paths end at 107 characters
        self._manager = AsyncKernelManager(
            kernel_name=KERNEL,
            kernel_spec_manager=MemoryKernelSpecs(),
            transport="ipc",
            ip=str(stem),
            connection_file=f"{stem}.json",
            context=context,
        )
        self._manager.transport_encryption = "disabled"
        self._on_print = on_print
        self._prints: asyncio.Task[None] | None = None
        self._channel: Channel | None = None
        self.prints_on = asyncio.Event()
        """Set once its prints arrive: what is printed before is lost."""
        self.pid: int | None = None

    async def start(self, env: dict[str, str], log_path: Path) -> None:
        """Launch the process; what it writes outside Jupyter goes to the log. Raises what the launch does."""
        with log_path.open("wb") as output:
            await self._manager.start_kernel(env=env, stdout=output, stderr=output, cwd=os.getcwd())
        provisioner = self._manager.provisioner
        assert isinstance(provisioner, NbserveProvisioner)
        self._channel = provisioner.channel
        self.pid = provisioner.pid
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
        return str(self._manager.connection_file)

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
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def reap(self) -> int | None:
        """Wait for its end, which is near, and hurry it on where it is not -> exit code, -signal; None = no process."""
        provisioner = self._manager.provisioner
        if provisioner is None:
            return None
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + EXIT_GRACE_S
        while (code := await provisioner.poll()) is None:
            if loop.time() > deadline_s:
                self.kill()
                deadline_s += EXIT_GRACE_S
            await asyncio.sleep(_REAP_EVERY_S)
        self.pid = None
        return code

    async def close(self) -> None:
        """Deliver its last prints, and remove its sockets and files. After `reap`, or a `start` that raised."""
        if self._prints is not None:
            await asyncio.sleep(0)  # what iopub has received is delivered first
            self._prints.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._prints
        with contextlib.suppress(OSError):
            await self._manager.cleanup_resources()
        self._manager.cleanup_ipc_files()
        if self._channel is not None:
            self._channel.page.close()
            self._channel = None

    async def _follow_prints(self) -> None:
        client = self._manager.client()
        client.start_channels(shell=False, iopub=True, stdin=False, hb=False, control=False)
        try:
            while True:
                message = await client.iopub_channel.get_msg(timeout=None)
                self.prints_on.set()
                if message["msg_type"] == "stream":
                    parent = message.get("parent_header") or {}
                    content, requests = message["content"], parent.get("nbserve_requests") or ""
                    batch_id = parent.get("nbserve_batch")
                    ids = requests.split(",") if requests else []
                    self._on_print(Printed(content["text"], content["name"], batch_id, ids))
        finally:
            client.stop_channels()

    # -- figures -----------------------------------------------------------------------------------------------------

    def rss_bytes(self) -> int:
        """Its memory now; 0 where it has no process."""
        if self.pid is not None:
            with contextlib.suppress(psutil.Error):
                return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    def usage(self) -> Usage | None:
        """Memory and CPU time, from /proc; None where it has no process."""
        if self.pid is not None:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(self.pid)
                memory, times = process.memory_full_info(), process.cpu_times()
                return Usage(memory.rss, getattr(memory, "pss", None), times.user + times.system)
        return None


def environment(plan: WorkerPlan, config: ModelConfig, runtime_dir: Path) -> dict[str, str]:
    """A worker's environment: the gateway's, its cores and threads, and what the user gave."""
    hidden = ("JPY_SESSION_NAME", "PYTHONINSPECT", "NBSERVE_TOKEN")
    env = {key: value for key, value in os.environ.items() if key not in hidden}
    env |= thread_environment(plan.threads)
    env |= {
        "NBSERVE_CORES": ",".join(map(str, plan.cores)),
        "IPYTHONDIR": str(runtime_dir / "ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    if config.device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    return env | config.env
