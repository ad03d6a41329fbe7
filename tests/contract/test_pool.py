"""The pool with real kernels: what each kind of worker's fate looks like to its listener."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbserve.bundle import Bundle
from nbserve.config import ModelConfig
from nbserve.errors import Conflict, ErrorInfo, LoadError
from nbserve.gateway.pool.placement import Demand, plan
from nbserve.gateway.pool.supervisor import Pool, Worker
from nbserve.gateway.pool.topology import read_topology
from nbserve.gateway.pool.zygote import Zygotes
from nbserve.wire.frames import Buffer, Flag
from nbserve.wire.management import Event
from nbserve.wire.messages import AnswerMeta, RequestItem

DEADLINE_S = 60.0

ECHO = """
    import os, signal, sys, time
    class H:
        def initialize(self, context):
            self.metrics.counter("starts").inc()
            print("hello from initialize")
        def preprocess(self, rows):
            return [row.payload for row in rows]
        def inference(self, batch):
            for x in batch:
                if x == "sleep":
                    time.sleep(60)
                if x == "deaf":
                    while True:
                        try:
                            time.sleep(60)
                        except KeyboardInterrupt:
                            pass
                if x == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if x == "leave":
                    os._exit(3)
                if x == "exit":
                    sys.exit(4)
                if x == "print":
                    print("printed by the handler")
            self.metrics.counter("items").inc(len(batch))
            return [{"got": x, "cores": sorted(os.sched_getaffinity(0))} for x in batch]
"""


class Listener:
    """Records what the pool says; `next` waits for the next word of a kind."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[tuple[str, Any, Any]] = asyncio.Queue()
        self.events: list[Event] = []
        self.metas: list[AnswerMeta] = []

    def worker_ready(self, worker: Worker) -> None:
        self.words.put_nowait(("ready", worker, None))

    def worker_gone(self, worker: Worker, reason: str) -> None:
        self.words.put_nowait(("gone", worker, reason))

    def batch_answered(self, worker: Worker, batch_id: int, meta: AnswerMeta, bodies: Sequence[Buffer]) -> None:
        self.metas.append(meta)
        answers = [item.error or json.loads(bytes(body)) for item, body in zip(meta.items, bodies, strict=True)]
        self.words.put_nowait(("answered", batch_id, answers))

    def batch_lost(self, worker: Worker, batch_id: int, info: ErrorInfo, *, began: bool) -> None:
        self.words.put_nowait(("lost", (batch_id, began), info))

    def pool_failed(self, info: ErrorInfo) -> None:
        self.words.put_nowait(("failed", None, info))

    async def next(self, kind: str) -> tuple[Any, Any]:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                word, subject, value = await self.words.get()
                if word == kind:
                    return subject, value

    async def log(self, text: str) -> Event:
        return await self._event(lambda event: event.kind == "log" and text in event.text)

    async def state(self, state: str) -> Event:
        return await self._event(lambda event: event.kind == "state" and event.state == state)

    async def _event(self, wanted: Callable[[Event], bool]) -> Event:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for event in self.events:
                    if wanted(event):
                        return event
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(bundle: Path, runtime: Path, workers: int = 1, **config: Any) -> AsyncIterator[tuple[Pool, Listener]]:
    """`start="fork"` has the workers forked by a zygote; else they are spawned, as the pool was given none."""
    runtime.mkdir(exist_ok=True)
    listener = Listener()
    zygotes = Zygotes(runtime) if config.get("start") == "fork" else None
    pool = Pool(
        bundle_path=bundle,
        name="m",
        version="1",
        config=ModelConfig(workers=workers, **config),
        plans=plan(read_topology(), [Demand("m", workers)])["m"],
        listener=listener,
        emit=listener.events.append,
        runtime_dir=runtime,
        zygotes=zygotes,
    )
    try:
        await pool.start()
        for _ in range(workers):
            await listener.next("ready")
        yield pool, listener
    finally:
        pids = [worker.pid for worker in pool.workers if worker.pid is not None]
        await pool.stop(10.0)
        if zygotes is not None:
            await zygotes.close()
        assert not [pid for pid in pids if psutil.pid_exists(pid)]
        assert not [name for name in os.listdir(runtime) if name.startswith("w")], "sockets or connection files left"


