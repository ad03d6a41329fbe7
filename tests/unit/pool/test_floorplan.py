"""A placement in words, as data, and drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from nbserve.gateway.pool.floorplan import describe, draw
from nbserve.gateway.pool.placement import Demand, plan
from nbserve.gateway.pool.topology import Topology, read_topology
from tests.guard.sources import ROOT
from tests.unit.pool import trees


def both(topology: Topology, *asked: Demand) -> tuple[dict[str, Any], list[str]]:
    plans = plan(topology, asked)
    return describe(topology, plans), draw(topology, plans).splitlines()


def test_a_laptop_is_drawn_by_kinds_of_core(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    data, lines = both(read_topology(tmp_path), Demand("digits/1", 2), Demand("other/1", 1, 1))
    assert lines == [
        "  fast   L3  c. a. b. ..   0-7",
        "  slower L3  = . . . . . . .   8-15",
        "",
        "a  digits/1 worker 0: 1 thread on 2",
        "b  digits/1 worker 1: 1 thread on 4",
        "c  other/1 worker 0: 1 thread on 0",
        "=  kept for gateway and notebook: 8",
        ".  free: 1, 3, 5-7, 9-15",
        "",
        "3 workers with 3 threads on 15 CPUs",
        "CPU 8 kept for gateway and notebook",
    ]
    assert data["note"] == "3 workers with 3 threads on 15 CPUs; CPU 8 kept for gateway and notebook"
    assert data["workers"] == {"digits/1": [[2], [4]], "other/1": [[0]]}
    assert data["nodes"] == {"digits/1": [0, 0], "other/1": [0]}
    assert (data["usable"], data["reserved"]) == ([cpu for cpu in range(16) if cpu != 8], [8])
    assert msgspec.json.decode(msgspec.json.encode(data)) == data


def test_sockets_are_drawn_one_below_the_other_within_80_columns(tmp_path: Path) -> None:
    trees.two_sockets(tmp_path)
    data, lines = both(read_topology(tmp_path), Demand("m/1", 3), Demand("n/1", 1, 64))
    assert lines[0] == "NUMA node 0"
    assert lines[1].startswith("  L3  ==")
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.startswith("NUMA")] == ["NUMA node 0", "NUMA node 1"]
    assert lines[-1] == data["note"].split("; ")[-1]
    assert lines[-1] == "n/1 asked for 64 threads a worker, 56 is the most that one NUMA node has"
    assert data["nodes"]["n/1"] == [1]


def test_every_l3_group_has_its_line(tmp_path: Path) -> None:
    trees.epyc(tmp_path)
    _, lines = both(read_topology(tmp_path), Demand("m/1", 15, 4))
    assert lines[1] == "  L3  a. a. a. a.   4-7, 68-71"
    assert sum(line.startswith("  L3") for line in lines) == 16


def test_cores_that_are_shared(tmp_path: Path) -> None:
    trees.plain(tmp_path, 2)
    topology = read_topology(tmp_path)
    data, lines = both(topology, Demand("a/1", 3))
    assert lines[0] == "  L3  * b   0-1"
    assert "*  shared by several workers: 0" in lines
    assert data["shared"] == [0]
    assert "CPU 0 is shared by several workers: use fewer workers or threads" in data["note"]
    assert "CPUs 0-1 are shared" in both(topology, Demand("a/1", 4))[0]["note"]
    assert "shared" not in both(topology, Demand("a/1", 2))[0]["note"]


def test_a_quota_is_said_in_words(tmp_path: Path) -> None:
    trees.plain(tmp_path, 8)
    trees.write(tmp_path, "sys/fs/cgroup/cpu.max", "250000 100000")
    topology = read_topology(tmp_path)
    data, lines = both(topology, Demand("a/1", 2))
    assert lines[0] == "  L3  ~ ~ ~ ~ ~ ~ ~ ~   0-7"
    assert "a  a/1 worker 0: 1 thread on 0-7" in lines
    assert data["note"] == "2 workers with 2 threads on a quota of 2.5 CPUs, which gives them no CPUs of their own"
    assert (data["quota"], data["shared"], data["reserved"]) == (2.5, [], [])
    assert "more threads than the quota" in both(topology, Demand("a/1", 3))[0]["note"]
    assert "a/1 asked for 8 threads a worker, 2 is the most that there are" in both(topology, Demand("a/1", 1, 8))[1]


def test_more_workers_than_letters_have_one_a_model(tmp_path: Path) -> None:
    trees.epyc(tmp_path)
    _, lines = both(read_topology(tmp_path), Demand("a/1", 60, 1), Demand("b/1", 2, 1))
    assert lines[1] == "  L3  a. a. a. a.   4-7, 68-71"
    assert [line[0] for line in lines if " worker " in line] == ["a"] * 60 + ["b"] * 2


def test_nothing_runs(tmp_path: Path) -> None:
    trees.plain(tmp_path, 1)
    data, lines = both(read_topology(tmp_path))
    assert lines[0] == "  L3  .   0"
    assert data["note"] == "0 workers with 0 threads on 1 CPU"


def test_the_drawings_in_the_documentation(tmp_path: Path) -> None:
    trees.laptop(tmp_path / "laptop")
    trees.two_sockets(tmp_path / "sockets")
    _, laptop = both(read_topology(tmp_path / "laptop"), Demand("digits/1", 2), Demand("search/1", 1, 1))
    _, sockets = both(read_topology(tmp_path / "sockets"), Demand("model/1", 3))
    page = (ROOT / "docs" / "placement.md").read_text()
    assert re.findall(r"^```text\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL) == [
        "\n".join(laptop),
        "\n".join(sockets),
    ]
