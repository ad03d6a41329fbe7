"""The batcher under random traffic, hang-ups and deaths, in simulated time: what must hold whatever happens."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from nbserve.config import ModelConfig
from nbserve.gateway import policy
from nbserve.gateway.batcher import Batcher
from nbserve.gateway.cost import Cost, CostModel
from nbserve.gateway.policy import TICK_S, batch_cap
from nbserve.gateway.request import Request
from nbserve.wire.frames import Flag
from nbserve.wire.messages import RequestItem
from tests.unit.gateway.simulation import SimLoop, SimRequest, SimWorker


@dataclass
class Traffic:
    """Gaps between arrivals in seconds; which requests hang up, and how long after; which batches kill a worker."""

    gaps: list[float]
    config: ModelConfig
    workers: int = 1
    cost: Cost = field(default_factory=lambda: Cost(0.004, 0.001))
    hang_ups: dict[int, float] = field(default_factory=dict)
    deaths: set[int] = field(default_factory=set)
    known_cost: bool = True


class World:
    """One simulation, run to its end."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.loop = SimLoop()
        model = CostModel()
        if traffic.known_cost:
            model.seed((size, traffic.cost.predict_s(size)) for size in (1, 2, 4, 8, 16, 32))
        loop: Any = self.loop
        self.batcher = Batcher(traffic.config, loop=loop, cost_model=model, clock=self.loop.time)
        self.workers = [SimWorker(i, self.loop, traffic.cost, traffic.deaths) for i in range(traffic.workers)]
        self.admitted: list[SimRequest] = []
        self.abandoned: set[str] = set()
        self.refused = 0
        for worker in self.workers:
            worker.listener = self.batcher
            ready: Any = worker
            self.batcher.worker_ready(ready)
        self.loop.call_later(traffic.gaps[0], self._arrive, 0)

    def run(self) -> World:
        self.loop.run(self._check_instant)
        return self

    def _arrive(self, number: int) -> None:
        if number + 1 < len(self.traffic.gaps):  # one after the other: timers of one moment are in no order
            self.loop.call_later(self.traffic.gaps[number + 1], self._arrive, number + 1)
        request = SimRequest(number, self.loop)
        if self.batcher.submit(request) is not None:
            self.refused += 1
            return
        self.admitted.append(request)
        if number in self.traffic.hang_ups:
            self.loop.call_later(self.traffic.hang_ups[number], self._hang_up, request)

    def _hang_up(self, request: SimRequest) -> None:
        if request.answer is None:
            self.abandoned.add(request.item.request_id)
        self.batcher.abandon(request)

    def _check_instant(self) -> None:
        config = self.traffic.config
        # What a dead worker had not begun comes back: it was admitted before, when there was room.
        back = sum(len(names) for worker in self.workers for names in worker.returned)
        assert self.batcher._items <= config.max_queue_size + back
        assert 0 <= self.batcher.queue_bytes <= config.max_queue_bytes + back
        idle = [worker for worker in self.workers if worker.alive and not worker.held]
        if config.max_batch_delay_ms == 0 and idle:
            assert self.batcher.queue_items == 0, "a worker is idle while requests wait"

    def fresh(self) -> list[tuple[float, list[str], SimWorker]]:
        """Batches of requests that were not tried before, in the order of dispatch."""
        batches = [
            (at_s, ids, worker) for worker in self.workers for at_s, ids, flags in worker.sent if not flags & Flag.RETRY
        ]
        return sorted(batches, key=lambda batch: (batch[0], int(batch[1][0])))


configs = st.builds(
    ModelConfig,
    max_batch_size=st.integers(1, 16),
    max_batch_delay_ms=st.sampled_from([0.0, 0.0, 5.0, 20.0]),
    slo_ms=st.sampled_from([None, None, 40.0, 100.0]),
    max_queue_size=st.sampled_from([3, 20, 1000]),
    max_queue_bytes=st.sampled_from([2, 1000]),
)
traffics = st.builds(
    Traffic,
    gaps=st.one_of(
        st.lists(st.sampled_from([0.0, 0.0005, 0.002, 0.01, 0.05]), min_size=1, max_size=80),
        st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.0005]), min_size=30, max_size=80),
    ),
    config=configs,
    workers=st.integers(1, 3),
    cost=st.builds(Cost, st.sampled_from([0.0, 0.004]), st.sampled_from([0.0002, 0.002])),
    hang_ups=st.dictionaries(st.integers(0, 79), st.sampled_from([0.0, 0.001, 0.02]), max_size=10),
    deaths=st.sets(st.integers(1, 10), max_size=4),
    known_cost=st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(traffics)