def send(worker: Worker, batch_id: int, *values: Any, timeout_s: float = DEADLINE_S) -> None:
    items = [RequestItem("application/json", f"r{batch_id}-{i}") for i in range(len(values))]
    worker.send(batch_id, items, [json.dumps(value).encode() for value in values], timeout_s=timeout_s)


either_start = pytest.mark.parametrize("start", ["spawn", "fork"])


@pytest.fixture
def runtime(short_tmp: Callable[[], Path]) -> Path:
    return short_tmp()


@pytest.fixture
def echo(make_bundle: Any) -> Path:
    return make_bundle(ECHO)


@either_start
def test_batches_prints_metrics_and_placement(echo: Path, runtime: Path, start: str) -> None:
    async def main() -> None:
        async with running(echo, runtime, workers=2, start=start) as (pool, listener):
            for worker in pool.workers:
                assert worker.ready is not None
                assert tuple(worker.ready.cores) == worker.plan.cores
                assert worker.ready.threads == worker.plan.threads
                send(worker, worker.id + 1, 1, "print")
                _, answers = await listener.next("answered")
                assert [answer["got"] for answer in answers] == [1, "print"]
                assert answers[0]["cores"] == list(worker.plan.cores)
            event = await listener.log("printed by the handler")
            assert event.batch_id in (1, 2)
            assert event.request_ids == [f"r{event.batch_id}-0", f"r{event.batch_id}-1"]
            assert (await listener.log("hello from initialize")).batch_id is None
            counted = {delta.name: delta.values for delta in listener.metas[0].metrics}
            assert counted == {"starts": [1.0], "items": [2.0]}
            status = pool.workers[0].status(pool.workers[0].usage())
            assert status.state == "READY"
            assert status.rss_bytes is not None
            assert status.batches == 1

    asyncio.run(main())


@either_start
def test_time_limit_interrupts_that_batch_only(echo: Path, runtime: Path, start: str) -> None:
    async def main() -> None:
        async with running(echo, runtime, start=start) as (pool, listener):
            (worker,) = pool.workers
            pid = worker.pid
            for turn in range(3):
                send(worker, 10 + turn, "sleep", timeout_s=0.2)
                _, answers = await listener.next("answered")
                assert answers[0].status == 504
                assert answers[0].type == "ResponseTimeout"
                assert any("time.sleep(60)" in line for line in answers[0].traceback)
                send(worker, 20 + turn, "next")
                _, answers = await listener.next("answered")
                assert answers[0]["got"] == "next"
            assert worker.pid == pid

    asyncio.run(main())


def test_late_cancel_hits_nobody(echo: Path, runtime: Path) -> None:
    """An interrupt for a batch that is over must not touch the one that runs now."""

    async def main() -> None:
        async with running(echo, runtime) as (pool, listener):
            (worker,) = pool.workers
            for turn in range(1, 60):
                send(worker, turn, turn)
                worker._interrupt(turn - 1)
                _, answers = await listener.next("answered")
                assert answers[0]["got"] == turn
            assert worker.restarts == 0

    asyncio.run(main())


