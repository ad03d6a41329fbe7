"""Where a row plays: a real gateway process with folders of its own, its management API, and what it leaves behind.

Every process that it starts carries a mark in its environment, by which it is found again. Used by the rows.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from nbserve.bundle.garbage import collect
from nbserve.launch import GatewayProcess, gateway_config
from nbserve.wire.management import Event, ModelStatus
from tests.faults.handlers import BUNDLE, Executions, make_bundle
from tests.faults.traffic import Connection, Reply, Traffic

__all__ = ["MODEL", "NoReply", "Stage", "stage", "until"]

MARK = "NBSERVE_FAULTS_MARK"
MODEL = "m"
POLL_S = 0.02
CALL_TIMEOUT_S = 60.0
END_TIMEOUT_S = 45.0


class NoReply(Exception):
    """The management API left a call without an answer."""


class Stage:
    """One gateway. `folder` holds everything that it and the row write."""

    def __init__(self, gateway: GatewayProcess, folder: Path, mark: str) -> None:
        self.gateway = gateway
        self.folder = folder
        self.executions = Executions(folder / "executions")
        self._mark = mark

    # -- what rows do with it ----------------------------------------------------------------------------------------

    def bundle(self, **options: Any) -> Path:
        """A bundle of tests/faults/handlers."""
        return make_bundle(self.folder / "bundles", self.executions.path, **options)

    def traffic(self, rng: random.Random, do: Callable[[], str] = lambda: "", model: str = MODEL) -> Traffic:
        """A new set of clients of one model."""
        return Traffic(self.gateway.port, self.gateway.config.token, f"/predictions/{model}", rng, do)

    def connection(self) -> Connection:
        """One more client."""
        return Connection(self.gateway.port, self.gateway.config.token)

    async def manage(self, method: str, path: str, body: Any = None) -> Reply:
        """One call of the management API, on a connection of its own. Raises NoReply."""
        connection = self.connection()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await connection.request(method, path, b"" if body is None else json.dumps(body).encode())
        except (OSError, EOFError, TimeoutError) as exc:  # TimeoutError is an OSError: no reply is a fault of its own
            raise NoReply(
                f"{method} {path}: no reply within {CALL_TIMEOUT_S:g} s ({type(exc).__name__} {exc})"
            ) from exc
        finally:
            connection.abort()

    async def register(self, bundle: Path, *, model: str = MODEL, synchronous: bool = True, **config: Any) -> Reply:
        """POST /models."""
        asked = {"url": str(bundle), "model_name": model, "synchronous": synchronous, "config": config}
        return await self.manage("POST", "/models", asked)

    async def serve(self, bundle: Path, **config: Any) -> ModelStatus:
        """Register; a failure is one of the row itself."""
        reply = await self.register(bundle, **config)
        if reply.status != 200:
            raise RuntimeError(f"the model could not be served: {reply.status} {reply.body.decode()[:500]}")
        return msgspec.json.decode(reply.body, type=ModelStatus)

    async def model(self, name: str = MODEL) -> ModelStatus:
        """Its default version now."""
        reply = await self.manage("GET", f"/models/{name}")
        if reply.status != 200:
            raise RuntimeError(f"GET /models/{name}: {reply.status} {reply.body.decode()[:500]}")
        versions = msgspec.json.decode(reply.body, type=list[ModelStatus])
        return next((one for one in versions if one.default), versions[-1])

    async def events(self, since: int = 0) -> list[Event]:
        """What the gateway remembers after `since`."""
        reply = await self.manage("GET", f"/events?since={since}&follow=false")
        return [msgspec.json.decode(line, type=Event) for line in reply.body.splitlines() if line.strip()]

    async def worker_pids(self, name: str = MODEL) -> list[int]:
        """Of the workers that can take requests."""
        workers = (await self.model(name)).workers
        return [worker.pid for worker in workers if worker.pid and worker.state in ("READY", "BUSY")]

    async def until_ready(self, workers: int, gone: set[int], within_s: float, name: str = MODEL) -> bool:
        """Whether so many workers, none of them in `gone`, are ready in time."""

        async def ready() -> bool:
            pids = set(await self.worker_pids(name))
            return len(pids) >= workers and not pids & gone

        return await until(ready, within_s)

    async def collect_garbage(self) -> None:
        """What the notebook does after a version has come to serve: bundles that nothing needs are removed."""
        models = (await self.manage("GET", "/status")).json()["models"]
        in_use = [Path(path) for model in models for path in (model["bundle"], *model.get("kept_bundles", []))]
        await asyncio.to_thread(collect, self.folder / "bundles", BUNDLE, in_use)

    # -- what it has and leaves --------------------------------------------------------------------------------------

    def rss_bytes(self) -> int:
        """Memory of the gateway process."""
        return int(psutil.Process(self.gateway.pid).memory_info().rss)

    def fds(self) -> Counter[str]:
        """Open files of the gateway by what they are; numbers in the names are left out."""
        names: Counter[str] = Counter()
        for link in Path(f"/proc/{self.gateway.pid}/fd").iterdir():
            try:
                target = os.readlink(link)
            except OSError:  # closed meanwhile
                continue
            names[target.partition(":[")[0] if ":[" in target else target] += 1
        return names

    def processes(self) -> dict[int, str]:
        """Living processes of this stage beside the gateway, with their command lines."""
        found = dict(marked(self._mark))
        found.pop(self.gateway.pid, None)
        return found

    def sockets_and_connection_files(self) -> set[str]:
        """Socket and connection files in the gateway's folders."""
        files = [path for path in self.folder.rglob("*") if path.is_socket() or path.suffix == ".json"]
        inside = [str(path.relative_to(self.folder)) for path in files]
        return {path for path in inside if path.startswith("tmp/")}

    async def end(self) -> list[str]:
        """Ask the gateway to end; returns what it left behind."""
        self.gateway.terminate()
        code = await asyncio.to_thread(self.gateway.wait, END_TIMEOUT_S)
        left = (
            [] if code == 0 else [f"the gateway ended with {code}" if code is not None else "the gateway did not end"]
        )
        if code is None:
            await asyncio.to_thread(self.gateway.kill)

        async def gone() -> bool:
            return not self.processes()

        await until(gone, 3.0)
        left += [f"process {pid}: {command[:120]}" for pid, command in self.processes().items()]
        left += [f"file {path.relative_to(self.folder)}" for path in (self.folder / "tmp").rglob("*")]
        left += [f"discovery record {path.name}" for path in (self.folder / "runtime").glob("*nbserve*")]
        return left


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """A fresh stage; its gateway and folder are gone afterwards, whatever happens. Use `Stage.end` to know more."""
    folder = Path(tempfile.mkdtemp(prefix="nbs-"))
    mark = uuid.uuid4().hex
    (folder / "tmp").mkdir()
    own = {
        MARK: mark,
        "TMPDIR": str(folder / "tmp"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "NBSERVE_HOME": str(folder / "home"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    config = gateway_config("notebook", owner_pid=os.getpid(), name="faults", shutdown_grace_s=10.0)
    gateway = None
    try:
        with _environment(own):  # inherited by the gateway, and by its workers from it
            gateway = await asyncio.to_thread(lambda: GatewayProcess(config, log=folder / "gateway.log"))
        yield Stage(gateway, folder, mark)
    finally:
        if gateway is not None:
            await asyncio.to_thread(gateway.kill)
        for pid, _ in marked(mark):
            psutil.Process(pid).kill()
        shutil.rmtree(folder, ignore_errors=True)


async def until(condition: Callable[[], Any], within_s: float) -> bool:
    """Whether the condition (a coroutine function) came true in time; asked every POLL_S."""
    deadline = time.monotonic() + within_s
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """Living processes that carry the mark."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if command:
                    yield int(entry.name), command
        except OSError:  # gone meanwhile, or another user's
            continue
