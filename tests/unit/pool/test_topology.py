"""Topology from recorded trees: groups, quotas of both cgroup versions, missing files."""

from __future__ import annotations

from pathlib import Path

from nbserve.gateway.pool.topology import read_memory, read_topology


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


def cpu(root: Path, number: int, package: int, core: int, l3: str, node: int) -> None:
    base = f"sys/devices/system/cpu/cpu{number}"
    write(root, f"{base}/topology/physical_package_id", str(package))
    write(root, f"{base}/topology/core_id", str(core))
    write(root, f"{base}/cache/index3/shared_cpu_list", l3)
    (root / base / f"node{node}").mkdir()


def test_siblings_packages_and_nodes(tmp_path: Path) -> None:
    for number, (package, core) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1), (0, 0), (0, 1), (1, 0), (1, 1)]):
        cpu(tmp_path, number, package, core, "0-1,4-5" if package == 0 else "2-3,6-7", package)
    topology = read_topology(tmp_path, frozenset(range(8)))
    assert [core.sibling for core in topology.cores] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [core.node for core in topology.cores] == [0, 0, 1, 1, 0, 0, 1, 1]
    assert [core.l3 for core in topology.cores] == [0, 0, 2, 2, 0, 0, 2, 2]
    assert topology.usable == 8


def test_quota_of_cgroup_v2_rounds_down_to_whole_cores(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu.max", "250000 100000")
    assert read_topology(tmp_path, frozenset(range(8))).usable == 2
    write(tmp_path, "sys/fs/cgroup/cpu.max", "50000 100000")
    assert read_topology(tmp_path, frozenset(range(8))).usable == 1
    write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000")
    assert read_topology(tmp_path, frozenset(range(8))).usable == 8


def test_quota_of_cgroup_v1(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000")
    assert read_topology(tmp_path, frozenset(range(8))).usable == 3
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1")
    assert read_topology(tmp_path, frozenset(range(8))).usable == 8


def test_nothing_known_is_still_a_topology(tmp_path: Path) -> None:
    topology = read_topology(tmp_path, frozenset({3, 5}))
    assert [core.cpu for core in topology.cores] == [3, 5]
    assert [core.sibling for core in topology.cores] == [0, 0]


def test_memory_is_the_cgroups_where_it_is_smaller(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/memory.max", str(10**9))
    write(tmp_path, "sys/fs/cgroup/memory.current", str(4 * 10**8))
    write(tmp_path, "sys/fs/cgroup/memory.events", "low 0\noom_kill 3")
    memory = read_memory(tmp_path)
    assert memory.total_bytes == 10**9
    assert memory.available_bytes <= 6 * 10**8
    assert memory.oom_kills == 3


def test_kills_are_the_machines_where_there_is_no_cgroup(tmp_path: Path) -> None:
    write(tmp_path, "proc/vmstat", "nr_free_pages 1\noom_kill 7")
    assert read_memory(tmp_path).oom_kills == 7


def test_this_machine_can_be_read() -> None:
    assert read_topology().usable >= 1
    memory = read_memory()
    assert 0 < memory.available_bytes <= memory.total_bytes
