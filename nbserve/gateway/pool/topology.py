"""What the machine offers: usable CPUs, how they hang together, how fast they are, and the limits of control groups.

Reads /sys and /proc under a given root, so that recorded trees test it; control groups are read by cgroup.py. Called by
the gateway when it starts and by `nbserve doctor`; `placement.py` decides.
Source of the files: Documentation/ABI/stable/sysfs-devices-system-cpu and testing/sysfs-devices-system-cpu of the Linux
kernel; /sys/devices/cpu_core and cpu_atom are the performance counters of Intel's two kinds of core.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

from nbserve.gateway.pool import cgroup
from nbserve.gateway.pool.cgroup import cpu_list, read_text

__all__ = ["Core", "Memory", "Topology", "format_cpus", "read_memory", "read_topology"]

CPU = "sys/devices/system/cpu"
SLOWER_TIER = 0.8
"""A core with less than this part of the faster tier's capacity is of a slower tier. The two kinds of core of an Intel
i9-13900K are rated 5.8 and 4.3 GHz (0.74); equal cores, of which some may clock higher, lie within a tenth."""
KINDS = ("cpu_core", "cpu_atom", "cpu_lowpower")
"""Intel's kinds of core, fastest first."""


class Core(NamedTuple):
    """One logical CPU. `physical` and `l3` are opaque group numbers; `sibling` is its rank within its physical core.

    `tier` is 0 for the fastest kind of core here, 1 for the next slower one (efficiency cores), and so on.
    """

    cpu: int
    physical: int
    sibling: int
    l3: int
    node: int
    tier: int = 0


class Topology(NamedTuple):
    """CPUs that this process may use, and how many of them may be busy at once by quota (2.5, say; None = all)."""

    cores: tuple[Core, ...]
    quota: float | None = None

    @property
    def usable(self) -> int:
        """How many logical CPUs can be busy at once: whole ones, at least 1."""
        return max(1, min(len(self.cores), math.floor(self.quota if self.quota is not None else len(self.cores))))

    @property
    def is_quota_bound(self) -> bool:
        """Whether the quota is less than the CPUs: time is limited, but not to CPUs of our own."""
        return self.quota is not None and self.quota < len(self.cores)


class Memory(NamedTuple):
    """Bytes, under the cgroup's limit where there is one."""

    total_bytes: int
    available_bytes: int
    oom_kills: int


def read_topology(root: Path = Path("/"), allowed: frozenset[int] | None = None) -> Topology:
    """Topology of this process: allowed CPUs that are online, quota, cores, L3 groups, nodes, tiers.

    `allowed` defaults to the process's affinity. Files that are missing mean one CPU a core, one L3 a package, one
    node, one tier.
    """
    cpus = _cpus(root, allowed if allowed is not None else _affinity(root))
    tiers = _tiers(root, cpus)
    ranks: dict[int, int] = {}
    cores = []
    for cpu in sorted(cpus):
        base = root / CPU / f"cpu{cpu}"
        physical = _physical(base, cpu)
        rank = ranks[physical] = ranks.get(physical, -1) + 1
        cores.append(Core(cpu, physical, rank, _l3(base), _node(base), tiers.get(cpu, 0)))
    return Topology(tuple(cores), cgroup.quota(root))


def read_memory(root: Path = Path("/")) -> Memory:
    """Memory that this process and its children may use, and how often the OOM killer struck (here, else anywhere)."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    group = cgroup.memory(root)
    if group is not None:
        total, available = min(total, group.limit_bytes), min(available, group.available_bytes)
    return Memory(total, available, cgroup.oom_kills(root))


def format_cpus(cpus: Iterable[int]) -> str:
    """The kernel's list format with spaces: 0, 1, 2, 5 -> "0-2, 5"."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1][1:] = [cpu]
        else:
            runs.append([cpu])
    return ", ".join("-".join(map(str, run)) for run in runs)


def _affinity(root: Path) -> frozenset[int]:
    """Of this process; in a recorded tree of the process that it was recorded from."""
    if root == Path("/"):
        has_affinity = hasattr(os, "sched_getaffinity")
        return frozenset(os.sched_getaffinity(0) if has_affinity else range(os.cpu_count() or 1))
    for line in read_text(root / "proc/self/status").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            return cpu_list(line.partition(":")[2])
    return cpu_list(read_text(root / CPU / "online")) or frozenset({0})


def _cpus(root: Path, allowed: frozenset[int]) -> frozenset[int]:
    """Those that are also online and in the CPU set; a list that shares none with the rest is of another world."""
    for limit in (cpu_list(read_text(root / CPU / "online")), cgroup.cpus(root)):
        allowed = (allowed & limit if limit else None) or allowed
    return allowed


def _physical(base: Path, cpu: int) -> int:
    """The physical core, named by its lowest CPU where siblings are listed, else by package and core id."""
    for name in ("core_cpus_list", "thread_siblings_list"):
        if siblings := cpu_list(read_text(base / "topology" / name)):
            return min(siblings)
    core = _int(base / "topology/core_id", -1)
    if core < 0:
        return cpu
    return -1 - core - 100_000 * max(0, _int(base / "topology/physical_package_id", 0))


def _l3(base: Path) -> int:
    """The group that shares an L3 cache, named by its lowest CPU; the package where no cache is listed."""
    for index in base.glob("cache/index[0-9]*"):
        if _int(index / "level", 3 if index.name == "index3" else 0) == 3:
            return min(cpu_list(read_text(index / "shared_cpu_list")), default=-1)
    return -1 - max(0, _int(base / "topology/physical_package_id", 0))


def _node(base: Path) -> int:
    return min((int(entry.name.removeprefix("node")) for entry in base.glob("node[0-9]*")), default=0)


def _tiers(root: Path, cpus: frozenset[int]) -> dict[int, int]:
    """CPU -> tier, by Intel's lists, else by the scheduler's capacity, else by the highest clock."""
    kinds = [cpu_list(read_text(root / f"sys/devices/{kind}/cpus")) & cpus for kind in KINDS]
    if frozenset().union(*kinds) == cpus:
        present = [kind for kind in kinds if kind]
        return {cpu: tier for tier, kind in enumerate(present) for cpu in kind}
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        speeds = {cpu: _int(root / CPU / f"cpu{cpu}" / name, 0) for cpu in cpus}
        if all(speeds.values()):
            return _by_speed(speeds)
    return {}


def _by_speed(speeds: Mapping[int, int]) -> dict[int, int]:
    tiers: dict[int, int] = {}
    tier, head = 0, max(speeds.values())
    for cpu, speed in sorted(speeds.items(), key=lambda item: -item[1]):
        if speed < SLOWER_TIER * head:
            tier, head = tier + 1, speed
        tiers[cpu] = tier
    return tiers


def _int(path: Path, default: int) -> int:
    text = read_text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else default
