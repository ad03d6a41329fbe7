"""Topology from recorded trees: cores, groups, kinds, quotas of both cgroup versions, nesting, missing files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from nbserve.gateway.pool.cgroup import cpu_list
from nbserve.gateway.pool.topology import Core, format_cpus, read_memory, read_topology
from tests.unit.pool import trees
from tests.unit.pool.trees import CPU, V2_MOUNT, process, v1_mount, write


@pytest.mark.parametrize("kinds", ["pmu", "capacity", "frequency"])
def test_laptop_with_two_kinds_of_core(tmp_path: Path, kinds: str) -> None:
    trees.laptop(tmp_path, kinds=kinds)
    cores = read_topology(tmp_path).cores
    assert [core.tier for core in cores] == [0] * 8 + [1] * 8
    assert [core.sibling for core in cores] == [0, 1] * 4 + [0] * 8
    assert len({core.physical for core in cores}) == 12
    assert {core.l3 for core in cores} == {0}


def test_only_one_kind_of_core_is_allowed(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    assert {core.tier for core in read_topology(tmp_path, frozenset({8, 9})).cores} == {0}


def test_two_sockets_with_siblings(tmp_path: Path) -> None:
    trees.two_sockets(tmp_path)
    cores = read_topology(tmp_path).cores
    assert len(cores) == 112
    assert Counter((core.node, core.sibling) for core in cores) == {(n, s): 28 for n in (0, 1) for s in (0, 1)}
    assert len({core.physical for core in cores}) == 56
    assert {(core.node, core.l3) for core in cores} == {(0, 0), (1, 28)}
    assert cores[28 + 56] == Core(cpu=84, physical=28, sibling=1, l3=28, node=1)


def test_sixteen_l3_groups(tmp_path: Path) -> None:
    trees.epyc(tmp_path)
    cores = read_topology(tmp_path).cores
    assert Counter(core.l3 for core in cores) == dict.fromkeys(range(0, 64, 4), 8)
    assert {core.l3 for core in cores if core.cpu in (4, 7, 68, 71)} == {4}


def test_one_core(tmp_path: Path) -> None:
    trees.plain(tmp_path, 1)
    topology = read_topology(tmp_path)
    assert [core.cpu for core in topology.cores] == [0]
    assert topology.usable == 1


def test_virtual_machine_without_cache_information(tmp_path: Path) -> None:
    trees.plain(tmp_path, 8)
    cores = read_topology(tmp_path).cores
    assert len({core.physical for core in cores}) == 8
    assert len({core.l3 for core in cores}) == 1
    assert {(core.sibling, core.node, core.tier) for core in cores} == {(0, 0, 0)}


def test_siblings_by_core_id_where_they_are_not_listed(tmp_path: Path) -> None:
    trees.plain(tmp_path, 8)
    for cpu in range(8):
        write(tmp_path, f"{CPU}/cpu{cpu}/topology/physical_package_id", str(cpu % 4 // 2))
        write(tmp_path, f"{CPU}/cpu{cpu}/topology/core_id", str(cpu % 2))
    cores = read_topology(tmp_path).cores
    assert [core.sibling for core in cores] == [0] * 4 + [1] * 4
    assert len({core.physical for core in cores}) == 4
    assert len({core.l3 for core in cores}) == 2, "one a package where no cache is listed"


def test_arm64_without_siblings_or_core_ids(tmp_path: Path) -> None:
    trees.arm64(tmp_path)
    cores = read_topology(tmp_path).cores
    assert len({core.physical for core in cores}) == 4
    assert {(core.sibling, core.tier) for core in cores} == {(0, 0)}
    assert len({core.l3 for core in cores}) == 1, "L2 is not L3"


def test_arm64_with_three_kinds_of_core(tmp_path: Path) -> None:
    trees.arm64(tmp_path)
    for cpu, capacity in enumerate((1024, 740, 700, 290)):
        write(tmp_path, f"{CPU}/cpu{cpu}/cpu_capacity", str(capacity))
    assert [core.tier for core in read_topology(tmp_path).cores] == [0, 1, 1, 2]


def test_offline_cpus_are_not_there(tmp_path: Path) -> None:
    """Taken offline by hand: still in the mask of the process, gone from the list of their sibling."""
    trees.laptop(tmp_path)
    write(tmp_path, f"{CPU}/online", "0,2,4,6,8-15")
    for cpu in (0, 2, 4, 6):
        write(tmp_path, f"{CPU}/cpu{cpu}/topology/core_cpus_list", str(cpu))
    cores = read_topology(tmp_path).cores
    assert [core.cpu for core in cores] == [0, 2, 4, 6, *range(8, 16)]
    assert {core.sibling for core in cores} == {0}


def test_affinity_may_hide_first_siblings(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    process(tmp_path, "1,3,8-9")
    assert [(core.cpu, core.sibling) for core in read_topology(tmp_path).cores] == [(1, 0), (3, 0), (8, 0), (9, 0)]


def test_nothing_known_is_still_a_topology(tmp_path: Path) -> None:
    topology = read_topology(tmp_path, frozenset({3, 5}))
    assert [core.cpu for core in topology.cores] == [3, 5]
    assert [core.sibling for core in topology.cores] == [0, 0]
    assert [core.cpu for core in read_topology(tmp_path).cores] == [0]


# -- control groups ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "quota", "usable"),
    [("250000 100000", 2.5, 2), ("50000 100000", 0.5, 1), ("max 100000", None, 8), ("1000000 100000", 10.0, 8)],
)
def test_quota_of_cgroup_v2(tmp_path: Path, text: str, quota: float | None, usable: int) -> None:
    trees.plain(tmp_path, 8)
    write(tmp_path, "sys/fs/cgroup/cpu.max", text)
    topology = read_topology(tmp_path)
    assert (topology.quota, topology.usable) == (quota, usable)
    assert topology.is_quota_bound == (usable < 8)


def test_a_parent_may_limit_more_than_the_own_group(tmp_path: Path) -> None:
    trees.plain(tmp_path, 8)
    process(tmp_path, "0-7", groups="0::/user.slice/user-1000.slice/jupyter.service")
    write(tmp_path, "sys/fs/cgroup/user.slice/user-1000.slice/jupyter.service/cpu.max", "600000 100000")
    write(tmp_path, "sys/fs/cgroup/user.slice/user-1000.slice/cpu.max", "150000 50000")
    write(tmp_path, "sys/fs/cgroup/user.slice/cpu.max", "max 100000")
    write(tmp_path, "sys/fs/cgroup/another.slice/cpu.max", "100000 100000")
    assert read_topology(tmp_path).quota == 3.0


def test_cpu_set_of_cgroup_v2(tmp_path: Path) -> None:
    """The innermost group that has the controller says it; the recorded mask is of before."""
    trees.plain(tmp_path, 8)
    process(tmp_path, "0-7", groups="0::/pod/container")
    write(tmp_path, "sys/fs/cgroup/pod/cpuset.cpus.effective", "2-5")
    write(tmp_path, "sys/fs/cgroup/cpuset.cpus.effective", "0-7")
    assert [core.cpu for core in read_topology(tmp_path).cores] == [2, 3, 4, 5]


def test_a_group_inside_of_the_one_that_is_mounted(tmp_path: Path) -> None:
    """A container that made a group of its own, and sees the host's path of it."""
    trees.plain(tmp_path, 8)
    process(tmp_path, "0-7", "0::/docker/0abc/notebook", [V2_MOUNT.replace(" / /sys", " /docker/0abc /sys")])
    write(tmp_path, "sys/fs/cgroup/cpu.max", "400000 100000")
    write(tmp_path, "sys/fs/cgroup/notebook/cpu.max", "200000 100000")
    assert read_topology(tmp_path).quota == 2.0


