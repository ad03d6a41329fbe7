"""Placement: properties that every plan has, and the shapes of known machines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbserve.gateway.pool.placement import Demand, describe, plan
from nbserve.gateway.pool.topology import Core, Topology


def machine(nodes: int, l3_per_node: int, cores_per_l3: int, threads: int, quota: int | None = None) -> Topology:
    """CPUs numbered as Linux does: all first threads, then all siblings."""
    physical = [(n, c) for n in range(nodes) for c in range(l3_per_node * cores_per_l3)]
    cores = []
    for sibling in range(threads):
        for index, (node, core) in enumerate(physical):
            l3 = node * l3_per_node + core // cores_per_l3
            cores.append(Core(sibling * len(physical) + index, index, sibling, l3, node))
    return Topology(tuple(cores), quota or len(cores))


machines = st.builds(
    machine,
    nodes=st.integers(1, 2),
    l3_per_node=st.integers(1, 4),
    cores_per_l3=st.integers(1, 4),
    threads=st.integers(1, 2),
    quota=st.none() | st.integers(1, 8),
)
demands = st.lists(
    st.tuples(st.integers(1, 5) | st.just("auto"), st.none() | st.integers(1, 4)), min_size=1, max_size=4
).map(lambda rows: [Demand(f"m{i}", workers, threads) for i, (workers, threads) in enumerate(rows)])


@given(machines, demands)
def test_every_plan_is_sound(topology: Topology, asked: list[Demand]) -> None:
    plans = plan(topology, asked)
    allowed = {core.cpu for core in topology.cores}
    for demand in asked:
        workers = plans[demand.key]
        assert len(workers) == demand.workers if demand.workers != "auto" else len(workers) >= 1
        for worker in workers:
            assert set(worker.cores) <= allowed
            assert len(worker.cores) == len(set(worker.cores)) == worker.threads >= 1
    uses = [cpu for workers in plans.values() for worker in workers for cpu in worker.cores]
    places = describe(topology, plans)["usable"]
    assert set(uses) <= set(places)
    if len(uses) <= len(places) and max(core.node for core in topology.cores) == 0:
        assert len(set(uses)) == len(uses), "no core is shared while there are enough"
    assert plan(topology, asked) == plans


def test_two_cores_two_workers_one_each() -> None:
    plans = plan(machine(1, 1, 2, 1), [Demand("a", 2)])
    assert [(worker.cores, worker.threads) for worker in plans["a"]] == [((0,), 1), ((1,), 1)]


def test_one_worker_gets_all_of_a_small_machine() -> None:
    assert plan(machine(1, 1, 2, 1), [Demand("a", 1)])["a"][0].cores == (0, 1)


def test_one_core_is_kept_from_four_on() -> None:
    topology = machine(1, 1, 4, 1)
    plans = plan(topology, [Demand("a", 3)])
    assert sorted(cpu for worker in plans["a"] for cpu in worker.cores) == [1, 2, 3]
    assert describe(topology, plans)["reserved"] == [0]


def test_physical_cores_before_siblings() -> None:
    plans = plan(machine(1, 1, 4, 2), [Demand("a", 3, 1)])
    assert [worker.cores for worker in plans["a"]] == [(1,), (2,), (3,)]


def test_no_worker_straddles_two_nodes() -> None:
    plans = plan(machine(2, 1, 6, 1), [Demand("a", 3, 4)])
    for worker in plans["a"]:
        assert len({cpu // 6 for cpu in worker.cores}) == 1


def test_quota_limits_what_is_shared_out() -> None:
    plans = plan(machine(1, 4, 4, 1, quota=2), [Demand("a", 2)])
    assert sum(worker.threads for worker in plans["a"]) == 2


def test_ten_endpoints_on_two_cores_share_and_say_so() -> None:
    topology = machine(1, 1, 2, 1)
    plans = plan(topology, [Demand(f"m{i}") for i in range(10)])
    uses = [cpu for workers in plans.values() for worker in workers for cpu in worker.cores]
    assert uses.count(0) == uses.count(1) == 5
    assert "shared by several workers" in describe(topology, plans)["note"]