def test_every_admitted_request_is_answered_exactly_once(traffic: Traffic) -> None:
    world = World(traffic).run()
    for request in world.admitted:
        gone = request.item.request_id in world.abandoned
        assert gone == (request.answer is None), request.item.request_id
    assert world.batcher.queue_items == 0
    assert world.batcher.queue_bytes == 0
    assert world.batcher._batches == {}
    assert sum(world.batcher.stats.requests.values()) == len(world.admitted) + world.refused
    assert len(world.admitted) + world.refused == len(traffic.gaps)


@settings(max_examples=200, deadline=None)
@given(traffics)
def test_requests_are_sent_in_the_order_they_came(traffic: Traffic) -> None:
    """But for those that a dead worker had ahead and not begun: meanwhile others may have got later ones."""
    world = World(traffic).run()
    back = {name for worker in world.workers for names in worker.returned for name in names}
    order = [int(name) for _, names, _ in world.fresh() for name in names if name not in back]
    assert order == sorted(order)


@settings(max_examples=200, deadline=None)
@given(traffics)
def test_batches_keep_to_their_size_and_retries_go_alone(traffic: Traffic) -> None:
    world = World(traffic).run()
    for worker in world.workers:
        for _, names, flags in worker.sent:
            assert len(names) <= (1 if flags & Flag.RETRY else traffic.config.max_batch_size)
    tries: dict[str, int] = {}
    for worker in world.workers:
        for _, names, _ in worker.sent:
            for name in names:
                tries[name] = tries.get(name, 0) + 1
    assert all(count <= 2 for count in tries.values())


@settings(max_examples=200, deadline=None)
@given(traffics)
def test_a_request_waits_for_a_fuller_batch_no_longer_than_the_delay(traffic: Traffic) -> None:
    """Whenever a batch goes out, its oldest had waited at most the delay, or no worker was idle meanwhile."""
    world = World(traffic).run()
    delay_s = traffic.config.max_batch_delay_ms / 1e3
    arrived = {request.item.request_id: request.arrived_s for request in world.admitted}
    ends = dict.fromkeys(world.workers, 0.0)
    for at_s, names, worker in world.fresh():
        mine = [number for number, sent in enumerate(worker.sent) if sent[0] < at_s]
        if mine:
            ends[worker] = worker.ends_s[mine[-1]]
        if not traffic.deaths:
            assert at_s <= max(arrived[names[0]] + delay_s, ends[worker]) + TICK_S + 1e-9


@settings(max_examples=100, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([0.0, 0.0002, 0.001, 0.005]), min_size=20, max_size=200),
    workers=st.integers(1, 3),
    slo_ms=st.sampled_from([50.0, 100.0, 200.0]),
)
def test_with_an_exact_cost_model_what_is_admitted_is_answered_in_time(
    gaps: list[float], workers: int, slo_ms: float
) -> None:
    """Admission reckons what happens: nothing that it takes is late, or given up later."""
    world = World(Traffic(gaps, ModelConfig(slo_ms=slo_ms, max_batch_size=16), workers)).run()
    for request in world.admitted:
        assert request.answer is not None
        assert request.answer.status == 200
        assert request.answered_s - request.arrived_s <= slo_ms / 1e3 + TICK_S
    assert world.admitted


def test_under_overload_most_of_the_capacity_is_goodput() -> None:
    """Twice what two workers can do, for two seconds: at least 90 % of the capacity comes out, in time."""
    config = ModelConfig(slo_ms=72, max_batch_size=32)
    cost = Cost(0.004, 0.00025)
    capacity = 2 * 32 / cost.predict_s(32)
    count = int(2 * capacity * 2)
    world = World(Traffic([1 / (2 * capacity)] * count, config, workers=2, cost=cost)).run()
    good = sum(
        request.answer is not None and request.answer.status == 200 and request.answered_s - request.arrived_s <= 0.072
        for request in world.admitted
    )
    assert good >= 0.9 * 2 * capacity
    assert batch_cap(cost, config) == 32


def test_a_quick_model_under_load_has_its_next_batch_before_it_is_done() -> None:
    cost = Cost(0.0, 0.0002)
    world = World(Traffic(gaps=[0.0] * 20, config=ModelConfig(max_batch_size=4), cost=cost)).run()
    (worker,) = world.workers
    assert [len(names) for _, names, _ in worker.sent] == [1, 4, 4, 4, 4, 3]
    assert sum(sent[0] < end for sent, end in zip(worker.sent[1:], worker.ends_s, strict=False)) == 4
    assert world.batcher.busy_s == pytest.approx(cost.predict_s(20))  # no time is counted twice