def test_quota_and_cpu_set_of_cgroup_v1(tmp_path: Path) -> None:
    trees.plain(tmp_path, 12)
    groups = "5:cpuset:/docker/0abc\n4:cpu,cpuacct:/docker/0abc\n1:name=systemd:/docker/0abc"
    mounts = [v1_mount("cpu,cpuacct", "/docker/0abc"), v1_mount("cpuset", "/docker/0abc")]
    process(tmp_path, "0-11", groups, mounts)
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000")
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "50000")
    write(tmp_path, "sys/fs/cgroup/cpuset/cpuset.cpus", "4-11")
    topology = read_topology(tmp_path)
    assert [core.cpu for core in topology.cores] == list(range(4, 12))
    assert (topology.quota, topology.usable) == (3.0, 3)
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1")
    assert read_topology(tmp_path).quota is None


def test_nested_groups_of_cgroup_v1(tmp_path: Path) -> None:
    trees.plain(tmp_path, 8)
    process(tmp_path, "0-7", "4:cpu,cpuacct:/jobs/17", [v1_mount("cpu,cpuacct"), v1_mount("cpuset")])
    for folder, quota_us in (("", -1), ("/jobs", 200_000), ("/jobs/17", 500_000)):
        write(tmp_path, f"sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_quota_us", str(quota_us))
        write(tmp_path, f"sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_period_us", "100000")
    assert read_topology(tmp_path).quota == 2.0