def test_handler_that_ignores_the_interrupt_is_killed_and_restarted(
    echo: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbserve.gateway.pool.limits.INTERRUPT_GRACE_S", 0.3)

    async def main() -> None:
        async with running(echo, runtime) as (pool, listener):
            (worker,) = pool.workers
            send(worker, 1, "deaf", timeout_s=0.2)
            _, info = await listener.next("lost")
            assert info.status == 504
            assert "did not stop when interrupted" in info.message
            await listener.next("ready")
            send(worker, 2, "again")
            _, answers = await listener.next("answered")
            assert answers[0]["got"] == "again"
            assert worker.restarts == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("deed", "words"), [("kill", "killed by SIGKILL in inference"), ("leave", "exited with code 3 in inference")]
)
@either_start
def test_death_is_named_and_the_worker_comes_back(echo: Path, runtime: Path, deed: str, words: str, start: str) -> None:
    async def main() -> None:
        async with running(echo, runtime, start=start) as (pool, listener):
            (worker,) = pool.workers
            send(worker, 1, deed)
            lost, info = await listener.next("lost")
            assert lost == (1, True)
            assert words in info.message
            await listener.next("ready")
            send(worker, 2, "again")
            _, answers = await listener.next("answered")
            assert answers[0]["got"] == "again"

    asyncio.run(main())


def test_a_batch_that_the_worker_had_not_begun_is_lost_as_such(echo: Path, runtime: Path) -> None:
    """Killed from outside with the batch still in the stream: it has not run, and is no suspect."""

    async def main() -> None:
        async with running(echo, runtime) as (pool, listener):
            (worker,) = pool.workers
            for turn in range(1, 4):
                send(worker, turn, "before")
                await listener.next("answered")
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGSTOP)
            send(worker, 4, "never seen")
            os.kill(worker.pid, signal.SIGKILL)
            lost, info = await listener.next("lost")
            assert lost == (4, False)
            assert "killed by SIGKILL" in info.message
            await listener.next("ready")

    asyncio.run(main())


@either_start
def test_sys_exit_in_a_handler_is_an_answer(echo: Path, runtime: Path, start: str) -> None:
    async def main() -> None:
        async with running(echo, runtime, start=start) as (pool, listener):
            send(pool.workers[0], 1, "exit")
            _, answers = await listener.next("answered")
            assert answers[0].status == 500
            assert "SystemExit" in answers[0].message

    asyncio.run(main())


def test_scale_up_and_down(echo: Path, runtime: Path) -> None:
    async def main() -> None:
        async with running(echo, runtime) as (pool, _):
            await pool.scale(plan(read_topology(), [Demand("m", 3)])["m"])
            assert [worker.state for worker in pool.workers] == ["READY"] * 3
            surplus = [worker.pid for worker in pool.workers[1:]]
            await pool.scale(plan(read_topology(), [Demand("m", 1)])["m"])
            assert len(pool.workers) == 1
            assert not [pid for pid in surplus if pid is not None and psutil.pid_exists(pid)]

    asyncio.run(main())


LEAVES = """
    import atexit, tempfile, threading, weakref
    class H:
        def initialize(self, context):
            atexit.register(self.note, "hook")
            self.folder = tempfile.TemporaryDirectory()
            self.leaving = threading.Event()
            threading.Thread(target=self.last_work).start()
            atexit.register(self.leaving.set)  # too late: the thread must be gone by then
        def note(self, text):
            with open(NOTES, "a") as notes:
                print(text, file=notes)
        def last_work(self):
            while threading.main_thread().is_alive():
                self.leaving.wait(0.01)
            self.note(f"thread {self.leaving.is_set()}")
        def inference(self, batch):
            return [self.folder.name for _ in batch]
"""


@either_start
def test_a_worker_that_leaves_does_what_it_has_to(make_bundle: Any, runtime: Path, tmp_path: Path, start: str) -> None:
    """Threads are waited for, exit hooks run, its temporary folders go; what it has no need of is not taken apart."""
    notes = tmp_path / "notes"

    async def main() -> None:
        async with running(make_bundle(LEAVES.replace("NOTES", repr(str(notes)))), runtime, start=start) as (
            pool,
            heard,
        ):
            send(pool.workers[0], 1, "x")
            _, [folder] = await heard.next("answered")
            assert Path(folder).exists()
        assert notes.read_text().splitlines() == ["thread False", "hook"]
        assert not Path(folder).exists()

    asyncio.run(main())


