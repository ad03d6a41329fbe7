"""A placement for readers: as data and one sentence for `status`, as a drawing for `nbserve doctor`. Pure.

`placement.py` decides what is shown here. Called by gateway/registry (describe) and by the doctor (draw).
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nbserve.gateway.pool.placement import Room, WorkerPlan, room_of
from nbserve.gateway.pool.topology import Core, Topology, format_cpus

__all__ = ["describe", "draw"]

FREE, KEPT, SHARED, ANY = ".", "=", "*", "~"
CORES_A_LINE = 16
"""Physical cores in a line of the drawing; with siblings that is 48 columns, which leaves room for labels in 80."""

Plans = Mapping[str, Sequence[WorkerPlan]]


def describe(topology: Topology, plans: Plans) -> dict[str, Any]:
    """The plan as data for `status`: all CPUs, those for workers, those kept and shared, who is where, a note."""
    room = room_of(topology)
    usable = sorted(core.cpu for cores in room.nodes.values() for core in cores)
    return {
        "cores": [core._asdict() for core in topology.cores],
        "usable": usable,
        "reserved": list(room.kept),
        "shared": _shared(topology, plans),
        "quota": topology.quota,
        "workers": {key: [list(worker.cores) for worker in workers] for key, workers in plans.items()},
        "nodes": {key: [worker.node for worker in workers] for key, workers in plans.items()},
        "note": "; ".join(_notes(topology, room, plans)),
    }


def draw(topology: Topology, plans: Plans) -> str:
    """The cores and who has which: one line an L3 group, one cell a core, one character a hardware thread.

    Letters are workers (models, where there are more workers than letters); the legend says the rest in words.
    """
    room = room_of(topology)
    letters = _letters(plans)
    marks = dict.fromkeys((core.cpu for core in topology.cores), FREE)
    marks |= dict.fromkeys(room.kept, KEPT)
    for key, index, worker in _workers(plans):
        marks |= dict.fromkeys(worker.cores, ANY if topology.is_quota_bound else letters[key, index])
    marks |= dict.fromkeys(_shared(topology, plans), SHARED)
    lines = [*_map(topology.cores, marks), ""]
    for key, index, worker in _workers(plans):
        threads = _count(worker.threads, "thread")
        lines.append(f"{letters[key, index]}  {key} worker {index}: {threads} on {format_cpus(worker.cores)}")
    meanings = {
        SHARED: "shared by several workers",
        ANY: "any worker",
        KEPT: "kept for gateway and notebook",
        FREE: "free",
    }
    for mark, meaning in meanings.items():
        if cpus := [cpu for cpu, used in marks.items() if used == mark]:
            lines.append(f"{mark}  {meaning}: {format_cpus(cpus)}")
    return "\n".join([*lines, "", *_notes(topology, room, plans)])


def _notes(topology: Topology, room: Room, plans: Plans) -> Iterator[str]:
    """What there is to say, most important first."""
    workers = [worker for _, _, worker in _workers(plans)]
    threads = sum(worker.threads for worker in workers)
    crowd = f"{_count(len(workers), 'worker')} with {_count(threads, 'thread')}"
    if topology.is_quota_bound:
        yield f"{crowd} on a quota of {topology.quota:g} CPUs, which gives them no CPUs of their own"
        if threads > max(1.0, topology.quota or 1.0):
            yield "that is more threads than the quota: all are held up when all are busy; use fewer workers or threads"
    else:
        yield f"{crowd} on {_count(sum(map(len, room.nodes.values())), 'CPU')}"
        if shared := _shared(topology, plans):
            verb = "is" if len(shared) == 1 else "are"
            yield f"{_named(shared)} {verb} shared by several workers: use fewer workers or threads"
        if room.kept:
            yield f"{_named(room.kept)} kept for gateway and notebook"
    limit = "one NUMA node has" if len(room.nodes) > 1 else "there are"
    for key, members in plans.items():
        if missing := max((worker.missing for worker in members), default=0):
            given = members[0].threads
            yield f"{key} asked for {given + missing} threads a worker, {given} is the most that {limit}"


def _map(cores: Sequence[Core], marks: Mapping[int, str]) -> Iterator[str]:
    """Node by node, group by group; groups that are too wide go on in the next line."""
    groups: dict[tuple[int, int, int], dict[int, list[int]]] = {}
    for core in cores:
        groups.setdefault((core.node, core.tier, core.l3), {}).setdefault(core.physical, []).append(core.cpu)
    has_tiers = len({core.tier for core in cores}) > 1
    node_now = None
    for (node, tier, _), group in sorted(groups.items()):
        if node != node_now and len({core.node for core in cores}) > 1:
            yield f"NUMA node {node}"
        node_now = node
        cells = [(siblings, "".join(marks[cpu] for cpu in siblings)) for siblings in group.values()]
        speed = ("fast  ", "slower", "slowest")[min(tier, 2)] + " " if has_tiers else ""
        for start in range(0, len(cells), CORES_A_LINE):
            row = cells[start : start + CORES_A_LINE]
            cpus = format_cpus(cpu for siblings, _ in row for cpu in siblings)
            yield f"  {speed}{'L3' if start == 0 else '  '}  {' '.join(mark for _, mark in row)}   {cpus}"


def _letters(plans: Plans) -> dict[tuple[str, int], str]:
    """By worker while there are letters enough, else by model, from the start again where even these are too many."""
    everybody = [(key, index) for key, index, _ in _workers(plans)]
    letters = string.ascii_letters
    if len(everybody) <= len(letters):
        return dict(zip(everybody, letters, strict=False))
    keys = list(plans)
    return {(key, index): letters[keys.index(key) % len(letters)] for key, index in everybody}


def _workers(plans: Plans) -> Iterator[tuple[str, int, WorkerPlan]]:
    for key, members in plans.items():
        for index, worker in enumerate(members):
            yield key, index, worker


def _shared(topology: Topology, plans: Plans) -> list[int]:
    """CPUs that are given to more than one worker; under a quota none are given to anybody."""
    uses = Counter(cpu for _, _, worker in _workers(plans) for cpu in worker.cores)
    return [] if topology.is_quota_bound else sorted(cpu for cpu, count in uses.items() if count > 1)


def _named(cpus: Sequence[int]) -> str:
    return f"CPU{'' if len(cpus) == 1 else 's'} {format_cpus(cpus)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
