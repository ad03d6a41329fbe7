"""Real workers under load stay on their cores, every thread of them: seen from outside, in /proc."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nbserve import discovery
from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo
from nbserve.gateway.pool.cgroup import cpu_list
from nbserve.gateway.pool.placement import WorkerPlan
from nbserve.gateway.pool.supervisor import Pool, Worker
from nbserve.gateway.pool.topology import read_topology
from nbserve.wire.frames import Buffer
from nbserve.wire.messages import AnswerMeta, RequestItem
from tests.unit.gateway.running import running

DEADLINE_S = 60.0
SAMPLES = 60

BUSY = """
    import threading
    import torch
    class H:
        def initialize(self, context):
            self.matrix = torch.rand(384, 384)
            self.ended = threading.Event()
            threading.Thread(target=self.work, name="of-the-handler", daemon=True).start()
        def work(self):  # a thread of the user's own
            while not self.ended.wait(0.001):
                sum(range(10_000))
        def preprocess(self, rows):
            return rows
        def inference(self, batch):
            for _ in range(10):
                self.matrix @ self.matrix  # in parallel: the threads of OpenMP
            return [torch.get_num_threads() for _ in batch]
"""


class Load:
    """Sends every worker the next batch as soon as it has answered the last one; the pool's listener."""

    def __init__(self) -> None:
        self.answers: dict[int, int] = {}
        self.bodies: set[bytes] = set()
        self.faults: list[Any] = []
        self.is_over = False

    def _send(self, worker: Worker, batch_id: int) -> None:
        worker.send(batch_id, [RequestItem("application/json", f"r{batch_id}")], [b"1"], timeout_s=DEADLINE_S)

    def worker_ready(self, worker: Worker) -> None:
        self._send(worker, 1)

    def batch_answered(self, worker: Worker, batch_id: int, meta: AnswerMeta, bodies: Sequence[Buffer]) -> None:
        self.faults += [item.error for item in meta.items if item.error is not None]
        self.bodies |= {bytes(body) for body in bodies}
        self.answers[worker.id] = self.answers.get(worker.id, 0) + 1
        if not self.is_over:
            self._send(worker, batch_id + 1)

    def worker_gone(self, worker: Worker, reason: str) -> None:
        if not self.is_over:
            self.faults.append(reason)

    def batch_lost(self, worker: Worker, batch_id: int, info: ErrorInfo, *, began: bool) -> None:
        self.faults.append(info)

    def pool_failed(self, info: ErrorInfo) -> None:
        self.faults.append(info)


class Thread(NamedTuple):
    """What /proc says of one thread: CPU time so far, the CPU it ran on last, those it may run on."""

    ran_ns: int
    last_cpu: int
    allowed: frozenset[int]


def threads_of(pid: int) -> dict[int, Thread]:
    threads = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:  # the time first: what ran by then has run where the next line says, or later
            ran_ns = int((task / "schedstat").read_text().split()[0])
            last_cpu = int((task / "stat").read_text().rpartition(")")[2].split()[36])  # field 39 of proc(5)
            status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        threads[int(task.name)] = Thread(ran_ns, last_cpu, cpu_list(status["Cpus_allowed_list"]))
    return threads


async def watch(pool: Pool, load: Load) -> int:
    """Sample all workers while they answer: no thread is seen off its worker's cores -> how many threads ran."""
    before = {worker.id: threads_of(worker.pid or 0) for worker in pool.workers}
    answers = dict(load.answers)
    ran: set[tuple[int, int]] = set()
    deadline = time.monotonic() + DEADLINE_S
    samples = 0
    while samples < SAMPLES or any(load.answers[worker.id] < answers[worker.id] + 20 for worker in pool.workers):
        assert time.monotonic() < deadline
        for worker in pool.workers:
            cores = set(worker.plan.cores)
            for tid, thread in threads_of(worker.pid or 0).items():
                assert thread.allowed == cores, f"thread {tid} of worker {worker.id}"
                earlier = before[worker.id].get(tid)
                if earlier is None or thread.ran_ns > earlier.ran_ns:  # else the CPU is where it was before a move
                    assert thread.last_cpu in cores, f"thread {tid} of worker {worker.id}"
                    ran.add((worker.id, tid))
        samples += 1
        await asyncio.sleep(0.01)
    return len(ran)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - of other processes there is no event
            await asyncio.sleep(0.01)


def all_told(pool: Pool) -> bool:
    """Whether every thread has heard of its worker's present cores."""
    return all(
        thread.allowed == set(worker.plan.cores)
        for worker in pool.workers
        for thread in threads_of(worker.pid or 0).values()
    )


def test_no_thread_of_a_worker_runs_off_its_cores(make_bundle: Any, short_tmp: Callable[[], Path]) -> None:
    """Threads of Python, of OpenMP, of zmq and of the handler; before and after a move, and while batches run."""
    cores = sorted(os.sched_getaffinity(0))
    first, last = (cores[0],), (cores[-1],)

    async def main() -> None:
        load = Load()
        plans = [WorkerPlan(first, 2), WorkerPlan(last, 2)]
        pool = Pool(
            bundle_path=make_bundle(BUSY),
            name="m",
            version="1",
            config=ModelConfig(workers=2),
            plans=plans,
            listener=load,
            emit=lambda _event: None,
            runtime_dir=short_tmp(),
        )
        try:
            await pool.start()
            await until(lambda: len(load.answers) == 2)
            assert await watch(pool, load) >= 2 * 3, "main thread, one of OpenMP, the handler's own"
            pool.place(plans[::-1])
            await until(lambda: all_told(pool))
            assert await watch(pool, load) >= 2 * 3
        finally:
            load.is_over = True
            await pool.stop(10.0)
        assert load.faults == []
        assert load.bodies == {b"2"}, "as many threads as planned, though there is one core"

    asyncio.run(main())


def test_two_gateways_take_different_cores(
    make_bundle: Callable[[str], Path], short_tmp: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two notebooks on one machine: pinned to the same first core they would share it while the others are idle."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(short_tmp()))
    bundle = make_bundle(
        """
        class H:
            def inference(self, batch):
                return batch
        """
    )
    with running() as one, running() as other:
        taken = []
        for gateway in (one, other):
            gateway.client.register(str(bundle), name="m", config=ModelConfig(threads=1))
            [worker] = gateway.client.model("m").workers
            taken.append(worker.cores)
        topology = read_topology()
        assert set(taken[0]).isdisjoint(taken[1]) or topology.is_quota_bound or len(topology.cores) == 1
        one.client.unregister("m")
        assert sorted(cpu for record in discovery.records() for cpu in record.cpus) == sorted(taken[1])
