"""Placement: properties that every plan has, and what the known machines get."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.gateway.pool.placement import Demand, WorkerPlan, plan, room_of, thread_environment
from nbserve.gateway.pool.topology import Core, Topology, read_topology
from tests.unit.pool import trees

Plans = Mapping[str, Sequence[WorkerPlan]]


def machine(
    nodes: int = 1,
    l3_per_node: int = 1,
    cores_per_l3: int = 4,
    threads: int = 1,
    quota: float | None = None,
    slow: int = 0,
) -> Topology:
    """CPUs numbered as Linux does: all first threads, then all siblings, then `slow` efficiency cores on node 0."""
    physical = [(n, c) for n in range(nodes) for c in range(l3_per_node * cores_per_l3)]
    cores = []
    for sibling in range(threads):
        for index, (node, core) in enumerate(physical):
            l3 = node * l3_per_node + core // cores_per_l3
            cores.append(Core(sibling * len(physical) + index, index, sibling, l3, node))
    cores += [Core(len(cores) + i, len(physical) + i, 0, nodes * l3_per_node, 0, 1) for i in range(slow)]
    return Topology(tuple(cores), quota)


machines = st.builds(
    machine,
    nodes=st.integers(1, 3),
    l3_per_node=st.integers(1, 3),
    cores_per_l3=st.integers(1, 4),
    threads=st.integers(1, 2),
    slow=st.integers(0, 3),
)
limited = st.builds(lambda topology, quota: topology._replace(quota=quota), machines, st.floats(0.2, 12))
thread_counts = st.none() | st.integers(1, 6)
demands = st.lists(st.tuples(st.integers(1, 5) | st.just("auto"), thread_counts), min_size=1, max_size=4).map(
    lambda rows: [Demand(f"m{i}", workers, threads) for i, (workers, threads) in enumerate(rows)]
)


def cpu_uses(plans: Plans) -> Counter[int]:
    return Counter(cpu for workers in plans.values() for worker in workers for cpu in worker.cores)


def everybody(plans: Plans) -> list[WorkerPlan]:
    return [worker for workers in plans.values() for worker in workers]


def moved(before: Plans, after: Plans) -> int:
    """Running workers that run on a core that they did not run on before."""
    pairs = [pair for key in before if key in after for pair in zip(before[key], after[key], strict=False)]
    return sum(not set(new.cores) <= set(old.cores) for old, new in pairs)


def test_cores_of_other_gateways_workers_are_left_to_them_while_there_are_others() -> None:
    topology = machine(cores_per_l3=4)
    assert cpu_uses(plan(topology, [Demand("a", 2, 1)], others=[1])) == Counter([2, 3])
    assert cpu_uses(plan(topology, [Demand("a", 3, 1)], others=[1])) == Counter([1, 2, 3])
    assert cpu_uses(plan(topology, [Demand("a", 1, 1)], others=[1, 2, 2, 3, 99])) in (Counter([1]), Counter([3]))
    here = {"a": [WorkerPlan((1,), 1)]}
    assert plan(topology, [Demand("a", 1, 1)], here, others=[1])["a"][0].cores == (2,)
    assert plan(topology, [Demand("a", 1, 1)], here, others=[2])["a"][0].cores == (1,)


# -- properties --------------------------------------------------------------------------------------------------------


@given(machines | limited, demands)
def test_every_plan_is_sound(topology: Topology, asked: list[Demand]) -> None:
    plans = plan(topology, asked)
    node_of = {core.cpu: core.node for core in topology.cores}
    room = room_of(topology)
    assert list(plans) == [demand.key for demand in asked]
    for demand in asked:
        workers = plans[demand.key]
        assert len(workers) == demand.workers or demand.workers == "auto"
        assert workers, "at least one"
        for worker in workers:
            assert worker.threads >= 1
            assert {node_of[cpu] for cpu in worker.cores} == {worker.node}, "never across nodes"
            assert not set(worker.cores) & set(room.kept)
            assert worker.threads + worker.missing == (demand.threads or worker.threads)
            assert not worker.missing or worker.threads == room.most_threads
            if not topology.is_quota_bound:
                assert len(set(worker.cores)) == len(worker.cores) == worker.threads
    assert plan(topology, asked) == plans, "the same every time"


@given(machines, demands)
def test_no_core_is_given_twice_while_there_are_enough(topology: Topology, asked: list[Demand]) -> None:
    """Enough: a node for each worker after the other. Where cores must be shared they are shared evenly on a node."""
    plans = plan(topology, asked)
    room = room_of(topology)
    uses = cpu_uses(plans)
    if len(room.nodes) == 1:
        [cores] = room.nodes.values()
        assert max(uses.values()) == math.ceil(sum(uses.values()) / len(cores))
        if sum(uses.values()) > len(cores):
            assert max(uses.values()) - min(uses[core.cpu] for core in cores) <= 1
    elif all(worker.threads == 1 for worker in everybody(plans)):
        assert max(uses.values()) == math.ceil(sum(uses.values()) / sum(map(len, room.nodes.values())))


@given(machines, st.integers(1, 12))
def test_workers_that_name_no_threads_share_and_never_crowd(topology: Topology, workers: int) -> None:
    """As many threads as fit on fast physical cores, each worker on one node; one more would not fit."""
    [members] = plan(topology, [Demand("a", workers)]).values()
    [threads] = {worker.threads for worker in members}
    budget = room_of(topology).budget

    def fits(count: int) -> bool:
        return sum(free // count for free in budget.values()) >= workers

    assert not fits(threads + 1)
    if workers <= sum(budget.values()):
        assert fits(threads)
        assert max(cpu_uses({"a": members}).values()) == 1
        first = {core.cpu for core in topology.cores if core.sibling == 0}
        assert set(cpu_uses({"a": members})) <= first
    else:
        assert threads == 1


@given(machines | limited, st.integers(1, 8), demands)
def test_more_workers_never_get_more_threads(topology: Topology, workers: int, others: list[Demand]) -> None:
    fixed = [other if other.workers != "auto" else other._replace(workers=1) for other in others]
    few, more = (plan(topology, [*fixed, Demand("a", count)])["a"][0].threads for count in (workers, workers + 1))
    assert more <= few


@given(machines, st.integers(1, 8))
def test_more_cores_never_give_fewer_threads(topology: Topology, workers: int) -> None:
    small = topology._replace(cores=tuple(core for core in topology.cores if core.cpu != topology.cores[-1].cpu))
    if small.cores and {c.tier for c in small.cores} == {c.tier for c in topology.cores}:
        before, after = (plan(one, [Demand("a", workers)])["a"][0].threads for one in (small, topology))
        assert before <= after


@given(limited, demands)
def test_a_quota_is_not_overdrawn_by_default(topology: Topology, asked: list[Demand]) -> None:
    flexible = [demand._replace(threads=None) for demand in asked]
    plans = plan(topology, flexible)
    threads = sum(worker.threads for worker in everybody(plans))
    assert threads <= topology.usable or all(worker.threads == 1 for worker in everybody(plans))


@given(machines | limited, demands)
def test_planned_again_nobody_moves(topology: Topology, asked: list[Demand]) -> None:
    plans = plan(topology, asked)
    assert plan(topology, asked, plans) == plans
    backwards = plan(topology, asked[::-1], plans)
    assert {key: backwards[key] for key in plans} == plans, "nor when the models are named in another order"


@given(machines, demands, demands)
def test_a_plan_that_knows_who_runs_is_as_good_as_a_fresh_one(
    topology: Topology, before: list[Demand], after: list[Demand]
) -> None:
    """Staying costs nothing: no more cores shared, no more siblings busy. It is as sound as the fresh one, too."""
    running = plan(topology, before)
    wanted = [demand._replace(workers=len(running.get(demand.key, [1]))) for demand in after]
    fresh, stable = plan(topology, wanted), plan(topology, wanted, running)
    assert [worker.threads for worker in everybody(stable)] == [worker.threads for worker in everybody(fresh)]
    assert sharing(topology, stable) <= sharing(topology, fresh)


def sharing(topology: Topology, plans: Plans) -> tuple[int, int]:
    physical = {core.cpu: core.physical for core in topology.cores}
    uses = cpu_uses(plans)
    busy = Counter(physical[cpu] for cpu in uses.elements())
    return sum(n * (n - 1) for n in uses.values()), sum(n * (n - 1) for n in busy.values())


@given(st.integers(4, 24), st.lists(st.integers(1, 4), min_size=2, max_size=6))
def test_one_that_comes_or_goes_moves_nobody_where_cores_are_alike(cores: int, sizes: list[int]) -> None:
    topology = machine(cores_per_l3=cores)
    asked = [Demand(f"m{i}", 1, threads) for i, threads in enumerate(sizes)]
    if sum(sizes) > cores - 1:
        return
    running = plan(topology, asked[:-1])
    more = plan(topology, asked, running)
    assert moved(running, more) == 0
    for gone in asked:
        assert moved(more, plan(topology, [demand for demand in asked if demand != gone], more)) == 0


@given(st.integers(2, 24), st.integers(1, 8), st.integers(1, 8))
def test_scaling_shrinks_and_grows_workers_in_place(cores: int, before: int, after: int) -> None:
    """Where cores are alike, a worker's cores are a part of what they were, or what they were is a part of them."""
    topology = machine(cores_per_l3=cores)
    running = plan(topology, [Demand("a", before)])
    scaled = plan(topology, [Demand("a", after)], running)
    if max(before, after) <= len(room_of(topology).nodes[0]):
        for old, new in zip(running["a"], scaled["a"], strict=False):
            assert set(old.cores) <= set(new.cores) or set(new.cores) <= set(old.cores)


