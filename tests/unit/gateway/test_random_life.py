"""Random operations and faults on a whole gateway in simulated time: what must hold whatever happens.

Registry, versions, pools, workers, batchers, policy and lifecycles are the real ones; only kernels (simkernel.py) and
the time are not. No request is lost, answered twice or given another's answer; none that was taken after a switch is
answered by an old version; what counts the queues comes back to zero; no life makes an illegal move.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nbserve.config import ModelConfig
from nbserve.errors import NbserveError, NotFound
from nbserve.gateway.batcher import Batcher, QueueTotal
from nbserve.gateway.pool.topology import Core, Topology
from nbserve.gateway.registry import Registry
from nbserve.gateway.request import Answered, Request, Where
from nbserve.gateway.version import Surroundings
from nbserve.wire.management import RegisterRequest
from nbserve.wire.messages import RequestItem
from tests.unit.gateway.running import make_bundle
from tests.unit.gateway.simkernel import BATCH_S, FATES, KINDS, READ_S, Machine, SimKernel
from tests.unit.gateway.simulation import SimLoop

TIME_LIMIT_S = 2.0
ROUTE = "/predictions/m"


class Asked(Request):
    """A request that knows who is to answer it, and checks the answer."""

    __slots__ = ("answer", "batcher", "gone", "retries", "version")

    def __init__(self, payload: str, arrived_s: float, version: str, batcher: Batcher) -> None:
        super().__init__(RequestItem("text/plain", payload), payload.encode(), arrived_s)
        self.version = version
        self.batcher = batcher
        self.retries = batcher.config.retries
        self.answer: Answered | None = None
        self.gone = False

    @property
    def payload(self) -> str:
        return self.item.request_id

    @property
    def kind(self) -> str:
        return self.payload.partition("-")[0]

    def answered(self, answer: Answered) -> None:
        assert self.answer is None, f"{self.payload} was answered twice"
        assert not self.gone, f"{self.payload} was answered though its client had gone"
        self.answer = answer


class Errors(logging.Handler):
    """What the gateway's log calls an error is a bug here: every fault of these tests is one that it must know."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))


configs = st.builds(
    ModelConfig,
    workers=st.sampled_from([1, 1, 2, 3, "1:3"]),
    max_batch_size=st.sampled_from([1, 4, 16]),
    max_batch_delay_ms=st.sampled_from([0.0, 0.0, 20.0]),
    max_queue_size=st.sampled_from([8, 1000]),
    retries=st.sampled_from([0, 1, 1, 2]),
    swap=st.sampled_from(["auto", "blue-green", "rolling", "stop-first"]),
    response_timeout_s=st.just(TIME_LIMIT_S),
    startup_timeout_s=st.just(5.0),
    max_requests=st.sampled_from([None, None, 20]),
)


pauses = st.sampled_from([0.0, 0.0002, 0.0008, 0.0015, 0.1, 0.3, 0.5, 1.0, 10.0, 60.0])
"""Seconds after an operation: within the reading of a batch, within the batch, within a start, or long after all."""


counts = st.integers(0, 5)
moments = st.sampled_from([0.0002, 0.0008, 0.0012])
"""Seconds after a request has come: its batch is sent, is begun, is nearly done."""