def failing(make_bundle: Any, runtime: Path, body: str, **config: Any) -> LoadError:
    source = f"""
        import os, signal, sys, time
        class H:
            def initialize(self, context):
                {body}
            def inference(self, batch):
                return batch
    """

    async def main() -> LoadError:
        bundle = make_bundle(source)
        with pytest.raises(LoadError) as caught:
            async with running(bundle, runtime, **config):
                raise AssertionError("it became ready")
        return caught.value

    return asyncio.run(main())


def test_initialize_raises(make_bundle: Any, runtime: Path) -> None:
    error = failing(make_bundle, runtime, "raise ValueError('no weights for you')")
    assert error.info is not None
    assert (error.info.type, error.info.message, error.info.stage) == ("ValueError", "no weights for you", "initialize")
    assert error.info.where == "In[1], line 4"
    assert any("raise ValueError" in line for line in error.info.traceback)


def test_initialize_hangs(make_bundle: Any, runtime: Path) -> None:
    error = failing(make_bundle, runtime, "time.sleep(60)", startup_timeout_s=10.0)
    assert error.info is not None
    assert error.info.type == "StartupTimeout"
    assert "still in initialize" in error.info.message
    assert any("time.sleep(60)" in line for line in error.info.traceback)
    assert "--startup-timeout-s" in error.info.hint


def test_a_start_that_is_too_slow_for_the_kernel_itself(make_bundle: Any, runtime: Path) -> None:
    error = failing(make_bundle, runtime, "pass", startup_timeout_s=0.05)
    assert error.info is not None
    assert error.info.type == "StartupTimeout"
    assert error.info.message == "still in start after 0.05 s"


def test_initialize_is_killed(make_bundle: Any, runtime: Path) -> None:
    error = failing(make_bundle, runtime, "os.kill(os.getpid(), signal.SIGSEGV)")
    assert "killed by SIGSEGV in initialize at In[1], line 4" in error.message
    assert error.info is not None
    assert error.info.where == "In[1], line 4"
    assert any("Segmentation fault" in line for line in error.info.traceback)


def test_initialize_fills_memory(make_bundle: Any, runtime: Path) -> None:
    body = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, 3 * 10**9)); bytearray(10**10)"
    error = failing(make_bundle, runtime, body)
    assert error.info is not None
    assert error.info.status == 507
    assert error.info.type == "OutOfMemory"
    assert "GB" in error.info.message


def test_coroutine_handler_and_its_time_limit(make_bundle: Any, runtime: Path) -> None:
    source = """
        import asyncio
        class H:
            async def initialize(self, context):
                await asyncio.sleep(0)
                self.ready = True
            async def inference(self, batch):
                assert self.ready
                if "sleep" in batch:
                    await asyncio.sleep(60)
                return batch
    """

    async def main() -> None:
        async with running(make_bundle(source), runtime) as (pool, listener):
            (worker,) = pool.workers
            send(worker, 1, "a", "b")
            assert (await listener.next("answered"))[1] == ["a", "b"]
            send(worker, 2, "sleep", timeout_s=0.2)
            _, answers = await listener.next("answered")
            assert answers[0].status == 504
            send(worker, 3, "c")
            assert (await listener.next("answered"))[1] == ["c"]
            assert worker.restarts == 0

    asyncio.run(main())


@either_start
def test_console_pauses_the_worker(echo: Path, runtime: Path, start: str) -> None:
    """Somebody runs a cell in the worker's shell: PAUSED while it runs, READY afterwards."""
    from jupyter_client.asynchronous.client import AsyncKernelClient

    async def main() -> None:
        async with running(echo, runtime, start=start) as (pool, listener):
            (worker,) = pool.workers
            client = AsyncKernelClient(connection_file=worker.status().connection_file)
            client.load_connection_file()
            client.start_channels(hb=False)
            try:
                client.execute("import time; time.sleep(0.5); 1 + 1")
                _, reason = await listener.next("gone")
                assert "shell is in use" in reason
                assert worker.state == "PAUSED"
                await listener.next("ready")
                assert worker.state == "READY"
                send(worker, 1, "after")
                assert (await listener.next("answered"))[1][0]["got"] == "after"
            finally:
                client.stop_channels()

    asyncio.run(main())