# -- known machines ----------------------------------------------------------------------------------------------------


def cores_of(topology: Topology, *asked: Demand, running: Plans | None = None) -> list[tuple[int, ...]]:
    return [worker.cores for worker in everybody(plan(topology, asked, running or {}))]


def test_one_core() -> None:
    assert cores_of(machine(cores_per_l3=1), Demand("a", 2, 3), Demand("b")) == [(0,), (0,), (0,)]


def test_two_cores() -> None:
    topology = machine(cores_per_l3=2)
    assert cores_of(topology, Demand("a")) == [(0, 1)], "nothing is kept of so few"
    assert cores_of(topology, Demand("a", 2)) == [(0,), (1,)]
    uses = Counter(cores_of(topology, *(Demand(f"m{i}") for i in range(10))))
    assert uses == {(0,): 5, (1,): 5}


def test_one_core_is_kept_from_four_on() -> None:
    assert cores_of(machine(cores_per_l3=3), Demand("a", 3)) == [(0,), (1,), (2,)]
    assert cores_of(machine(cores_per_l3=4), Demand("a", 3)) == [(1,), (2,), (3,)]
    assert room_of(machine(cores_per_l3=4, threads=2)).kept == (0, 4), "with its sibling"
    assert room_of(machine(cores_per_l3=2, threads=2)).kept == (), "four hardware threads are two cores"


