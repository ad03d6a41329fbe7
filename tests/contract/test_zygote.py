"""Forked workers with real processes: equal to spawned ones, and nobody's death takes them along."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.manager import AsyncKernelManager

from nbserve.bundle import Bundle
from nbserve.config import ModelConfig
from nbserve.errors import LoadError
from nbserve.gateway.pool import provisioner as provisioner_module
from nbserve.gateway.pool import standby as standby_module
from nbserve.gateway.pool import zygote as zygote_module
from nbserve.gateway.pool.kernel import environment, zygote_environment
from nbserve.gateway.pool.placement import Demand, WorkerPlan, plan
from nbserve.gateway.pool.provisioner import KERNEL, MemoryKernelSpecs, NbserveProvisioner, Start
from nbserve.gateway.pool.spare import Spare
from nbserve.gateway.pool.standby import Standby
from nbserve.gateway.pool.supervisor import Pool, Worker
from nbserve.gateway.pool.topology import read_topology
from nbserve.gateway.pool.zygote import Zygote, Zygotes
from tests.contract.test_pool import DEADLINE_S, Listener, send

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="forking needs Linux")

LOOK = """
    import numpy as np
    import os, random, signal, sys, threading
    class H:
        def inference(self, batch):
            for x in batch:
                if x == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if x == "fork":  # what a DataLoader does
                    if (pid := os.fork()) == 0:
                        os._exit(7)
                    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
            return [look() for _ in batch]
    def look():
        status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
        return {
            "fds": {fd: link(fd) for fd in os.listdir("/proc/self/fd")},
            "environment": dict(os.environ),
            "cwd": os.getcwd(),
            "path": sys.path,
            "argv": [arg for arg in sys.argv if not arg.endswith(".json")],
            "signals": [status[name].strip() for name in ("SigBlk", "SigIgn", "SigCgt")],
            "cores": sorted(os.sched_getaffinity(0)),
            "threads": sorted(thread.name.partition("-")[0] for thread in threading.enumerate()),
            "session": os.getsid(0) == os.getpgid(0) == os.getpid(),
            "oom": open("/proc/self/oom_score_adj").read(),
            "stdin": os.read(0, 10).decode(),
            "random": [random.random(), float(np.random.random())],
            "blas": blas_threads(),
            "pid": os.getpid(),
        }
    def link(fd):
        try:
            return os.readlink("/proc/self/fd/" + fd)
        except FileNotFoundError:
            return "gone"
    def blas_threads():
        from threadpoolctl import threadpool_info
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
"""

PLAIN = """
    class H:
        def inference(self, batch):
            return batch