def test_the_clock_of_a_batch_stands_still_while_the_shell_is_in_use(make_bundle: Any, runtime: Path) -> None:
    """And goes on afterwards: a coroutine that never ends is still ended by its time limit."""
    source = """
        import asyncio
        class H:
            async def inference(self, batch):
                if "sleep" in batch:
                    await asyncio.sleep(3600)
                return batch
    """
    from jupyter_client.asynchronous.client import AsyncKernelClient

    async def main() -> None:
        async with running(make_bundle(source), runtime) as (pool, listener):
            (worker,) = pool.workers
            client = AsyncKernelClient(connection_file=worker.status().connection_file)
            client.load_connection_file()
            client.start_channels(hb=False)
            try:
                began_s = time.monotonic()
                send(worker, 1, "sleep", timeout_s=1.0)
                client.execute("import time; time.sleep(1.5)")
                await listener.next("gone")
                await listener.next("ready")
                assert worker.state == "BUSY"
                _, answers = await listener.next("answered")
                assert answers[0].status == 504
                assert time.monotonic() - began_s > 2.0, "the second and a half in the shell was counted"
                send(worker, 2, "next")
                assert (await listener.next("answered"))[1] == ["next"]
                assert worker.state == "READY"
                assert worker.restarts == 0
            finally:
                client.stop_channels()

    asyncio.run(main())