def test_both_versions_side_by_side(tmp_path: Path) -> None:
    """The hybrid layout of systemd: v1 controllers, and a v2 tree without any."""
    trees.plain(tmp_path, 8)
    unified = V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    process(tmp_path, "0-7", "4:cpu:/a\n0::/a", [v1_mount("cpu"), unified])
    write(tmp_path, "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "400000")
    write(tmp_path, "sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000")
    assert read_topology(tmp_path).quota == 4.0


def test_a_group_outside_what_is_mounted_is_the_mount(tmp_path: Path) -> None:
    """As in a container that sees the host's path, or a path from another namespace."""
    trees.plain(tmp_path, 8)
    write(tmp_path, "sys/fs/cgroup/cpu.max", "100000 100000")
    for path in ("/../../system.slice", "/elsewhere"):
        process(tmp_path, "0-7", f"0::{path}", [V2_MOUNT.replace(" / /sys", " /docker/0abc /sys")])
        assert read_topology(tmp_path).quota == 1.0


def test_quotas_where_proc_says_nothing_of_groups(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000")
    assert read_topology(tmp_path, frozenset(range(8))).usable == 3


def test_memory_is_the_tightest_groups(tmp_path: Path) -> None:
    """What is only cached can be dropped, and counts as free."""
    process(tmp_path, "0", groups="0::/pod/container")
    write(tmp_path, "sys/fs/cgroup/pod/container/memory.max", "max")
    write(tmp_path, "sys/fs/cgroup/pod/container/memory.current", str(10**8))
    write(tmp_path, "sys/fs/cgroup/pod/container/memory.events", "low 0\noom_kill 3")
    write(tmp_path, "sys/fs/cgroup/pod/memory.max", str(10**9))
    write(tmp_path, "sys/fs/cgroup/pod/memory.current", str(8 * 10**8))
    write(tmp_path, "sys/fs/cgroup/pod/memory.stat", f"anon 5\ninactive_file {3 * 10**8}")
    memory = read_memory(tmp_path)
    assert (memory.total_bytes, memory.available_bytes, memory.oom_kills) == (10**9, 5 * 10**8, 3)


def test_memory_of_cgroup_v1(tmp_path: Path) -> None:
    process(tmp_path, "0", groups="3:memory:/job", mounts=[v1_mount("memory")])
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", str(2**63 - 4096))
    write(tmp_path, "sys/fs/cgroup/memory/memory.usage_in_bytes", str(10**9))
    write(tmp_path, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", str(10**9))
    write(tmp_path, "sys/fs/cgroup/memory/job/memory.usage_in_bytes", str(4 * 10**8))
    memory = read_memory(tmp_path)
    assert (memory.total_bytes, memory.available_bytes) == (10**9, 6 * 10**8)


def test_kills_are_the_machines_where_no_group_counts_them(tmp_path: Path) -> None:
    write(tmp_path, "proc/vmstat", "nr_free_pages 1\noom_kill 7")
    assert read_memory(tmp_path).oom_kills == 7


def test_this_machine_can_be_read() -> None:
    topology = read_topology()
    assert topology.usable >= 1
    assert len({core.cpu for core in topology.cores}) == len(topology.cores)
    memory = read_memory()
    assert 0 < memory.available_bytes <= memory.total_bytes


def test_cpu_lists() -> None:
    assert cpu_list("0-2,5,8-9\n") == {0, 1, 2, 5, 8, 9}
    assert cpu_list("") == cpu_list("(null)") == cpu_list("0-x") == frozenset()
    assert format_cpus([5, 0, 2, 1, 9, 8]) == "0-2, 5, 8-9"
    assert format_cpus([]) == ""
