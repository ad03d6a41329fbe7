"""Who runs on which cores: a pure plan over the topology and what each model asks for.

Rules, in order: one core is kept for gateway and notebook where there are four or more; physical cores before their SMT
siblings; a worker's cores come from one L3 group and one NUMA node where that fits; more workers than cores share
cores. Sources: torch.backends.xeon.run_cpu (physical first, no straddling), and our own measurement that
threads = cores / workers does nearly all of the work (docs/architecture.md). Called by gateway/registry whenever a
model comes, goes or is scaled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from nbserve.gateway.pool.topology import Core, Topology

__all__ = ["Demand", "WorkerPlan", "describe", "plan"]

RESERVE_FROM = 4
"""With this many usable cores one is kept for gateway and notebook."""


class Demand(NamedTuple):
    """What one model version asks for. threads None = share what there is."""

    key: str
    workers: int | Literal["auto"] = 1
    threads: int | None = None


class WorkerPlan(NamedTuple):
    """Where one worker runs and how many compute threads it uses."""

    cores: tuple[int, ...]
    threads: int


def plan(topology: Topology, demands: Sequence[Demand]) -> dict[str, list[WorkerPlan]]:
    """Cores and threads for every worker of every demand, in demand order. Deterministic."""
    pool = _ordered(topology)
    spare = len(pool)
    counts = _worker_counts(demands, spare)
    total = sum(counts.values())
    plans: dict[str, list[WorkerPlan]] = {}
    taken = 0
    for demand in demands:
        plans[demand.key] = []
        for _ in range(counts[demand.key]):
            threads = min(demand.threads or max(1, spare // total), spare)
            cores = _take(pool, taken, threads)
            taken += threads
            plans[demand.key].append(WorkerPlan(tuple(sorted(core.cpu for core in cores)), threads))
    return plans


def describe(topology: Topology, plans: Mapping[str, Sequence[WorkerPlan]]) -> dict[str, Any]:
    """The plan as data for `status`: which cores are used, which reserved, and whether workers share."""
    pool = [core.cpu for core in _ordered(topology)]
    reserved = sorted({core.cpu for core in topology.cores} - set(pool))
    uses: dict[int, int] = {}
    for workers in plans.values():
        for worker in workers:
            for cpu in worker.cores:
                uses[cpu] = uses.get(cpu, 0) + 1
    shared = sorted(cpu for cpu, count in uses.items() if count > 1)
    workers_in_all = sum(len(workers) for workers in plans.values())
    note = f"{workers_in_all} workers on {len(pool)} cores"
    if shared:
        note += f"; cores {', '.join(map(str, shared))} are shared by several workers"
    if reserved:
        note += f"; {', '.join(map(str, reserved))} kept for gateway and notebook"
    return {
        "usable": sorted(pool),
        "reserved": reserved,
        "shared": shared,
        "quota": topology.quota,
        "workers": {key: [list(worker.cores) for worker in workers] for key, workers in plans.items()},
        "note": note,
    }


def _worker_counts(demands: Sequence[Demand], spare: int) -> dict[str, int]:
    counts = {}
    for demand in demands:
        if demand.workers == "auto":
            counts[demand.key] = max(1, spare // max(1, len(demands)) // (demand.threads or 1))
        else:
            counts[demand.key] = demand.workers
    return counts


def _ordered(topology: Topology) -> list[Core]:
    """Cores to share out, best first: first threads of physical cores, grouped by node and L3; then siblings."""
    ordered = sorted(topology.cores, key=lambda core: (core.sibling, core.node, core.l3, core.cpu))
    count = topology.usable
    if count >= RESERVE_FROM:
        # cpu 0 takes most interrupts: it is the one to keep where it is ours to keep
        ordered.sort(key=lambda core: (core.cpu == min(c.cpu for c in topology.cores), core.sibling))
        count -= 1
    return ordered[:count]


def _take(pool: list[Core], start: int, count: int) -> list[Core]:
    """`count` cores from `start` on, wrapping; moved ahead to the next node where they would straddle two."""
    size = len(pool)
    for shift in range(size):
        cores = [pool[(start + shift + i) % size] for i in range(count)]
        if len({core.node for core in cores}) == 1:
            return cores
    return [pool[(start + i) % size] for i in range(count)]