"""


@pytest.fixture
def runtime(short_tmp: Callable[[], Path]) -> Path:
    return short_tmp()


@asynccontextmanager
async def pool_of(
    bundle: Path, runtime: Path, zygotes: Zygotes, workers: int = 1, threads: int | None = None, **config: Any
) -> AsyncIterator[tuple[Pool, Listener]]:
    listener = Listener()
    pool = Pool(
        bundle_path=bundle,
        name="m",
        version="1",
        config=ModelConfig(workers=workers, **config),
        plans=plan(read_topology(), [Demand("m", workers, threads)])["m"],
        listener=listener,
        emit=listener.events.append,
        runtime_dir=runtime,
        zygotes=zygotes,
    )
    try:
        await pool.start()
        yield pool, listener
    finally:
        await pool.stop(10.0)


@asynccontextmanager
async def zygotes_in(runtime: Path) -> AsyncIterator[Zygotes]:
    before = psutil.Process().children()  # of what other tests in this process keep
    zygotes = Zygotes(runtime)
    try:
        yield zygotes
    finally:
        await zygotes.close()
        assert psutil.Process().children() == before, "a zygote or a worker is left"


async def ask(worker: Worker, listener: Listener, value: Any, batch_id: int = 1) -> Any:
    send(worker, batch_id, value)
    _, answers = await listener.next("answered")
    return answers[0]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 -- of other processes
            await asyncio.sleep(0.01)


def only(zygotes: Zygotes) -> Zygote:
    ((one, _),) = zygotes._leases.values()
    return one


# -- equal to a spawned one --------------------------------------------------------------------------------------------


def test_a_forked_worker_is_what_a_spawned_one_is(
    make_bundle: Any, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descriptors, environment, folder, signals, cores, threads; with two of each, though the zygote has one thread."""
    bundle = make_bundle(LOOK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JPY_PARENT_PID", "1")  # as in a gateway that a notebook kernel started
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    seen = {}

    async def main() -> None:
        async with zygotes_in(runtime) as zygotes:
            for start in ("spawn", "fork"):
                settings: dict[str, Any] = {"start": start, "env": {"MINE": "x"}}
                async with pool_of(bundle, runtime, zygotes, threads=2, **settings) as (pool, listener):
                    seen[start] = await ask(pool.workers[0], listener, "look")
                    how = pool.workers[0].status().start
                    assert how == {"spawn": "spawned: asked for", "fork": "forked"}[start]
                    assert psutil.Process(pool.workers[0].pid).name() == "nbserve-worker"
                    parent = psutil.Process(pool.workers[0].pid).ppid()
                    assert parent == (os.getpid() if start == "spawn" else only(zygotes).pid)

    asyncio.run(main())
    spawned, forked = seen["spawn"], seen["fork"]
    for look in (spawned, forked):
        assert look["fds"].pop("0").partition(":[")[0] in ("pipe", "/dev/null")
    assert other_than_sockets(forked["fds"]) == other_than_sockets(
        spawned["fds"]
    )  # of these zmq opens some at any time
    for name in ("environment", "cwd", "path", "argv", "signals", "cores", "threads", "session", "oom", "stdin"):
        assert forked[name] == spawned[name], name
    assert forked["blas"] == spawned["blas"] == [min(2, len(spawned["cores"]))]
    assert spawned["environment"]["MINE"] == "x"
    assert spawned["cwd"] == str(tmp_path)
    assert not [name for name in spawned["environment"] if name == "JPY_PARENT_PID" or name.endswith("_FD")]


def other_than_sockets(fds: dict[str, str]) -> list[str]:
    """Kinds of descriptors, without the numbers of their inodes."""
    return sorted(re.sub(r"\d+", "N", link) for link in fds.values() if not link.startswith("socket:"))


def test_forked_workers_share_neither_descriptors_nor_random_numbers(make_bundle: Any, runtime: Path) -> None:
    """The zygote's socket would keep it alive for the gateway; a sibling's stream would hide the sibling's end."""

    async def main() -> None:
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(LOOK), runtime, zygotes, workers=2, start="fork") as (pool, listener),
        ):
            looks = [await ask(worker, listener, "look", worker.id + 1) for worker in pool.workers]
            own = [{link for link in look["fds"].values() if re.match("socket|pipe", link)} for look in looks]
            zygotes_own = {os.readlink(path) for path in Path(f"/proc/{only(zygotes).pid}/fd").iterdir()}
            assert not own[0] & own[1]
            assert other_than_sockets(looks[0]["fds"]) == other_than_sockets(looks[1]["fds"])
            assert not (own[0] | own[1]) & zygotes_own
            assert [list(look["fds"].values()).count("anon_inode:[pidfd]") for look in looks] == [1, 1]
            assert len({number for look in looks for number in look["random"]}) == 4

    asyncio.run(main())


def test_a_handler_that_forks_by_itself(make_bundle: Any, runtime: Path) -> None:
    """As a DataLoader does: the zygote is not told of the worker's children, nor takes them."""

    async def main() -> None:
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(LOOK), runtime, zygotes, start="fork") as (pool, listener),
        ):
            assert await ask(pool.workers[0], listener, "fork") == 7

    asyncio.run(main())


# -- deaths ------------------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_forked_again(make_bundle: Any, runtime: Path) -> None:
    async def main() -> None:
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(LOOK), runtime, zygotes, start="fork") as (pool, listener),
        ):
            (worker,) = pool.workers
            before = worker.pid
            send(worker, 1, "kill")
            _, info = await listener.next("lost")
            assert info.details["exit_code"] == -signal.SIGKILL
            await until(lambda: worker.state == "READY")
            assert worker.status().start == "forked"
            assert worker.pid != before
            assert (await ask(worker, listener, "look", 2))["pid"] == worker.pid

    asyncio.run(main())