def test_a_worker_that_hangs_while_idle_is_found_and_replaced(
    make_bundle: Any, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread of the handler stops the main thread for good: nothing was asked, and still it must be noticed."""
    monkeypatch.setattr("nbserve.gateway.pool.supervisor.PROBE_EVERY_S", 0.3)
    monkeypatch.setattr("nbserve.gateway.pool.supervisor.PROBE_TIMEOUT_S", 0.5)
    source = """
        import os, time
        from pathlib import Path
        class H:
            def initialize(self, context):
                flag = Path(context.model_dir).parent / "hung"
                if not flag.exists():
                    flag.touch()
                    import asyncio
                    asyncio.get_running_loop().call_later(0.5, time.sleep, 3600)
            def inference(self, batch):
                return batch
    """

    async def main() -> None:
        async with running(make_bundle(source), runtime) as (pool, listener):
            await listener.next("gone")
            await listener.next("ready")
            send(pool.workers[0], 1, "again")
            assert (await listener.next("answered"))[1] == ["again"]
            await asyncio.sleep(1.5)  # several probes later it is still the same one
            assert pool.workers[0].restarts == 1

    asyncio.run(main())


@pytest.mark.parametrize("limit", [{"max_requests": 5}, {"max_rss_bytes": 1}])
def test_recycling_replaces_a_worker_without_a_gap(
    echo: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, int]
) -> None:
    monkeypatch.setattr("nbserve.gateway.pool.supervisor.PROBE_EVERY_S", 0.2)

    async def main() -> None:
        async with running(echo, runtime, **limit) as (pool, listener):
            (old,) = pool.workers
            for turn in range(1, 6):
                send(old, turn, turn)
                await listener.next("answered")
            new, _ = await listener.next("ready")  # before the old one is gone
            gone, reason = await listener.next("gone")
            assert gone is old
            assert reason == "draining"
            assert new is not old
            assert pool.workers[0].requests < 5

    asyncio.run(main())


def test_crash_loop_ends_in_failed_with_the_reason(
    make_bundle: Any, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbserve.gateway.pool.supervisor.BACKOFF_S", (0.0, 0.01))
    source = """
        import os, signal
        from pathlib import Path
        class H:
            def initialize(self, context):
                flag = Path(context.model_dir).parent / "started"
                if flag.exists():
                    raise RuntimeError("only once")
                flag.touch()
            def inference(self, batch):
                os.kill(os.getpid(), signal.SIGKILL)
    """

    async def main() -> None:
        async with running(make_bundle(source), runtime) as (pool, listener):
            (worker,) = pool.workers
            send(worker, 1, "x")
            await listener.next("lost")
            _, info = await listener.next("failed")
            assert info.message == "only once"
            assert pool.state == "FAILED"
            with pytest.raises(Conflict, match="the pool is FAILED"):
                await pool.scale([worker.plan] * 2)
            assert worker.state == "FAILED"
            assert worker.error is not None
            assert worker.error.message == "only once"
            assert worker.error.where.startswith("In[1]")
            assert worker.restarts == 2

    asyncio.run(main())


@either_start
def test_random_in_initialize_is_seeded_for_the_proof_and_free_afterwards(
    make_bundle: Any, runtime: Path, start: str
) -> None:
    source = """
        import random
        class H:
            def initialize(self, context):
                self.drawn = random.random()
            def inference(self, batch):
                return [[self.drawn, random.random()] for _ in batch]
    """
    bundle = make_bundle(source, sample=1)
    expected = json.loads(Bundle.open(bundle).sample.expected_body)

    async def main() -> None:
        async with running(bundle, runtime, workers=2, start=start) as (pool, listener):
            seeded, free = [], []
            for worker in pool.workers:
                worker.send(worker.id + 1, [RequestItem("application/json", "r")], [b"1"], Flag.SEEDED)
                seeded.append((await listener.next("answered"))[1][0])
                send(worker, worker.id + 10, 1)
                free.append((await listener.next("answered"))[1][0][1])
            assert seeded == [expected, expected]
            assert free[0] != free[1]

    asyncio.run(main())


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21, 34])
@pytest.mark.parametrize("forks", [False, True], ids=["spawn", "fork"])
def test_a_start_can_be_cancelled_at_any_moment(echo: Path, runtime: Path, turns: int, forks: bool) -> None:
    """After so many turns of the loop: nothing hangs, nothing is left."""

    async def main() -> None:
        plans = plan(read_topology(), [Demand("m", 2)])["m"]
        zygotes = Zygotes(runtime)
        pool = Pool(
            bundle_path=echo,
            name="m",
            version="1",
            config=ModelConfig(workers=2),
            plans=plans,
            listener=Listener(),
            emit=lambda _event: None,
            runtime_dir=runtime,
            zygotes=zygotes if forks else None,
        )
        before = psutil.Process().children()  # of what other tests in this process keep
        start = asyncio.create_task(pool.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        start.cancel()
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(asyncio.CancelledError):
                await start
            await pool.stop(1.0)
            await zygotes.close()
        assert [worker.pid for worker in pool.workers] == [None, None]
        assert psutil.Process().children() == before
        assert not [name for name in os.listdir(runtime) if name.startswith("w")]

    asyncio.run(main())


def test_a_lost_device_ends_the_worker_and_says_so(make_bundle: Any, runtime: Path) -> None:
    """A sticky CUDA error (here only its message: no device is at hand) must not be answered from the same process."""
    source = """
        class H:
            def inference(self, batch):
                if "assert" in batch:
                    raise RuntimeError("CUDA error: device-side assert triggered")
                return batch
    """

    async def main() -> None:
        async with running(make_bundle(source), runtime) as (pool, listener):
            send(pool.workers[0], 1, "fine", "assert")
            lost, info = await listener.next("lost")
            assert lost == (1, True)
            assert "exited with code 70 in inference" in info.message
            assert any("device-side assert" in line for line in info.traceback)
            await listener.next("ready")
            send(pool.workers[0], 2, "fine")
            assert (await listener.next("answered"))[1] == ["fine"]

    asyncio.run(main())
