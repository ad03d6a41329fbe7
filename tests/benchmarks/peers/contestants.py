"""A server of the comparison: started with its settings, asked until it answers, ended with all that it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.benchmarks.endpoints import serve, tree_cpu_s

__all__ = ["PEERS_PYTHON", "Running", "Setup", "running"]

SERVERS = Path(__file__).parent / "servers"
PEERS_PYTHON = Path(__file__).resolve().parents[3] / ".venv-peers" / "bin" / "python"
PATHS = {"mosec": "/inference", "fastapi": "/predict", "litserve": "/predict"}
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Setup:
    """A server with its settings. `wait_ms`: how long a batch waits for more. `threads`: torch's; 0 = its default."""

    server: str
    workload: str
    wait_ms: float = 0.0
    max_batch_size: int = 32
    workers: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    token: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """CPU seconds, user and system, of its whole process tree so far."""
        return tree_cpu_s(self.process)

    def ask(self, body: bytes) -> httpx.Response:
        """One request."""
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.post(self.url, content=body, headers=headers, timeout=30, trust_env=False)


@contextmanager
def running(setup: Setup, body: bytes, folder: Path) -> Iterator[Running]:
    """The server, answering `body`, until the block is left; its log is in `folder`. Raises RuntimeError."""
    log = folder / f"{setup.server}-{setup.workload}.log"
    if setup.server == "nbserve":
        options = ["--max-batch-size", str(setup.max_batch_size), "--workers", str(setup.workers)]
        options += ["--max-batch-delay-ms", str(setup.wait_ms)] if setup.wait_ms else []
        options += ["--threads", str(setup.threads)] if setup.threads else []
        with serve(folder / "bundles" / setup.workload, setup.workload, log, options) as served:
            yield Running(served.url, served.token, served.process)
        return
    port = _free_port()
    command = [PEERS_PYTHON, SERVERS / f"{setup.server}_server.py", setup.workload, "--port", port]
    command += ["--wait-ms", setup.wait_ms, "--max-batch-size", setup.max_batch_size]
    command += ["--workers", setup.workers, "--threads", setup.threads]
    with log.open("w") as output:
        child = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output, start_new_session=True)
    one = Running(f"http://127.0.0.1:{port}{PATHS[setup.server]}", "", psutil.Process(child.pid))
    try:
        _wait_ready(one, child, body, log)
        yield one
    finally:
        _end(child)


def _wait_ready(one: Running, child: subprocess.Popen[bytes], body: bytes, log: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    last = "no answer"
    while time.monotonic() < deadline_s and child.poll() is None:
        try:
            answer = one.ask(body)
        except httpx.TransportError as exc:
            last = str(exc)
        else:
            if answer.is_success:
                return
            last = f"{answer.status_code} {answer.text[:300]}"
        time.sleep(0.1)
    raise RuntimeError(f"{log.stem} did not become ready ({last}):\n{log.read_text()}")


def _end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM to all of its session, then SIGKILL: some of them leave processes behind."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        child.wait(END_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
