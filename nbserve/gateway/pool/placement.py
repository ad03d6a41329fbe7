"""Who runs on which cores: a pure plan over the topology and what each model asks for.

Called by gateway/registry whenever a model comes, goes or is scaled; `floorplan.py` says and draws what came out. The
rules and their reasons are in docs/placement.md. Sources: torch.backends.xeon.run_cpu (physical cores first, no
instance across NUMA nodes), and our measurement that threads = cores / workers does nearly all of the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from nbserve.gateway.pool.topology import Core, Topology

__all__ = ["Demand", "Room", "WorkerPlan", "plan", "room_of", "thread_environment"]

RESERVE_FROM = 4
"""With this many usable physical cores one is kept for gateway and notebook."""


class Demand(NamedTuple):
    """What one model version asks for. threads None = share what there is.

    workers "auto" = as many as there are cores for.
    """

    key: str
    workers: int | Literal["auto"] = 1
    threads: int | None = None


class WorkerPlan(NamedTuple):
    """Where one worker runs and how many compute threads it uses. All its cores are of one NUMA node.

    `missing`: threads that were asked for beyond these, but that no node has room for.
    """

    cores: tuple[int, ...]
    threads: int
    node: int = 0
    missing: int = 0


class Room(NamedTuple):
    """What workers may use. `kept`: CPUs left to gateway and notebook. `budget`: threads that default shares fill."""

    nodes: Mapping[int, Sequence[Core]]
    kept: tuple[int, ...]
    budget: Mapping[int, int]
    most_threads: int


class _Ask(NamedTuple):
    """One worker that wants a place; `before`: the cores it runs on now."""

    key: str
    threads: int
    missing: int
    is_flexible: bool
    before: tuple[int, ...]


_Places = list[tuple[Core, ...]]


def plan(
    topology: Topology,
    demands: Sequence[Demand],
    running: Mapping[str, Sequence[WorkerPlan]] = MappingProxyType({}),
    others: Sequence[int] = (),
) -> dict[str, list[WorkerPlan]]:
    """Cores and threads for every worker of every demand. Deterministic.

    `running` says how the workers of a key run now, in order. They stay where they are unless moving makes the plan
    better: fewer CPUs that workers share, fewer cores with both siblings busy, faster cores, fewer L3 groups.
    `others` are the CPUs of workers that are not planned here, those of other gateways: one number for each use.
    """
    room = room_of(topology)
    asks = _asks(room, demands, running)
    if topology.is_quota_bound:
        places = _by_node(room, asks)
    else:
        known = {core.cpu: core for cores in room.nodes.values() for core in cores}
        places = _by_core(room, asks, tuple(known[cpu] for cpu in others if cpu in known))
    plans: dict[str, list[WorkerPlan]] = {demand.key: [] for demand in demands}
    for ask, cores in zip(asks, places, strict=True):
        cpus = tuple(sorted(core.cpu for core in cores))
        plans[ask.key].append(WorkerPlan(cpus, ask.threads, cores[0].node, ask.missing))
    return plans


def room_of(topology: Topology) -> Room:
    """What of the machine is for workers: all but one core where there are `RESERVE_FROM`.

    That is the slowest kind of core if there are several, then the lowest-numbered: CPU 0 takes most interrupts.
    """
    physical = {core.physical for core in topology.cores}
    is_reserving = min(len(physical), topology.usable) >= RESERVE_FROM
    kept_core = min(topology.cores, key=lambda core: (-core.tier, core.cpu)).physical
    is_keeping = is_reserving and not topology.is_quota_bound  # of a quota it is time that is kept, not a core
    nodes: dict[int, list[Core]] = {}
    for core in topology.cores:
        if not (is_keeping and core.physical == kept_core):
            nodes.setdefault(core.node, []).append(core)
    best = min(core.tier for cores in nodes.values() for core in cores)
    budget = {node: sum(c.sibling == 0 and c.tier == best for c in cores) for node, cores in nodes.items()}
    most = max(map(len, nodes.values()))
    if topology.is_quota_bound:
        budget = {0: max(1, min(topology.usable, sum(budget.values())) - is_reserving)}
        most = min(most, topology.usable)
    kept = tuple(c.cpu for c in topology.cores if is_keeping and c.physical == kept_core)
    return Room(dict(sorted(nodes.items())), kept, budget, most)


def thread_environment(threads: int) -> dict[str, str]:
    """Environment by which the maths libraries of a worker start this many threads; read when each is loaded.

    OMP_WAIT_POLICY is PASSIVE for all: threads of libgomp that spin at barriers make batches 5 to 30 times slower where
    cores are shared (measured: docs/placement.md), and whether they are changes while a worker runs. OMP_PROC_BIND is
    off, whatever the gateway inherited: bound threads would not follow when the worker is moved.
    """
    names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
    return {f"{name}_NUM_THREADS": str(threads) for name in names} | {
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_PROC_BIND": "false",
        "TOKENIZERS_PARALLELISM": "false",
    }


# -- how many threads --------------------------------------------------------------------------------------------------


def _asks(room: Room, demands: Sequence[Demand], running: Mapping[str, Sequence[WorkerPlan]]) -> list[_Ask]:
    counts = _worker_counts(room, demands)
    share = _share(room, demands, counts)
    asks = []
    for demand in demands:
        asked = demand.threads or share
        threads = min(asked, room.most_threads)
        before = [worker.cores for worker in running.get(demand.key, ())][: counts[demand.key]]
        before += [()] * (counts[demand.key] - len(before))
        asks += [_Ask(demand.key, threads, asked - threads, demand.threads is None, cores) for cores in before]
    return asks


def _worker_counts(room: Room, demands: Sequence[Demand]) -> dict[str, int]:
    """Workers by key. Those of "auto" share what the others leave."""
    taken = sum(demand.workers * (demand.threads or 1) for demand in demands if demand.workers != "auto")
    autos = sum(demand.workers == "auto" for demand in demands)
    share = max(0, sum(room.budget.values()) - taken) // max(1, autos)
    return {
        demand.key: max(1, share // (demand.threads or 1)) if demand.workers == "auto" else demand.workers
        for demand in demands
    }


def _share(room: Room, demands: Sequence[Demand], counts: Mapping[str, int]) -> int:
    """Threads of each worker that named no number: as many as all of these can have, each within one node."""
    free = dict(room.budget)
    fixed = [min(d.threads, room.most_threads) for d in demands if d.threads is not None for _ in range(counts[d.key])]
    for threads in sorted(fixed, reverse=True):
        fitting = [node for node in free if free[node] >= threads]
        node = min(fitting, key=free.__getitem__) if fitting else max(free, key=free.__getitem__)
        free[node] = max(0, free[node] - threads)
    flexible = sum(counts[demand.key] for demand in demands if demand.threads is None)
    largest = min(max(free.values()), room.most_threads)
    fits = (threads for threads in range(largest, 1, -1) if sum(n // threads for n in free.values()) >= flexible)
    return next(fits, 1)


# -- which cores -------------------------------------------------------------------------------------------------------


def _by_node(room: Room, asks: Sequence[_Ask]) -> _Places:
    """Under a quota: any CPU of one node. Others use the same CPUs unseen, and all would crowd on the first ones."""
    load: Counter[int] = Counter()
    places = []
    for ask in asks:
        nodes = [node for node, cores in room.nodes.items() if len(cores) >= ask.threads]
        here = [node for node in nodes if any(core.cpu in ask.before for core in room.nodes[node])]
        node = (here or sorted(nodes, key=lambda node: load[node]))[0]
        load[node] += ask.threads
        places.append(tuple(room.nodes[node]))
    return places


def _by_core(room: Room, asks: Sequence[_Ask], others: Sequence[Core]) -> _Places:
    """Cores of their own where there are enough. Running workers move only where that pays.

    They hold on to their cores; then those whose move pays move, one by one. All are seated anew only where they would
    share less. (Against always taking the better of both plans: 40 % fewer moves over 400 random lives of five models,
    the same sharing, and 2 % more L3 groups in use.)
    """
    fresh = _Seating(room, others).settle([ask._replace(before=()) for ask in asks])
    stable = _Seating(room, others).settle(asks) if any(ask.before for ask in asks) else fresh
    return fresh if _cost(fresh, others)[:2] < _cost(stable, others)[:2] else stable


class _Seating:
    """Cores given out so far, and the choice of the next ones."""

    def __init__(self, room: Room, others: Sequence[Core]) -> None:
        self._nodes = room.nodes
        self._others = others
        self._core = {core.cpu: core for cores in room.nodes.values() for core in cores}
        self._uses: Counter[int] = Counter()
        self._load: Counter[int] = Counter()
        self._use(others)

    def settle(self, asks: Sequence[_Ask]) -> _Places:
        """A place for everybody; running workers hold on to their cores first."""
        order = sorted(range(len(asks)), key=lambda i: (asks[i].is_flexible, -asks[i].threads, i))
        held = {i: [*self._use(self._hold(asks[i]))] for i in order}
        for i in order:
            held[i] += self._use(self._add(asks[i].threads, held[i]))
        return self._improved(asks, [tuple(held[i]) for i in range(len(asks))])

    def _improved(self, asks: Sequence[_Ask], places: _Places) -> _Places:
        """Where one worker's move alone makes the plan better it moves, until there is no such worker."""
        before, cost = None, _cost(places, self._others)
        while before != cost:
            before = cost
            for i, ask in enumerate(asks):
                self._use(places[i], -1)
                other = [*places[:i], tuple(self._add(ask.threads, [])), *places[i + 1 :]]
                if (price := _cost(other, self._others)) < cost:
                    places, cost = other, price
                self._use(places[i])
        return places

    def _use(self, cores: Sequence[Core], change: int = 1) -> Sequence[Core]:
        for core in cores:
            self._uses[core.cpu] += change
            self._load[core.physical] += change
        return cores

    def _hold(self, ask: _Ask) -> list[Core]:
        """What a running worker keeps: of the node where it has most, the best of its cores."""
        mine = [self._core[cpu] for cpu in ask.before if cpu in self._core]
        mine = [core for core in mine if len(self._nodes[core.node]) >= ask.threads]
        if not mine:
            return []
        [(node, _)] = Counter(core.node for core in mine).most_common(1)
        return self._best([core for core in mine if core.node == node], ask.threads, [])

    def _add(self, threads: int, held: list[Core]) -> list[Core]:
        """The cores still missing, on the node of those held, else where they are best and least room is left over."""
        nodes = [held[0].node] if held else [node for node, cores in self._nodes.items() if len(cores) >= threads]
        choices = [self._best(self._nodes[node], threads - len(held), held) for node in nodes]
        return min(choices, key=self._price)

    def _price(self, cores: list[Core]) -> tuple[int, int, int, int]:
        if not cores:
            return 0, 0, 0, 0
        uses = sum(self._uses[core.cpu] for core in cores)
        load = sum(self._load[core.physical] for core in cores) + len(cores) - len({core.physical for core in cores})
        left = sum(not self._load[core.physical] for core in self._nodes[cores[0].node]) - len(cores)
        return uses, load, sum(core.tier for core in cores), left

    def _best(self, cores: Sequence[Core], count: int, held: Sequence[Core]) -> list[Core]:
        """Idle CPUs before shared ones, idle physical cores before siblings, faster before slower, L3 groups whole."""
        classes: dict[tuple[int, int, int], list[Core]] = {}
        ahead: Counter[int] = Counter()
        taken = {core.cpu for core in held}
        for core in sorted(cores, key=lambda core: (self._uses[core.cpu], core.sibling, core.cpu)):
            if core.cpu not in taken:
                load = self._load[core.physical] + ahead[core.physical]
                ahead[core.physical] += 1
                classes.setdefault((self._uses[core.cpu], load, core.tier), []).append(core)
        chosen: list[Core] = []
        for key in sorted(classes):
            if len(chosen) < count:
                near = {core.l3 for core in (*held, *chosen)}
                chosen += _together(classes[key], count - len(chosen), near)
        return chosen


def _together(cores: Sequence[Core], count: int, near: set[int]) -> list[Core]:
    """`count` of these equally good cores: near ones first, then out of as few L3 groups as may be (best fit)."""
    groups: dict[int, list[Core]] = {}
    for core in cores:
        groups.setdefault(core.l3, []).append(core)
    taken: list[Core] = []
    while groups and len(taken) < count:
        need = count - len(taken)
        sizes = {l3: len(group) for l3, group in groups.items()}
        l3 = min(sizes, key=lambda l3: (l3 not in near, sizes[l3] < need, abs(sizes[l3] - need), groups[l3][0].cpu))
        taken += groups.pop(l3)[:need]
    return taken


def _cost(places: _Places, others: Sequence[Core]) -> tuple[int, int, int, int]:
    """What a plan is measured by, most important first; squares, so that even sharing is cheapest."""
    uses = Counter(core.cpu for cores in (*places, others) for core in cores)
    loads = Counter(core.physical for cores in (*places, others) for core in cores)
    return (
        sum(count * (count - 1) for count in uses.values()),
        sum(count * (count - 1) for count in loads.values()),
        sum(core.tier for cores in places for core in cores),
        sum(len({core.l3 for core in cores}) for cores in places),
    )