class RandomLife(RuleBasedStateMachine):
    """One gateway with one model, its clients, its operator, and its bad luck."""

    bundle: Path
    runtime_dir: Path

    def __init__(self) -> None:
        super().__init__()
        self.loop = SimLoop()
        self.machine = Machine()
        self.total = QueueTotal(10**6)
        self.errors = Errors()
        self.requests: list[Asked] = []
        self.refused = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.current = ""
        """The version that the last finished registration or rollback has put in place."""
        self.is_calm = True
        """No fault has been played yet."""
        self._patches = contextlib.ExitStack()
        for name, stand_in in {
            "nbserve.gateway.pool.worker.WorkerKernel": self.machine.kernel,
            "nbserve.gateway.pool.obituary.read_memory": self.machine.memory,
            "nbserve.gateway.registry.read_memory": self.machine.memory,
        }.items():
            self._patches.enter_context(mock.patch(name, stand_in))
        log = logging.getLogger("nbserve")
        log.addHandler(self.errors)
        self._patches.callback(log.removeHandler, self.errors)
        around = Surroundings(self.runtime_dir, lambda event: None, "http://x", self.total, clock=self.loop.time)
        topology = Topology(tuple(Core(cpu, cpu, 0, 0, 0) for cpu in range(8)), 8)
        self.registry = Registry(around, topology, grace_s=30.0)

    # -- operations --------------------------------------------------------------------------------------------------

    @initialize(config=configs)
    def first_version(self, config: ModelConfig) -> None:
        self._run(self._register(config, "fine", "m"))
        self.loop.run_for(3.0)
        assert self.current == "1"

    @rule(kind=st.sampled_from(KINDS), count=st.integers(1, 20), seconds=pauses)
    def submit(self, kind: str, count: int, seconds: float) -> None:
        if kind not in ("ok", "bad", "part", "short"):
            self.is_calm, count = False, min(count, 2)
        for _ in range(count):
            self._submit(kind)
        self.loop.run_for(seconds)

    @rule(count=st.integers(1, 20), seconds=pauses)
    def submit_good_ones(self, count: int, seconds: float) -> None:
        self.submit("ok", count, seconds)

    @rule(seconds=pauses)
    def time_passes(self, seconds: float) -> None:
        self.loop.run_for(seconds)

    @precondition(lambda self: any(request.answer is None for request in self.requests))
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        waiting = [request for request in self.requests if request.answer is None and not request.gone]
        if waiting:
            request = data.draw(st.sampled_from(waiting))
            request.gone = True
            request.batcher.abandon(request)

    @rule(config=configs, fate=st.sampled_from(FATES + ("fine",) * len(FATES)), seconds=pauses)
    def swap(self, config: ModelConfig, fate: str, seconds: float) -> None:
        self._run(self._register(config, fate, "m"))
        self.loop.run_for(seconds)

    @rule(seconds=pauses)
    def roll_back(self, seconds: float) -> None:
        self._run(self._roll_back())
        self.loop.run_for(seconds)

    @rule(workers=st.integers(1, 4), seconds=pauses)
    def scale(self, workers: int, seconds: float) -> None:
        self._run(self._scale(workers))
        self.loop.run_for(seconds)

    @rule(data=st.data())
    def remove_a_version(self, data: st.DataObject) -> None:
        """One that loads, or was replaced."""
        with contextlib.suppress(NbserveError):
            versions = [entry.version for entry in self.registry.versions("m") if entry.version != self.current]
            if versions:
                self.is_calm = False
                self._run(self.registry.unregister("m", data.draw(st.sampled_from(versions))))

    @rule(seconds=pauses)
    def remove_the_model(self, seconds: float) -> None:
        self.is_calm = False
        self._run(self.registry.unregister("m"))
        self.loop.run_for(0.0)
        self.current = ""
        self.loop.run_for(seconds)

    # -- bad luck ----------------------------------------------------------------------------------------------------

    @rule(data=st.data(), count=counts, into_s=moments, seconds=pauses, code=st.sampled_from([-9, -11, 3]))
    def a_worker_dies(self, data: st.DataObject, count: int, into_s: float, seconds: float, code: int) -> None:
        if victim := self._victim(data, count, into_s):
            victim.die(code)
            self.loop.run_for(seconds)

    @rule(count=st.integers(1, 8))
    def workers_will_fail_to_load(self, count: int) -> None:
        self.is_calm = False
        self.machine.failing_loads += count

    @rule(data=st.data(), kind=st.sampled_from(["ok", "slow"]), into_s=moments, seconds=pauses)
    def somebody_uses_a_shell(self, data: st.DataObject, kind: str, into_s: float, seconds: float) -> None:
        self._submit(kind)
        if victim := self._victim(data, 0, into_s):
            victim.pause()
            self.loop.run_for(seconds)

    @rule()
    def all_shells_are_free_again(self) -> None:
        for kernel in self.machine.living():
            kernel.resume()

    @rule(data=st.data(), count=counts, into_s=moments, seconds=pauses)
    def a_worker_hangs(self, data: st.DataObject, count: int, into_s: float, seconds: float) -> None:
        if victim := self._victim(data, count, into_s):
            victim.is_hung = True
            self.loop.run_for(seconds)

    def _victim(self, data: st.DataObject, count: int, into_s: float) -> SimKernel | None:
        """A worker that something happens to, so long after these requests came: one that has work, where there is."""
        self.is_calm = False
        self.submit("ok", count, into_s)
        living = self.machine.living()
        among = [kernel for kernel in living if kernel.has_work] or living
        return data.draw(st.sampled_from(among)) if among else None

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def what_counts_the_queues_is_right(self) -> None:
        total_bytes = 0
        for batcher in {id(request.batcher): request.batcher for request in self.requests}.values():
            mine = [request for request in self.requests if request.batcher is batcher]
            waiting = [request for request in mine if request.state in (Where.QUEUED, Where.AGAIN)]
            assert batcher.queue_items == len(waiting)
            size_bytes = sum(len(request.body) for request in waiting if request.state == Where.QUEUED)
            assert batcher.queue_bytes == size_bytes
            total_bytes += size_bytes
        assert self.total.size_bytes == total_bytes

    @invariant()
    def every_answer_is_right(self) -> None:
        for request in self.requests:
            if request.answer is not None:
                self._check(request, request.answer)
            assert self.machine.begun[request.payload] <= 1 + request.retries, "it was tried too often"

    @invariant()
    def nothing_unforeseen_was_logged(self) -> None:
        assert not self.errors.seen, self.errors.seen[0]

    @invariant()
    def operations_end_as_they_should(self) -> None:
        for task in self.tasks:
            if task.done():
                task.result()

    @invariant()
    def a_pool_serves_while_a_worker_lives(self) -> None:
        if "m" in self.registry.names():
            for entry in self.registry.versions("m"):
                if entry.pool is not None and entry.pool.state in ("SERVING", "RESTARTING"):
                    alive = any(worker.is_alive for worker in entry.pool.workers)
                    assert (entry.pool.state == "SERVING") == alive

    def teardown(self) -> None:
        """The faults end, and everything comes to an end: first the requests by themselves, then the gateway."""
        with self._patches:
            self.machine.failing_loads = 0
            self.all_shells_are_free_again()
            self.loop.run_for(400.0)
            waiting = [request.payload for request in self.requests if request.answer is None and not request.gone]
            assert waiting == [], "these were never answered"
            assert all(task.done() for task in self.tasks)
            self._check_invariants()
            self._run(self.registry.stop(5.0))
            self.loop.run_for(100.0)
            self._check_invariants()
            assert self.total.size_bytes == 0
            assert asyncio.all_tasks(self.loop) == set()
            assert self.machine.living() == []
            assert all(kernel.is_closed for kernel in self.machine.kernels)

    def _check_invariants(self) -> None:
        self.what_counts_the_queues_is_right()
        self.every_answer_is_right()
        self.nothing_unforeseen_was_logged()
        self.operations_end_as_they_should()

    def _check(self, request: Asked, answer: Answered) -> None:
        kind, retries, payload = request.kind, request.retries, request.payload
        if answer.status == 200:
            assert kind not in ("bad", "short", "die", "slow", "deaf")
            assert bytes(answer.body).decode() == f"{request.version}|{payload}"
            return
        assert answer.error is not None
        if kind == "bad" and answer.error.type == "ValueError":
            assert answer.error.message == f"cannot do {payload}"
        elif kind == "short" and answer.error.type == "HandlerError":
            assert answer.status == 500
        elif self.is_calm:
            raise AssertionError(f"{payload} got {answer.status}, {answer.error.message}, though nothing was amiss")
        elif answer.error.type == "WorkerDied":
            assert self.machine.begun[payload] == 1 + retries, "it had tries left"
        else:
            assert answer.status in (503, 504, 507), answer.error.message

    # -- how it is done ----------------------------------------------------------------------------------------------

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            with contextlib.suppress(NbserveError):
                await coroutine

        self.tasks.append(self.loop.create_task(guarded()))

    def _submit(self, kind: str) -> None:
        route: Any = self.registry.routes.get(ROUTE)
        if route is None:
            swapping = any(not task.done() for task in self.tasks)  # stop-first
            assert self.current == "" or swapping or not self.is_calm, "nobody serves"
            return
        assert route.version == self.current, "an old version takes traffic after the switch"
        request = Asked(f"{kind}-{len(self.requests) + self.refused}", self.loop.now_s, route.version, route.batcher)
        if route.batcher.submit(request) is None:
            self.requests.append(request)
        else:
            self.refused += 1

    async def _register(self, config: ModelConfig, fate: str, name: str) -> None:
        before, calm = self.current, self.is_calm
        if fate == "fails in the warm-up" and config.max_batch_size == 1:
            fate = "fine"  # it fails on batches only
        config = msgspec.structs.replace(config, env={"FATE": fate})
        try:
            entry = await self.registry.register(RegisterRequest(url=str(self.bundle), model_name=name, config=config))
        except NbserveError:
            assert fate != "fine" or not (calm and self.is_calm), "it should have been served"
            raise
        assert fate == "fine" or before == "", f"a version that {fate} serves"
        self.current = entry.version

    async def _roll_back(self, version: str = "") -> None:
        self.current = (await self.registry.rollback("m", version)).version

    async def _scale(self, workers: int) -> None:
        await self.registry.scale("m", "", workers)


