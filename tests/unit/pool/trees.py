"""Machines as files: /sys and /proc trees in the form in which Linux shows them, for read_topology(root=...)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from nbserve.gateway.pool.topology import format_cpus

CPU = "sys/devices/system/cpu"


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


def cpus(numbers: Iterable[int]) -> str:
    return format_cpus(numbers).replace(" ", "")


def core(root: Path, siblings: Sequence[int], *, core_id: int, package: int = 0, node: int | None = 0) -> None:
    """One physical core: topology files of each of its CPUs."""
    for cpu in siblings:
        base = f"{CPU}/cpu{cpu}"
        write(root, f"{base}/topology/physical_package_id", str(package))
        write(root, f"{base}/topology/core_id", str(core_id))
        write(root, f"{base}/topology/core_cpus_list", cpus(siblings))
        write(root, f"{base}/topology/thread_siblings_list", cpus(siblings))
        if node is not None:
            (root / base / f"node{node}").mkdir()


def caches(root: Path, l3: Iterable[int], own: Iterable[Iterable[int]]) -> None:
    """index0-2 are those of each core (`own`), index3 is shared by the whole group."""
    group = sorted(l3)
    for sharers in own:
        shared = sorted(sharers)
        for cpu in shared:
            for index, level in enumerate((1, 1, 2)):
                write(root, f"{CPU}/cpu{cpu}/cache/index{index}/level", str(level))
                write(root, f"{CPU}/cpu{cpu}/cache/index{index}/shared_cpu_list", cpus(shared))
            write(root, f"{CPU}/cpu{cpu}/cache/index3/level", "3")
            write(root, f"{CPU}/cpu{cpu}/cache/index3/shared_cpu_list", cpus(group))


def process(root: Path, allowed: str, groups: str = "0::/", mounts: Sequence[str] = ()) -> None:
    """What /proc says of the process that looks: affinity, control groups, mounts."""
    write(root, "proc/self/status", f"Name:\tpython\nCpus_allowed_list:\t{allowed}\nMems_allowed:\t1")
    write(root, "proc/self/cgroup", groups)
    plain = ["22 27 0:21 / /proc rw,nosuid - proc proc rw", "25 27 0:24 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755"]
    write(root, "proc/self/mountinfo", "\n".join([*plain, *(mounts or [V2_MOUNT])]))


V2_MOUNT = "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"


def v1_mount(controllers: str, mount_root: str = "/") -> str:
    return f"36 25 0:31 {mount_root} /sys/fs/cgroup/{controllers} ro,nosuid - cgroup cgroup rw,{controllers}"


# -- machines ----------------------------------------------------------------------------------------------------------


def laptop(root: Path, *, kinds: str = "pmu") -> None:
    """4 performance cores with two threads (0-7), 8 efficiency cores (8-15) in two clusters, one L3: a Core i7-1260P.

    kinds: how its two kinds of core show: "pmu" (cpu_core and cpu_atom), "capacity" or "frequency".
    """
    fast, slow = [(2 * i, 2 * i + 1) for i in range(4)], [(cpu,) for cpu in range(8, 16)]
    for index, siblings in enumerate(fast):
        core(root, siblings, core_id=4 * index)
    for index, siblings in enumerate(slow):
        core(root, siblings, core_id=16 + index)
    caches(root, range(16), [*fast, range(8, 12), range(12, 16)])
    if kinds == "pmu":
        write(root, "sys/devices/cpu_core/cpus", "0-7")
        write(root, "sys/devices/cpu_atom/cpus", "8-15")
    for cpu in range(16):
        if kinds == "capacity":
            write(root, f"{CPU}/cpu{cpu}/cpu_capacity", str((1024, 1009)[cpu % 4 > 1] if cpu < 8 else 623))
        if kinds == "frequency":
            write(root, f"{CPU}/cpu{cpu}/cpufreq/cpuinfo_max_freq", "4700000" if cpu < 8 else "3400000")
    write(root, f"{CPU}/online", "0-15")
    process(root, "0-15")


def two_sockets(root: Path) -> None:
    """2 x 28 cores with SMT: a pair of Xeon Platinum 8280. Siblings are 56 apart, each socket is a node with one L3."""
    for socket in range(2):
        pairs = [(socket * 28 + i, 56 + socket * 28 + i) for i in range(28)]
        for index, siblings in enumerate(pairs):
            core(root, siblings, core_id=index, package=socket, node=socket)
        caches(root, [cpu for pair in pairs for cpu in pair], pairs)
    write(root, f"{CPU}/online", "0-111")
    process(root, "0-111")


def epyc(root: Path) -> None:
    """64 cores with SMT in 16 L3 groups of four: an EPYC 7742 as one node. Siblings are 64 apart."""
    for group in range(16):
        pairs = [(4 * group + i, 64 + 4 * group + i) for i in range(4)]
        for index, siblings in enumerate(pairs):
            core(root, siblings, core_id=4 * group + index)
        caches(root, [cpu for pair in pairs for cpu in pair], pairs)
    write(root, f"{CPU}/online", "0-127")
    process(root, "0-127")


def plain(root: Path, count: int) -> None:
    """A virtual machine that shows no caches, no siblings, no nodes: only package and core ids."""
    for cpu in range(count):
        write(root, f"{CPU}/cpu{cpu}/topology/physical_package_id", "0")
        write(root, f"{CPU}/cpu{cpu}/topology/core_id", str(cpu))
    write(root, f"{CPU}/online", f"0-{count - 1}" if count > 1 else "0")
    process(root, f"0-{count - 1}" if count > 1 else "0")


def arm64(root: Path) -> None:
    """4 cores of an arm64 board: no thread siblings, no core ids, no L3, all of one capacity."""
    for cpu in range(4):
        write(root, f"{CPU}/cpu{cpu}/topology/physical_package_id", "-1")
        write(root, f"{CPU}/cpu{cpu}/topology/core_id", "-1")
        write(root, f"{CPU}/cpu{cpu}/cpu_capacity", "1024")
        for index, level in enumerate((1, 1, 2)):
            write(root, f"{CPU}/cpu{cpu}/cache/index{index}/level", str(level))
            write(root, f"{CPU}/cpu{cpu}/cache/index{index}/shared_cpu_list", "0-3" if level == 2 else str(cpu))
    write(root, f"{CPU}/online", "0-3")
    process(root, "0-3")
