"""What the machine offers: usable cores, how they hang together, and the cgroup's limits.

Reads /sys, /proc and the cgroup files (v2 and v1) under a given root, so that tests can hand in recorded trees.
Called by gateway/registry before it plans; `placement.py` decides.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

import psutil

__all__ = ["Core", "Memory", "Topology", "read_memory", "read_topology"]


class Core(NamedTuple):
    """One logical CPU. `physical` and `l3` are opaque group numbers; `sibling` is its rank within its physical core."""

    cpu: int
    physical: int
    sibling: int
    l3: int
    node: int


class Topology(NamedTuple):
    """Usable CPUs and how many of them may be busy at once (a quota of 2.5 CPUs counts as 2)."""

    cores: tuple[Core, ...]
    quota: int

    @property
    def usable(self) -> int:
        """How many cores there are to share out."""
        return max(1, min(len(self.cores), self.quota))


class Memory(NamedTuple):
    """Bytes, under the cgroup's limit where there is one."""

    total_bytes: int
    available_bytes: int
    oom_kills: int


def read_topology(root: Path = Path("/"), allowed: frozenset[int] | None = None) -> Topology:
    """Topology of this process: allowed CPUs, quotas, sibling, L3 and node groups. Missing files mean "no groups"."""
    if allowed is None:
        has_affinity = hasattr(os, "sched_getaffinity")
        allowed = frozenset(os.sched_getaffinity(0) if has_affinity else range(os.cpu_count() or 1))
    seen_of: dict[tuple[int, int], int] = {}
    cores = []
    for cpu in sorted(allowed):
        base = root / f"sys/devices/system/cpu/cpu{cpu}"
        package = _int(base / "topology/physical_package_id", 0)
        physical = package * 100_000 + _int(base / "topology/core_id", cpu)
        rank = seen_of.get((package, physical), 0)
        seen_of[package, physical] = rank + 1
        cores.append(Core(cpu, physical, rank, _first(base / "cache/index3/shared_cpu_list", package), _node(base)))
    return Topology(tuple(cores), _quota(root, len(cores)))


def read_memory(root: Path = Path("/")) -> Memory:
    """Memory that this process and its children may use, and how often the OOM killer struck (here, else anywhere)."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    group = root / "sys/fs/cgroup"
    limit, used = _int(group / "memory.max", 0), _int(group / "memory.current", 0)
    if not limit:  # cgroup v1
        limit = _int(group / "memory/memory.limit_in_bytes", 0)
        used = _int(group / "memory/memory.usage_in_bytes", 0)
    if 0 < limit < total:
        total, available = limit, min(available, max(0, limit - used))
    kills = 0
    for line in (_text(group / "memory.events") or _text(root / "proc/vmstat")).splitlines():
        if line.startswith("oom_kill "):
            kills = int(line.split()[1])
    return Memory(total, available, kills)


def _quota(root: Path, count: int) -> int:
    group = root / "sys/fs/cgroup"
    words = _text(group / "cpu.max").split()
    if len(words) == 2 and words[0] != "max":
        return max(1, math.floor(int(words[0]) / int(words[1])))
    quota = _int(group / "cpu/cpu.cfs_quota_us", -1)
    period = _int(group / "cpu/cpu.cfs_period_us", 100_000)
    return max(1, quota // period) if quota > 0 else count


def _node(base: Path) -> int:
    for entry in base.glob("node[0-9]*"):
        return int(entry.name.removeprefix("node"))
    return 0


def _first(path: Path, default: int) -> int:
    """First number of a CPU list: names the group that shares the cache."""
    head = _text(path).replace("-", ",").split(",")[0].strip()
    return int(head) if head.isdigit() else default


def _int(path: Path, default: int) -> int:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else default


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