def test_what_was_sent_ahead_to_a_worker_that_dies_is_no_suspect() -> None:
    config = ModelConfig(max_batch_size=4)
    world = World(Traffic(gaps=[0.0] * 9, config=config, cost=Cost(0.0, 0.0002), deaths={1})).run()
    (worker,) = world.workers
    assert [(len(names), flags) for _, names, flags in worker.sent] == [
        (1, Flag.NONE),
        (1, Flag.RETRY),
        (4, Flag.NONE),
        (4, Flag.NONE),
    ]
    assert [len(names) for names in worker.returned] == [4]
    assert all(request.answer is not None for request in world.admitted)


class Notes(Request):
    """A request whose answer takes the gateway 3 ms of its time."""

    def __init__(self, number: int, world: World, said: list[str]) -> None:
        super().__init__(RequestItem("text/plain", str(number)), b"x", world.loop.now_s)
        self._world, self._said = world, said

    def answered(self, answer: Any) -> None:
        self._said.append(f"answer {self.item.request_id}")
        self._world.loop.now_s += 0.003


@pytest.mark.parametrize("waiting", [4, 3])
def test_a_full_batch_goes_before_the_answers_of_the_last_one_are_written(waiting: int) -> None:
    """The worker computes meanwhile; what does wait for the gateway is part of what a batch takes."""
    said: list[str] = []
    world = World(Traffic(gaps=[1.0], config=ModelConfig(max_batch_size=4), cost=Cost(0.01, 0.0)))
    (worker,), send = world.workers, world.workers[0].send

    def noted(*args: Any) -> None:
        said.append("batch")
        send(*args)

    with mock.patch.object(worker, "send", noted):
        for number in range(1, 1 + waiting + 1):
            assert world.batcher.submit(Notes(number, world, said)) is None
            world.loop.run_for(0.001)  # the first goes at once, the others wait
        world.loop.run_for(0.05)
    first, second = said.index("batch", 1), said.index("answer 1")
    assert (first < second) == (waiting == 4)
    costs = [seconds for size, seconds in world.batcher.cost_model.points if size == waiting]
    assert (min(costs) < 0.0101) == (waiting == 4)


@pytest.mark.parametrize("is_busy", [True, False])
def test_an_arrival_is_looked_at_when_it_is_the_first_or_there_are_enough(*, is_busy: bool) -> None:
    """Between them there is nothing to decide: behind a busy worker, or while a batch waits for more."""
    config = ModelConfig(max_batch_size=8, max_batch_delay_ms=0.0 if is_busy else 20.0)
    world = World(Traffic(gaps=[1.0], config=config, cost=Cost(0.1, 0.0)))
    if is_busy:
        world.batcher.submit(SimRequest(0, world.loop))
    world.loop.run_for(0.001)
    with mock.patch("nbserve.gateway.batcher.decide", wraps=policy.decide) as decide:
        for number in range(1, 9):
            world.batcher.submit(SimRequest(number, world.loop))
            world.loop.run_for(0.001)
            assert decide.call_count == (1 if number < 8 else 2)
    (worker,) = world.workers
    world.loop.run_for(0.15)
    assert [(round(at_s, 3), len(ids)) for at_s, ids, _ in worker.sent] == (
        [(0.0, 1), (0.1, 8)] if is_busy else [(0.008, 8)]
    )


class OneBatch:
    """A worker that notes the first batch and ends the loop."""

    id = 1

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.sent: list[int] = []

    def send(self, batch_id: int, items: list[Any], bodies: Any, flags: Flag, timeout_s: float | None) -> None:
        self.sent.append(len(items))
        self.loop.stop()


@pytest.mark.parametrize("delay_ms", [0.3, 0.7, 1.6])
def test_waiting_is_no_busy_loop_on_uvloop(delay_ms: float) -> None:
    """Its timers count whole milliseconds, rounded: one that fires early must not be set again and again."""
    loop = uvloop.new_event_loop()
    batcher = Batcher(ModelConfig(max_batch_delay_ms=delay_ms), loop=loop)
    worker: Any = OneBatch(loop)
    looks = []
    pump = batcher._pump

    def look() -> None:
        looks.append(1)
        pump()

    with mock.patch.object(batcher, "_pump", look):
        batcher.worker_ready(worker)
        request = Request(RequestItem("text/plain", "1"), b"x", time.monotonic())
        assert batcher.submit(request) is None
        loop.call_later(5.0, loop.stop)
        loop.run_forever()
    loop.close()
    assert worker.sent == [1]
    assert len(looks) <= 4