@pytest.fixture(scope="module", autouse=True)
def places(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The bundle that all versions are of, and the folder of logs that nobody writes."""
    RandomLife.bundle = make_bundle(tmp_path_factory.mktemp("bundles"))
    RandomLife.runtime_dir = tmp_path_factory.mktemp("runtime")


TestRandomLife = RandomLife.TestCase
TestRandomLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# -- stories that random life has told once ----------------------------------------------------------------------------


@pytest.fixture
def life() -> Iterator[RandomLife]:
    """One of which a test tells the operations; what must hold is checked at the end."""
    life = RandomLife()
    life.is_calm = False
    yield life
    life.teardown()


def config(**options: Any) -> ModelConfig:
    return ModelConfig(response_timeout_s=TIME_LIMIT_S, **options)


def all_workers_fail(life: RandomLife) -> None:
    life.machine.failing_loads = 100
    for kernel in life.machine.living():
        kernel.die(-9)
    life.loop.run_for(30.0)
    life.machine.failing_loads = 0


def test_an_endpoint_that_has_failed_is_replaced_in_any_way(life: RandomLife) -> None:
    life.first_version(config=config())
    for swap in ("stop-first", "rolling", "blue-green"):
        all_workers_fail(life)
        assert life.registry.find("m").state == "FAILED"
        life.swap(config=config(swap=swap), fate="raises", seconds=10.0)
        assert life.registry.find("m").state == "FAILED"
        life.swap(config=config(swap=swap), fate="fine", seconds=10.0)
        assert life.registry.find("m").state == "READY"


def test_a_batch_in_hand_while_a_cell_runs_in_the_shell_is_answered_by_the_same_worker(life: RandomLife) -> None:
    life.first_version(config=config())
    life.submit("ok", 5, 0.003)
    [kernel] = life.machine.living()
    kernel.pause()
    life.loop.run_for(0.001)
    kernel.resume()
    life.loop.run_for(1.0)
    assert [request.answer.status for request in life.requests if request.answer] == [200] * 5
    assert life.machine.living() == [kernel]


@pytest.mark.parametrize("moment_s", [0.0, 0.001, 0.0025])
def test_a_version_removed_while_it_cleans_up_after_a_failed_warm_up(life: RandomLife, moment_s: float) -> None:
    life.first_version(config=config())
    life.swap(config=config(workers=3), fate="dies in the warm-up", seconds=0.35 + BATCH_S + 2 * READ_S + moment_s)
    for _ in range(2):
        with contextlib.suppress(NbserveError):
            life._run(life.registry.unregister("m", "2"))
    life.loop.run_for(10.0)
    assert len(life.machine.living()) == 1


def test_workers_that_die_while_others_are_warmed_up(life: RandomLife) -> None:
    """The version fails with its pool; the warm-up batches of the others are nobody's requests."""
    life.swap(config=config(workers=3), fate="fine", seconds=0.35)
    while len(busy := [kernel for kernel in life.machine.living() if kernel.has_work]) < 2:
        life.loop.run_for(0.001)
    busy[0].die(-9)
    life.loop.run_for(10.0)
    assert life.machine.living() == []


def test_a_replacement_that_is_aborted_gives_the_old_version_back(life: RandomLife) -> None:
    life.first_version(config=config())
    life.submit("slow", 1, 0.1)
    life.swap(config=config(swap="stop-first"), fate="fine", seconds=0.5)  # the old version is draining now
    life._run(life.registry.unregister("m", "2"))
    life.loop.run_for(10.0)
    assert life.registry.find("m").state == "READY"
    life.submit("ok", 1, 1.0)
    assert life.requests[-1].answer is not None
    assert life.requests[-1].answer.status == 200


def test_workers_that_all_fail_while_new_ones_do_not_start_are_noticed(life: RandomLife) -> None:
    life.first_version(config=config())
    life.machine.failing_loads = 100
    [kernel] = life.machine.living()
    kernel.die(-9)
    life.submit("ok", 3, 10.0)
    life.scale(workers=3, seconds=30.0)
    assert life.registry.find("m").state == "FAILED"
    assert [request.answer.status for request in life.requests if request.answer] == [503] * 3


def test_a_model_that_is_removed_while_a_rollback_waits_stays_removed(life: RandomLife) -> None:
    life.first_version(config=config())
    life.submit("slow", 1, 0.1)
    life.swap(config=config(), fate="fine", seconds=1.0)
    assert life.current == "2"  # and the old version has a request to finish
    life.roll_back(seconds=0.1)
    life.remove_the_model(seconds=10.0)
    assert life.registry.names() == []
    assert life.machine.living() == []


def test_five_versions_stay_kept_however_often_they_are_rolled_back_to(life: RandomLife) -> None:
    life.first_version(config=config())
    for _ in range(7):
        life.swap(config=config(), fate="fine", seconds=5.0)
    registry = life.registry
    kept = ["7", "6", "5", "4", "3"]
    assert [one.version for one in registry.kept("m")] == kept
    for version in ("7", "3", "8", "5", "7", "4"):
        current = registry.find("m").version
        life._run(life._roll_back(version))
        life.loop.run_for(5.0)
        kept = [current, *(one for one in kept if one != version)]
        assert registry.find("m").version == life.current == version
        assert [one.version for one in registry.kept("m")] == kept
    sixth = life.loop.create_task(registry.rollback("m", "1"))
    life.loop.run_for(0.1)
    with pytest.raises(NotFound, match="m has no version 1 to go back to") as raised:
        sixth.result()
    assert raised.value.hint == f"kept are, last first: {', '.join(kept)}"


def test_what_waits_at_a_worker_that_hangs_has_not_run_and_is_answered_by_the_next_one(life: RandomLife) -> None:
    """Stopped by a signal, or its interpreter held by a thread: also where nothing that has run may run again."""
    life.first_version(config=config(retries=0))
    [kernel] = life.machine.living()
    kernel.is_hung = True
    life.submit("ok", 3, 30.0)
    assert [request.answer.status for request in life.requests if request.answer] == [200] * 3
    assert kernel.is_dead


def test_an_endpoint_that_has_failed_says_of_what(life: RandomLife) -> None:
    life.first_version(config=config())
    life.machine.failing_loads = 100
    life.machine.living()[0].die(-9)
    life.submit("ok", 1, 30.0)
    [answer] = [request.answer for request in life.requests if request.answer]
    assert answer.error is not None
    assert answer.error.message == "no worker is ready: ValueError: initialize raised"


def test_scaling_down_keeps_those_that_live(life: RandomLife) -> None:
    life.first_version(config=config(workers=3))
    first, *_ = life.machine.living()
    life.machine.failing_loads = 2
    first.die(-9)
    life.loop.run_for(0.1)
    life.scale(workers=2, seconds=0.1)
    pool = life.registry.find("m").pool
    assert pool is not None
    assert [worker.is_alive for worker in pool.workers] == [True, True]
    life.submit("ok", 4, 1.0)
    assert [request.answer.status for request in life.requests if request.answer] == [200] * 4