def test_workers_outlive_their_zygote_and_the_next_is_forked_by_its_successor(make_bundle: Any, runtime: Path) -> None:
    async def main() -> None:
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(LOOK), runtime, zygotes, start="fork") as (pool, listener),
        ):
            (worker,) = pool.workers
            zygote, before = only(zygotes), only(zygotes).pid
            assert before is not None
            os.kill(before, signal.SIGKILL)
            await until(lambda: zygote.pid != before)
            assert (await ask(worker, listener, "look"))["pid"] == worker.pid
            send(worker, 2, "kill")
            _, info = await listener.next("lost")
            assert "exit status is not known" in info.message  # its parent is gone
            await until(lambda: worker.state == "READY")
            assert worker.status().start == "forked"
            assert psutil.Process(worker.pid).ppid() == zygote.pid

    asyncio.run(main())


def test_a_zygote_that_keeps_dying_is_given_up(
    make_bundle: Any, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygote_module, "MAX_DEATHS", 0)

    async def main() -> None:
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(LOOK), runtime, zygotes) as (pool, listener),
        ):
            (worker,) = pool.workers
            pid = only(zygotes).pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            send(worker, 2, "kill")
            await listener.next("lost")
            await until(lambda: worker.state == "READY")
            assert worker.status().start == "spawned: the zygote has died 1 times"
            assert (await ask(worker, listener, "look", 3))["pid"] == worker.pid

    asyncio.run(main())


def test_a_zygote_that_does_not_answer_is_given_up(
    make_bundle: Any, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygote_module, "FORK_WAIT_S", 0.3)

    async def main() -> None:
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(PLAIN), runtime, zygotes) as (pool, listener),
        ):
            pid = only(zygotes).pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            await pool.scale(plan(read_topology(), [Demand("m", 2)])["m"])
            assert pool.workers[1].status().start == "spawned: the zygote gave no answer within 0.3 s"
            assert await ask(pool.workers[1], listener, 1) == 1

    asyncio.run(main())


ENDLESS = """
    import time
    class H:
        def inference(self, batch):
            while True:
                time.sleep(0.01)
"""

GATEWAY = """
import asyncio, os, sys
from pathlib import Path
from tests.contract.test_zygote import pool_of, send, zygotes_in
async def main(bundle, runtime, start):
    async with zygotes_in(runtime) as zygotes, pool_of(bundle, runtime, zygotes, start=start) as (pool, listener):
        send(pool.workers[0], 1, 1)
        while pool.workers[0].status().state != "BUSY" or pool.workers[0]._kernel.progress.stage != "inference":
            await asyncio.sleep(0.01)
        print(pool.workers[0].pid, flush=True)
        await asyncio.sleep(3600)
asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
"""


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_nothing_outlives_the_gateway(make_bundle: Any, runtime: Path, start: str) -> None:
    """Killed, while the worker is in user code that never ends: nobody reads there that the stream has ended."""
    command = [sys.executable, "-c", GATEWAY, str(make_bundle(ENDLESS)), str(runtime), start]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        line = gateway.stdout.readline()
        everyone = psutil.Process(gateway.pid).children(recursive=True)
        gateway.kill()
    assert int(line) in [one.pid for one in everyone]
    assert len(everyone) == {"spawn": 1, "fork": 2}[start]
    _, alive = psutil.wait_procs(everyone, timeout=DEADLINE_S)
    assert not alive


# -- where there is no fork --------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """installed(name, source): a distribution of this name with one module, on the path of all new processes."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)

    def install(name: str, source: str) -> None:
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text(f"{name}.py,,\n{name}-1.0.dist-info/METADATA,,\n")
        (site / f"{name}.py").write_text(source)

    return install


def using(*modules: str) -> str:
    return f"""
    import {", ".join(modules)}
    class H:
        def inference(self, batch):
            return [[x, *(module.__name__ for module in ({", ".join(modules)},))] for x in batch]
    """


IN_ZYGOTE = "import os, sys, threading, time\nif 'nbserve.worker.zygote' in sys.orig_argv:\n    "
SLEEPER = "threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()"


