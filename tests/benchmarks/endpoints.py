"""Endpoints under load: made by a cell of a fresh kernel (timed), then served from that bundle by `nbserve serve`."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from nbserve.client import Client
from nbserve.discovery import records
from nbserve.errors import RequestError
from nbserve.wire.management import ModelStatus
from tests.benchmarks.scenarios import Scenario
from tests.kernels import Notebook, notebook

__all__ = [
    "FirstAnswer",
    "Rerun",
    "Served",
    "check",
    "commit",
    "first_answer",
    "first_answer_and_rerun",
    "machine",
    "serve",
    "tree_cpu_s",
    "versions",
]

START_TIMEOUT_S = 120.0
ASK_EVERY_S = 0.01


@dataclass(frozen=True)
class FirstAnswer:
    """Seconds from the first cell to the first answer over HTTP, in a kernel that has just started."""

    load_ext_s: float
    serve_s: float
    answer_s: float
    stages_s: dict[str, float]

    @property
    def total_s(self) -> float:
        """`%load_ext`, `%%serve_handler` and one request."""
        return self.load_ext_s + self.serve_s + self.answer_s

    def plain(self) -> dict[str, object]:
        """For the result file."""
        return asdict(self) | {"total_s": self.total_s}


@dataclass(frozen=True)
class Rerun:
    """Seconds from running the edited cell again until its version has answered, and until the cell has ended."""

    rerun_s: float
    rerun_cell_s: float


def first_answer(scenario: Scenario, folder: Path) -> FirstAnswer:
    """Serve the scenario from a fresh kernel; its bundle is left in `folder`/NAME."""
    with _from_a_cell(scenario, folder) as (_, _, first):
        return first


def first_answer_and_rerun(scenario: Scenario, folder: Path) -> tuple[FirstAnswer, Rerun]:
    """The same, and then the cell again, edited."""
    with _from_a_cell(scenario, folder) as (cells, client, first):
        return first, _rerun(scenario, cells, client)


@contextmanager
def _from_a_cell(scenario: Scenario, folder: Path) -> Iterator[tuple[Notebook, Client, FirstAnswer]]:
    folder.mkdir(parents=True, exist_ok=True)
    known = {record.pid for record in records()}
    with notebook(folder) as cells:
        cells.run("pass")
        cells.run(scenario.setup)
        load_ext_s = _timed(lambda: cells.run("%load_ext nbserve"))
        serve_s = _timed(lambda: cells.run(scenario.serve))
        [record] = [record for record in records() if record.pid not in known]
        client = Client.of(record)
        model = client.model(scenario.name)
        answer_s = _timed(lambda: client.predict(scenario.name, scenario.bodies[0]))
        check(scenario, client)
        bundle = folder / scenario.name
        if not bundle.exists():
            shutil.copytree(model.bundle, bundle)
        yield cells, client, FirstAnswer(load_ext_s, serve_s, answer_s, model.stages_s)
        client.close()
        cells.run(f"%nbserve stop {scenario.name}")


def _rerun(scenario: Scenario, cells: Notebook, client: Client) -> Rerun:
    """Asks for the next version until it answers. Raises what the cell raises."""
    version = str(int(client.model(scenario.name).version) + 1)
    with ThreadPoolExecutor(1) as pool:
        began = time.perf_counter()
        cell = pool.submit(_timed, lambda: cells.run(edited(scenario)))
        while True:
            ended = cell.done()
            with suppress(RequestError):  # there is no such version yet, or it is not ready
                client.predict(scenario.name, scenario.bodies[0], version=version)
                return Rerun(time.perf_counter() - began, cell.result())
            if ended:
                cell.result()
                raise RuntimeError(f"{scenario.name}: its cell was run again, and version {version} does not answer")
            time.sleep(ASK_EVERY_S)


def edited(scenario: Scenario) -> str:
    """The serving cell with other code that does the same."""
    return scenario.serve.replace(" return ", " ...; return ")


def check(scenario: Scenario, client: Client) -> None:
    """Ask with each body; raises ValueError where an answer is not the model's."""
    for body in scenario.bodies:
        _, answer = client.predict(scenario.name, body)
        if not scenario.is_right(json.loads(answer)):
            raise ValueError(f"{scenario.name} answered {answer[:100]!r} to {body[:100]!r}")


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


@dataclass(frozen=True)
class Served:
    """A running `nbserve serve` with one model."""

    name: str
    url: str
    token: str
    client: Client
    process: psutil.Process

    def model(self) -> ModelStatus:
        """Its status now."""
        return self.client.model(self.name)

    def cpu_s(self) -> float:
        """CPU seconds, user and system, that the whole process tree has used so far."""
        return tree_cpu_s(self.process)

    def worker_cores(self) -> set[int]:
        """Cores that workers are pinned to."""
        return {core for worker in self.model().workers for core in worker.cores}


def tree_cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process and its descendants, ended and waited-for ones included (Linux)."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


@contextmanager
def serve(bundle: Path, name: str, log: Path, options: list[str]) -> Iterator[Served]:
    """`nbserve serve BUNDLE` on free ports, until the block is left."""
    token = secrets.token_urlsafe(16)
    command = [sys.executable, "-m", "nbserve", "serve", str(bundle), "--name", name, "--port", "0", *options]
    with log.open("w") as output:
        child = subprocess.Popen(
            command, env={**os.environ, "NBSERVE_TOKEN": token}, stdout=output, stderr=output, start_new_session=True
        )
    try:
        client = _wait_ready(child, name, token, log)
        yield Served(name, client.model(name).url, token, client, psutil.Process(child.pid))
        client.close()
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _wait_ready(child: subprocess.Popen[bytes], name: str, token: str, log: Path) -> Client:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and child.poll() is None:
        for record in records():
            if record.token == token:
                client = Client.of(record)
                if any(model.name == name and model.state == "READY" for model in client.models()):
                    return client
                client.close()
        time.sleep(0.1)
    raise RuntimeError(f"{name} did not become ready:\n{log.read_text()}")


def machine(pinned: str) -> str:
    """One line that says what the figures were measured on."""
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    memory_gb = psutil.virtual_memory().total / 1e9
    return f"{model}, {cores} cores, {memory_gb:.0f} GB; Python {sys.version.split()[0]}; {pinned}"


def versions() -> dict[str, str]:
    """What the figures depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("jupyter-nbserve", "tornado", "ipykernel", "torch", "msgspec")}


def commit(root: Path) -> str:
    """The commit measured, with `+` where the tree differs from it; empty outside a repository."""
    done = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=root, capture_output=True, text=True)
    return done.stdout.strip()