def test_explicit_threads_come_first_and_the_rest_is_shared() -> None:
    plans = plan(machine(cores_per_l3=9), [Demand("a", 2), Demand("b", 1, 4)])
    assert [worker.threads for worker in everybody(plans)] == [2, 2, 4]
    assert max(cpu_uses(plans).values()) == 1


def test_auto_is_cores_by_threads() -> None:
    topology = machine(cores_per_l3=9)
    assert len(plan(topology, [Demand("a", "auto")])["a"]) == 8
    assert len(plan(topology, [Demand("a", "auto", 3)])["a"]) == 2
    both = plan(topology, [Demand("a", "auto"), Demand("b", 2, 2), Demand("c", "auto")])
    assert [len(workers) for workers in both.values()] == [2, 2, 2]


def test_laptop(tmp_path: Path) -> None:
    """Fast cores first, then efficiency cores, then siblings; an efficiency core is kept."""
    trees.laptop(tmp_path)
    topology = read_topology(tmp_path)
    assert room_of(topology).kept == (8,)
    assert cores_of(topology, Demand("a")) == [(0, 2, 4, 6)]
    assert cores_of(topology, Demand("a", 2)) == [(0, 2), (4, 6)]
    assert cores_of(topology, Demand("a", 5)) == [(0,), (2,), (4,), (6,), (9,)]
    assert set(cores_of(topology, Demand("a", 12))[-1]) <= {1, 3, 5, 7}
    assert plan(topology, [Demand("a", "auto")]) == plan(topology, [Demand("a", 4)])


def test_two_sockets(tmp_path: Path) -> None:
    trees.two_sockets(tmp_path)
    topology = read_topology(tmp_path)
    [alone] = everybody(plan(topology, [Demand("a")]))
    assert (alone.cores, alone.threads, alone.node) == (tuple(range(28, 56)), 28, 1), "the node that keeps no core"
    pair = everybody(plan(topology, [Demand("a", 2)]))
    assert [(worker.node, worker.threads) for worker in pair] == [(0, 27), (1, 27)]
    three = everybody(plan(topology, [Demand("a", 3)]))
    assert sorted((worker.node, worker.threads) for worker in three) == [(0, 14), (1, 14), (1, 14)]
    [large] = everybody(plan(topology, [Demand("a", 1, 80)]))
    assert (large.threads, large.missing, large.node) == (56, 24, 1), "both threads of each core of one node"
    small = everybody(plan(topology, [Demand("a", 6, 4)]))
    assert {worker.node for worker in small} == {0}, "on one node while there is room: one copy of the weights"


