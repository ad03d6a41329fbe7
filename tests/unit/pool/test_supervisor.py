"""Deaths at awkward moments: a real pool and its workers in simulated time, with the kernels of simkernel.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo
from nbserve.gateway.pool.placement import WorkerPlan
from nbserve.gateway.pool.supervisor import PROBE_EVERY_S, Pool, Worker
from nbserve.wire.messages import RequestItem
from tests.unit.gateway.running import make_bundle
from tests.unit.gateway.simkernel import BOOT_S, LOAD_S, START_S, Machine
from tests.unit.gateway.simulation import SimLoop

UP_S = START_S + BOOT_S + LOAD_S


class Announced:
    """The pool's listener: which workers were announced, in order."""

    def __init__(self) -> None:
        self.ready: list[int] = []
        self.failed: list[ErrorInfo] = []

    def worker_ready(self, worker: Worker) -> None:
        assert worker.is_alive, "a dead worker was announced"
        self.ready.append(worker.id)

    def worker_gone(self, worker: Worker, reason: str) -> None: ...

    def batch_answered(self, worker: Worker, batch_id: int, meta: Any, bodies: Sequence[Any]) -> None: ...

    def batch_lost(self, worker: Worker, batch_id: int, info: ErrorInfo, *, began: bool) -> None: ...

    def pool_failed(self, info: ErrorInfo) -> None:
        self.failed.append(info)


class World:
    """A pool on a simulated machine."""

    def __init__(self, folder: Path, workers: int, **config: Any) -> None:
        self.loop = SimLoop()
        self.machine = Machine()
        self.heard = Announced()
        self.said: list[str] = []
        self.folder = folder
        self._config = ModelConfig(workers=workers, **config)
        self._tasks: list[asyncio.Task[Any]] = []

    def run(self, coroutine: Callable[[], Any], seconds: float) -> None:
        """Begin it, and let so much time pass."""
        self._tasks.append(self.loop.create_task(coroutine()))
        self.loop.run_for(seconds)

    def start(self, seconds: float) -> None:
        async def start() -> None:
            self.pool = Pool(
                bundle_path=make_bundle(self.folder / "bundle"),
                name="m",
                version="1",
                config=self._config,
                plans=[WorkerPlan((0,), 1)] * int(self._config.workers),
                listener=self.heard,
                emit=lambda event: self.said.append(event.text),
                runtime_dir=self.folder,
            )
            await self.pool.start()

        self.run(start, seconds)

    def serve_one(self, worker: Worker) -> None:
        """One request for it."""
        worker.send(1, [RequestItem("text/plain", "ok-1")], [b"ok-1"], timeout_s=None)
        self.loop.run_for(0.1)

    def close(self) -> None:
        """Ended, nothing left alive; what a task raised is raised here."""
        self.run(lambda: self.pool.stop(1.0), 5.0)
        for task in self._tasks:
            task.result()
        assert not self.machine.living()
        self.loop.run_for(60.0)
        self.loop.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(workers: int, **config: Any) -> World:
        made.append(World(tmp_path, workers, **config))
        patches.enter_context(mock.patch("nbserve.gateway.pool.worker.WorkerKernel", made[-1].machine.kernel))
        patches.enter_context(mock.patch("nbserve.gateway.pool.obituary.read_memory", made[-1].machine.memory))
        return made[-1]

    with contextlib.ExitStack() as patches:
        yield make
        for one in made:
            one.close()


def test_a_worker_that_died_while_the_others_loaded_is_not_announced(world: Callable[..., World]) -> None:
    """It is started again, and announced then."""
    here = world(2)
    here.start(START_S + BOOT_S / 2)
    first, second = here.machine.kernels
    second.load_s = UP_S + 0.05  # ready before the first one is so again
    here.loop.run_for(UP_S)
    first.die(-9)
    here.loop.run_for(0.01)
    assert here.heard.ready == []
    here.loop.run_for(0.15)
    assert here.heard.ready == [1]
    here.loop.run_for(5.0)
    assert here.heard.ready == [1, 0]
    assert len(here.machine.living()) == 2


def test_one_that_dies_while_it_is_replaced_is_not_started_again(world: Callable[..., World]) -> None:
    here = world(1, max_requests=1)
    here.start(1.0)
    [old] = here.pool.workers
    here.serve_one(old)
    here.loop.run_for(PROBE_EVERY_S + UP_S - 1.1 + START_S)  # its successor starts
    assert len(here.machine.kernels) == 2
    here.machine.kernels[0].die(-9)
    here.loop.run_for(5.0)
    assert len(here.machine.kernels) == 2, "the dead one was started beside its successor"
    assert "worker 0 is replaced: it has served 1 requests" in here.said
    assert [worker.id for worker in here.pool.workers] == [1]
    assert here.heard.ready == [0, 1]


def test_one_that_dies_while_its_successor_fails_is_started_again(world: Callable[..., World]) -> None:
    here = world(1, max_requests=1)
    here.start(1.0)
    [old] = here.pool.workers
    here.serve_one(old)
    here.loop.run_for(PROBE_EVERY_S + UP_S - 1.1 + START_S)
    here.machine.failing_loads = 1
    here.machine.kernels[0].die(-9)
    here.loop.run_for(5.0)
    assert here.pool.workers == [old]
    assert old.is_alive
    assert here.heard.ready == [0, 0]
    assert here.heard.failed == []