@pytest.mark.parametrize(
    ("deed", "reason"),
    [(SLEEPER, "started 1 thread"), ("kept = os.open('/dev/zero', os.O_RDONLY)", "left /dev/zero open")],
    ids=["thread", "file"],
)
def test_an_import_that_is_not_safe_to_fork_is_left_to_the_workers(
    make_bundle: Any,
    runtime: Path,
    installed: Callable[[str, str], None],
    caplog: pytest.LogCaptureFixture,
    deed: str,
    reason: str,
) -> None:
    """What else there is to import is imported ahead all the same."""
    installed("even_one", "")
    installed("odd_one", IN_ZYGOTE + deed)
    caplog.set_level("INFO", "nbserve.pool")

    async def main() -> None:
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(using("odd_one", "even_one")), runtime, zygotes, start="fork") as (pool, listener),
        ):
            assert pool.workers[0].status().start == "forked"
            assert await ask(pool.workers[0], listener, 1) == [1, "odd_one", "even_one"]

    asyncio.run(main())
    assert f": even_one; not odd_one: importing odd_one {reason}" in caplog.text


def test_a_preload_that_ends_the_zygote_is_spawned_and_says_why(
    make_bundle: Any, runtime: Path, installed: Callable[[str, str], None]
) -> None:
    installed("odd_one", IN_ZYGOTE + "os._exit(3)")
    bundle = make_bundle(using("odd_one"))
    reason = "the zygote ended with code 3 while it imported"
    assert "odd_one==1.0" in Bundle.open(bundle).manifest.requirements

    async def main() -> None:
        async with zygotes_in(runtime) as zygotes:
            async with pool_of(bundle, runtime, zygotes) as (pool, listener):
                assert pool.workers[0].status().start == f"spawned: {reason}"
                assert [event.text for event in listener.events if event.kind == "gateway"] == [
                    f"worker 0 was spawned: {reason}"
                ]
                assert await ask(pool.workers[0], listener, 1) == [1, "odd_one"]
            with pytest.raises(LoadError, match="--start auto"):
                async with pool_of(bundle, runtime, zygotes, start="fork"):
                    pass

    asyncio.run(main())