def test_sixteen_l3_groups(tmp_path: Path) -> None:
    trees.epyc(tmp_path)
    topology = read_topology(tmp_path)
    l3 = {core.cpu: core.l3 for core in topology.cores}

    def groups(*asked: Demand) -> list[int]:
        return [len({l3[cpu] for cpu in cores}) for cores in cores_of(topology, *asked)]

    assert groups(Demand("a", 15, 4)) == [1] * 15
    assert groups(Demand("a", 16)) == [1] * 16, "three cores each"
    assert groups(Demand("a", 7, 8)) == [2] * 7
    assert groups(Demand("a", 1, 3), Demand("b", 1, 4)) == [1, 1]
    assert cores_of(topology, Demand("a", 1, 3)) == [(1, 2, 3)], "the group that is broken already"
    assert max(Counter(cpu for cores in cores_of(topology, Demand("a", 63)) for cpu in cores).values()) == 1


def test_cpu_quota_counts_time_not_cores(tmp_path: Path) -> None:
    """The CPUs are everybody's: no worker is tied to one, and threads are what 2.5 CPUs can run."""
    trees.plain(tmp_path, 8)
    trees.write(tmp_path, "sys/fs/cgroup/cpu.max", "250000 100000")
    topology = read_topology(tmp_path)
    for workers, threads in ((1, 2), (2, 1), (3, 1)):
        members = plan(topology, [Demand("a", workers)])["a"]
        assert [(worker.cores, worker.threads) for worker in members] == [(tuple(range(8)), threads)] * workers
    [large] = plan(topology, [Demand("a", 1, 8)])["a"]
    assert (large.threads, large.missing) == (2, 6)
    assert len(plan(topology, [Demand("a", "auto")])["a"]) == 2


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (3.9, 3), (4.0, 3), (5.5, 4), (7.9, 6), (8.0, 7), (64, 7)])
def test_cpu_quota_keeps_one_too(quota: float, threads: int) -> None:
    assert plan(machine(cores_per_l3=8, quota=quota), [Demand("a")])["a"][0].threads == threads


def test_a_worker_under_a_quota_stays_on_one_node() -> None:
    topology = machine(nodes=2, cores_per_l3=8, quota=6.5)
    before = plan(topology, [Demand("a", 2, 2)])
    assert [worker.node for worker in before["a"]] == [0, 1]
    assert [worker.cores for worker in before["a"]] == [tuple(range(8)), tuple(range(8, 16))]
    after = plan(topology, [Demand("b", 1, 3), Demand("a", 2, 2)], before)
    assert [worker.node for worker in after["a"]] == [0, 1]


def test_a_crowd_thins_out_by_few_moves() -> None:
    """Four workers on each of two cores; three of one core leave: one moves."""
    topology = machine(cores_per_l3=2)
    asked = [Demand(f"m{i}") for i in range(8)]
    before = plan(topology, asked)
    left = [demand for demand in asked if before[demand.key][0].cores == (0,)]
    left += [demand for demand in asked if before[demand.key][0].cores == (1,)][:1]
    after = plan(topology, left, before)
    assert sorted(Counter(worker.cores for worker in everybody(after)).values()) == [2, 3]
    assert moved(before, after) == 1


def test_a_worker_moves_to_a_better_core_when_one_is_free_and_the_others_stay() -> None:
    topology = machine(cores_per_l3=4, slow=2)
    asked = [Demand("a", 1, 2), *(Demand(key, 1, 1) for key in "bcd")]
    before = plan(topology, asked)
    assert before["d"][0].cores == (5,), "an efficiency core; the other one is kept"
    after = plan(topology, asked[1:], before)
    assert [after[key][0].cores for key in "bcd"] == [(2,), (3,), (0,)]


def test_a_node_is_filled_before_another_is_started() -> None:
    topology = machine(nodes=2, cores_per_l3=4)
    before = plan(topology, [Demand("a", 1, 3), Demand("b", 1, 2)])
    assert [worker.node for worker in everybody(before)] == [0, 1]
    after = plan(topology, [Demand("b", 1, 2), Demand("c", 1, 1)], before)
    assert [worker.node for worker in everybody(after)] == [1, 1]


def test_a_large_machine_is_planned_in_no_time(tmp_path: Path) -> None:
    """On the gateway's loop: 127 workers come to 127 that run, within a second even on a busy machine."""
    trees.epyc(tmp_path)
    topology = read_topology(tmp_path)
    before = plan(topology, [Demand("a", 63, 1)])
    plans = plan(topology, [Demand("a", 126, 1)], before)
    assert max(cpu_uses(plans).values()) == 1
    assert moved(before, plans) == 0


def test_thread_environment() -> None:
    environment = thread_environment(3)
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
    assert environment["OMP_PROC_BIND"] == "false"