def test_a_preload_that_raises_is_skipped(
    make_bundle: Any, runtime: Path, installed: Callable[[str, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """It may work in the worker, which has its own say about it."""
    installed("picky", IN_ZYGOTE + "raise RuntimeError('not here')")
    caplog.set_level("INFO", "nbserve.pool")

    async def main() -> None:
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(using("picky")), runtime, zygotes, start="fork") as (pool, listener),
        ):
            assert await ask(pool.workers[0], listener, 1) == [1, "picky"]

    asyncio.run(main())
    assert "not picky: RuntimeError: not here" in caplog.text


def test_own_modules_are_never_preloaded(
    make_bundle: Any, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A module beside the notebook may change between two cells; a fork would keep what it was."""
    (tmp_path / "local_tools.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = """
        from local_tools import double
        class H:
            def inference(self, batch):
                return [double(x) for x in batch]
    """
    caplog.set_level("INFO", "nbserve.pool")

    async def main() -> None:
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(source), runtime, zygotes, start="fork") as (pool, listener),
        ):
            assert await ask(pool.workers[0], listener, 4) == 8

    asyncio.run(main())
    assert "not local_tools:double: not of a distribution that the bundle names" in caplog.text


# -- a worker that waits -----------------------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is started without a pause."""
    monkeypatch.setattr(standby_module, "WARM_UP_AFTER_S", 0.0)


def standby_of(zygotes: Zygotes) -> Standby:
    ((_, standby),) = zygotes._leases.values()
    return standby


@pytest.mark.usefixtures("at_once")
def test_a_forked_worker_that_dies_is_followed_by_the_one_that_waits(
    make_bundle: Any, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is then all that a worker forked for its place is: cores, threads, environment, log, exit status."""
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        settings: dict[str, Any] = {"start": "fork", "env": {"MINE": "x"}, "threads": 2}
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(LOOK), runtime, zygotes, **settings) as (pool, listener),
        ):
            (worker,) = pool.workers
            standby = standby_of(zygotes)
            looks = [await ask(worker, listener, "look")]
            for batch_id in (2, 4):
                await until(lambda: standby.pid is not None)
                waiting = standby.pid
                assert waiting != worker.pid
                assert psutil.Process(waiting).ppid() == only(zygotes).pid
                send(worker, batch_id, "kill")
                _, info = await listener.next("lost")
                assert info.details["exit_code"] == -signal.SIGKILL
                await until(lambda: worker.state == "READY")
                assert worker.pid == waiting
                assert worker.status().start == "forked"
                looks.append(await ask(worker, listener, "look", batch_id + 1))
                assert looks[-1]["pid"] == waiting
            first, *others = looks
            for look in others:
                for name in (
                    "environment",
                    "cwd",
                    "path",
                    "argv",
                    "signals",
                    "cores",
                    "threads",
                    "session",
                    "oom",
                    "blas",
                ):
                    assert look[name] == first[name], name
                assert other_than_sockets(look["fds"]) == other_than_sockets(first["fds"])
                assert str(worker._log_path) in look["fds"].values()
            assert first["environment"]["OMP_NUM_THREADS"] == "2"
            assert len({number for look in looks for number in look["random"]}) == 6

    asyncio.run(main())


@pytest.mark.usefixtures("at_once")
def test_one_that_died_while_it_waited_is_not_waited_for(make_bundle: Any, runtime: Path) -> None:
    async def main() -> None:
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(LOOK), runtime, zygotes, start="fork") as (pool, listener),
        ):
            (worker,) = pool.workers
            standby = standby_of(zygotes)
            await until(lambda: standby.pid is not None)
            dead = psutil.Process(standby.pid)
            dead.kill()
            await until(lambda: not dead.is_running())
            send(worker, 1, "kill")
            await listener.next("lost")
            await until(lambda: worker.state == "READY")
            assert worker.pid != dead.pid
            assert (await ask(worker, listener, "look", 2))["pid"] == worker.pid

    asyncio.run(main())


@pytest.mark.usefixtures("at_once")
def test_it_is_the_second_worker_and_not_kept_beside_many(make_bundle: Any, runtime: Path) -> None:
    async def main() -> None:
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(LOOK), runtime, zygotes, start="fork") as (pool, listener),
        ):
            standby = standby_of(zygotes)
            await until(lambda: standby.pid is not None)
            waiting = standby.pid
            await pool.scale(plan(read_topology(), [Demand("m", 2)])["m"])
            assert pool.workers[1].pid == waiting
            assert (await ask(pool.workers[1], listener, "look"))["pid"] == waiting
            await until(lambda: standby.pid is not None)
            waiting = psutil.Process(standby.pid)
            standby.keep(3)
            await until(lambda: standby.pid is None and not waiting.is_running())
            await pool.scale(plan(read_topology(), [Demand("m", 3)])["m"])
            await until(lambda: standby._timer is None and standby._task is not None and standby._task.done())
            assert standby.pid is None
            await until(lambda: len(psutil.Process(only(zygotes).pid).children()) == 3)

    asyncio.run(main())


@pytest.mark.usefixtures("at_once")
def test_the_next_version_begins_with_the_one_that_waits(make_bundle: Any, runtime: Path) -> None:
    """Another handler, the same requirements: one zygote for both."""
    source = "class H:\n    def inference(self, batch):\n        return [VERSION for _ in batch]\n"

    async def main() -> None:
        bundle, edited = (make_bundle(source.replace("VERSION", version)) for version in "12")
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(bundle, runtime, zygotes, start="fork") as (pool, one),
        ):
            standby = standby_of(zygotes)
            await until(lambda: standby.pid is not None)
            waiting = standby.pid
            async with pool_of(edited, runtime, zygotes, start="fork") as (following, two):
                assert following.workers[0].pid == waiting
                assert await ask(following.workers[0], two, 0) == 2
                assert await ask(pool.workers[0], one, 0) == 1
        left = [path.name for path in runtime.iterdir() if path.name.startswith(("w", "standby"))]
        assert left == [], "sockets, connection files or logs of the one that waited are left"

    asyncio.run(main())


# -- a warm spare ------------------------------------------------------------------------------------------------------


def test_a_spawned_worker_that_dies_is_followed_by_a_warm_one(
    make_bundle: Any, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is what the spawned one was, has imported what it needs, and is the gateway's own child."""
    monkeypatch.setattr(provisioner_module, "WARM_UP_AFTER_S", 0.0)

    async def main() -> None:
        async with (
            zygotes_in(runtime) as zygotes,
            pool_of(make_bundle(LOOK), runtime, zygotes, start="spawn", env={"MINE": "x"}) as (pool, listener),
        ):
            (worker,) = pool.workers
            spare = pool._spec.start.spare
            assert spare is not None
            before = await ask(worker, listener, "look")
            await until(lambda: spare.pid is not None)
            warm = spare.pid
            send(worker, 2, "kill")
            _, info = await listener.next("lost")
            assert info.details["exit_code"] == -signal.SIGKILL
            await until(lambda: worker.state == "READY")
            assert worker.pid == warm
            assert psutil.Process(warm).nice() == psutil.Process().nice()
            session = Path(f"/proc/{warm}/autogroup")
            assert not session.exists() or session.read_text().endswith("nice 0\n"), "it imported at a lower priority"
            after = await ask(worker, listener, "look", 3)
            assert after["pid"] == warm
            for name in ("environment", "cwd", "path", "argv", "signals", "cores", "threads", "session", "oom"):
                assert after[name] == before[name], name
            for look in (before, after):
                assert look["fds"].pop("0").partition(":[")[0] in ("pipe", "/dev/null")
            assert other_than_sockets(after["fds"]) == other_than_sockets(before["fds"])
            assert after["random"] != before["random"]
            send(worker, 4, "kill")  # its own exit status is known, too
            _, info = await listener.next("lost")
            assert info.details["exit_code"] == -signal.SIGKILL
            await until(lambda: worker.state == "READY")
            await until(lambda: spare.pid is not None)
            os.kill(spare.pid or 0, signal.SIGKILL)
            await until(lambda: spare.pid is None)
            send(worker, 5, "kill")
            await until(lambda: worker.state == "READY" and worker.restarts == 3)

    asyncio.run(main())


def test_a_spare_is_of_no_use_where_the_interpreter_is_told_otherwise(make_bundle: Any, runtime: Path) -> None:
    async def main() -> None:
        config = ModelConfig()
        bundle = Bundle.open(make_bundle(PLAIN))
        before = psutil.Process().children()
        spare = Spare("m", bundle, zygote_environment(config, runtime), runtime / "spare.log")
        spare.warm_up()
        await until(lambda: spare.pid is not None)
        env = environment(WorkerPlan((0,), 1, 0), config, runtime)
        assert await spare.become([], env | {"PYTHONHASHSEED": "1"}, str(runtime), []) is None
        assert spare.pid is not None
        await spare.close()
        assert spare.pid is None
        spare.warm_up()
        assert spare._process is None
        assert psutil.Process().children() == before

    asyncio.run(main())


# -- stock jupyter_client ----------------------------------------------------------------------------------------------


def test_stock_jupyter_client_adopts_forked_kernels(make_bundle: Any, runtime: Path) -> None:
    """Start, interrupt, death with its exit code, restart, shutdown: what KernelManager does with any kernel."""

    async def main() -> None:
        config = ModelConfig()
        env = environment(WorkerPlan((0,), 1, 0), config, runtime)
        async with zygotes_in(runtime) as zygotes:
            zygote, _ = zygotes.lease("m", Bundle.open(make_bundle(PLAIN)), zygote_environment(config, runtime))
            manager = AsyncKernelManager(
                kernel_name=KERNEL,
                kernel_spec_manager=MemoryKernelSpecs(),
                transport="ipc",
                ip=str(runtime / "k"),
                connection_file=str(runtime / "k.json"),
            )
            with (runtime / "log").open("wb") as output:
                start = Start(zygote, insist=True, patience_s=DEADLINE_S)
                await manager.start_kernel(env=env, stdout=output, stderr=output, cwd=str(runtime), start=start)
                provisioner = manager.provisioner
                assert isinstance(provisioner, NbserveProvisioner)
                channels = [provisioner.channel]
                client = manager.client()
                client.start_channels()
                await client.wait_for_ready(timeout=DEADLINE_S)
                client.execute("import time; print('in it'); time.sleep(3600)", stop_on_error=False)
                while (await client.get_iopub_msg(timeout=DEADLINE_S))["msg_type"] != "stream":
                    pass
                await manager.interrupt_kernel()
                assert (await client.get_shell_msg(timeout=DEADLINE_S))["content"]["ename"] == "KeyboardInterrupt"
                client.execute("import os; os._exit(5)")
                process: Any = provisioner.process
                await until(lambda: process.poll() is not None)
                assert await provisioner.poll() == process.wait() == 5
                first = provisioner.pid
                await manager.restart_kernel(now=True)
                channels.append(provisioner.channel)
                await client.wait_for_ready(timeout=DEADLINE_S)
                assert provisioner.pid != first
                assert provisioner.started == "forked"
                client.stop_channels()
                await manager.shutdown_kernel(now=True)
            for channel in channels:
                assert channel is not None
                channel.close()

    asyncio.run(main())
