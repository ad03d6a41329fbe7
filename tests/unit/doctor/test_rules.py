"""Each rule of the doctor: a machine that breaks it, and says so; one just inside, of which nothing is said."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nbserve.doctor import Machine, diagnose
from nbserve.doctor.finding import LEVELS, Finding
from nbserve.doctor.machine import Gpu, Package, RunningGateway
from nbserve.tables import diagnosed, to_text
from tests.unit.doctor.machines import GIB, HEALTHY, machine, topology

MIB = 2**20
H100 = Gpu("NVIDIA H100 80GB HBM3", 80 * GIB, 0)
CUDA: dict[str, Any] = {
    "gpus": [H100],
    "gpu_driver": "550.54.15",
    "gpu_driver_cuda": "12.4",
    "torch": "2.6.0",
    "torch_cuda": "12.4",
}


def said_of(snapshot: Machine) -> list[Finding]:
    return [finding for finding in diagnose(snapshot).findings if finding.level != "ok"]


def gateway(**changes: Any) -> RunningGateway:
    one = RunningGateway("ab12", "lab.ipynb", 4242, "http://127.0.0.1:8080", "0.1.0", True)
    return msgspec.structs.replace(one, **changes)


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("note cores", {"can_pin": False}, "cannot be pinned"),
    ("note cores", {"cpus_online": 64}, "8 of 64 CPUs are allowed here: 0-7"),
    ("warning cores", {"topology": topology(1), "cpus_online": 1}, "1 core can be used"),
    ("note cores", {"topology": topology(3), "cpus_online": 3}, "3 cores can be used"),
    ("note cores", {"topology": topology(8, nodes=2)}, "2 NUMA nodes"),
    ("note quota", {"topology": topology(8, quota=6.5)}, "a quota of 6.5 CPUs over 8"),
    ("warning quota", {"periods": 1000, "throttled_periods": 60}, "used up in 6% of 1000 periods"),
    ("warning load", {"load_1m": 8.1}, "load 8.1 on 8 CPUs"),
    ("note load", {"load_1m": 4.1}, "load 4.1 on 8 CPUs"),
    ("warning clock", {"clock_source": "hpet"}, "the clock source is hpet"),
    ("note clock", {"governor": "powersave"}, "powersave (acpi-cpufreq)"),
    ("problem memory", {"memory_available_bytes": 200 * MIB}, "210 MB of 34.4 GB free"),
    ("warning memory", {"memory_available_bytes": 900 * MIB}, "944 MB of 34.4 GB free"),
    ("warning memory", {"swap_used_bytes": 2 * GIB}, "2.1 GB are swapped out"),
    ("note memory", {"oom_kills": 3}, "struck 3 times"),
    ("note memory", {"shm_bytes": 64 * MIB}, "/dev/shm has 67.1 MB"),
    ("warning GPUs", {"gpu_error": "nvidia-smi ended with exit code 9: no driver"}, "exit code 9"),
    ("warning GPUs", CUDA | {"torch": "2.6.0+cpu", "torch_cuda": ""}, "torch 2.6.0+cpu was built without CUDA"),
    ("problem GPUs", CUDA | {"torch_cuda": "13.0"}, "built for CUDA 13.0, driver 550.54.15 runs 12.4"),
    ("note GPUs", CUDA | {"torch_cuda": "12.8"}, "built for CUDA 12.8, driver 550.54.15 runs 12.4"),
    ("note GPUs", CUDA | {"environment": {"CUDA_VISIBLE_DEVICES": ""}}, "CUDA_VISIBLE_DEVICES is empty"),
    ("note GPUs", CUDA | {"gpus": [Gpu("A", 80 * GIB, 9 * GIB)]}, "9.7 GB of 85.9 GB of A are in use"),
    ("warning GPUs", CUDA | {"gpus": [H100, Gpu("B", 80 * GIB, 79 * GIB)]}, "of B are in use"),
    ("warning system", {"system": "Darwin 24.1.0 arm64"}, "Darwin"),
    ("note threads", {"environment": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}}, "OMP_NUM_THREADS=1, MKL_NUM"),
    ("warning threads", {"environment": {"OMP_NUM_THREADS": "64"}}, "OMP_NUM_THREADS=64"),
    ("warning threads", {"environment": {"GOMP_CPU_AFFINITY": "0-3"}}, "GOMP_CPU_AFFINITY=0-3"),
    ("warning threads", {"environment": {"OMP_PROC_BIND": "TRUE"}}, "OMP_PROC_BIND=TRUE"),
    ("warning threads", {"environment": {"KMP_BLOCKTIME": "infinite"}}, "KMP_BLOCKTIME=infinite"),
    ("warning proxy", {"environment": {"http_proxy": "(set)"}}, "http_proxy is set"),
    ("warning proxy", {"environment": {"HTTP_PROXY": "(set)", "no_proxy": ".corp.example"}}, "lacks 127.0.0.1"),
    ("problem open files", {"open_files": 64}, "64 open files"),
    ("warning open files", {"open_files": 256}, "256 open files"),
    ("note open files", {"open_files": 1024}, "1024 open files"),
    ("problem packages", {"packages": [Package("tornado", ">=6.5", "6.1", False)]}, "tornado 6.1"),
    ("problem packages", {"packages": [Package("msgspec", ">=0.19", "", False)]}, "msgspec is not installed"),
    ("note packages", {"torch": ""}, "torch is not installed"),
    ("problem folders", {"runtime_folder": {"writable": False}}, "runtime cannot be written"),
    ("warning folders", {"runtime_folder": {"is_ours": False}}, "belongs to another user"),
    ("warning folders", {"runtime_folder": {"mode": 0o775}}, "mode 775"),
    ("note folders", {"temp_folder": {"path": "/scratch/" + "x" * 36}}, "has 45 characters"),
    ("problem folders", {"temp_folder": {"writable": False}}, "/tmp cannot be written"),
    ("warning folders", {"temp_folder": {"free_bytes": 99 * 10**6}}, "99.0 MB free in /tmp"),
    ("problem folders", {"home_folder": {"writable": False}}, "nbserve cannot be written"),
    ("warning folders", {"home_folder": {"free_bytes": 999 * 10**6}}, "999 MB free in"),
    ("note ports", {"taken_ports": [8080, 8082]}, "taken: 8080, 8082"),
    ("warning gateways", {"gateways": [gateway(), gateway(answers=False, pid=7)]}, "lab.ipynb (pid 7) does not answer"),
    ("warning gateways", {"gateways": [gateway(version="0.0.9")]}, "is of nbserve 0.0.9, this is 0.1.0"),
    ("note gateways", {"stale_records": 2}, "2 records of gateways that are gone"),
]


@pytest.mark.parametrize(("title", "changes", "what"), BROKEN, ids=[f"{row[0]}: {row[2]}" for row in BROKEN])
def test_one_thing_wrong_is_one_finding(title: str, changes: dict[str, Any], what: str) -> None:
    [finding] = said_of(machine(**changes))
    assert f"{finding.level} {finding.area}" == title
    assert what in finding.what
    assert finding.why
    assert finding.todo or finding.level == "note", "says what to do"


def test_less_than_one_core_by_quota() -> None:
    said = {
        (finding.level, finding.area, finding.what) for finding in said_of(machine(topology=topology(8, quota=0.5)))
    }
    assert said == {
        ("warning", "cores", "1 core can be used"),
        ("warning", "quota", "a quota of 0.5 CPUs over 8 that are visible"),
    }


FINE: list[dict[str, Any]] = [
    {},
    {"topology": topology(16, siblings=2), "cpus_online": 16},
    {"topology": topology(4), "cpus_online": 4},
    {"topology": topology(8, quota=8.0)},
    {"periods": 1000, "throttled_periods": 50},
    {"load_1m": 4.0},
    {"clock_source": "kvm-clock"},
    {"governor": "powersave", "frequency_driver": "intel_pstate"},
    {"memory_available_bytes": 1024 * MIB},
    {"swap_used_bytes": GIB},
    {"shm_bytes": None},
    CUDA,
    CUDA | {"gpu_driver_cuda": "13.2", "torch_cuda": "12.8"},
    CUDA | {"gpu_driver_cuda": ""},
    CUDA | {"gpus": [Gpu("A", 0, 0)]},
    {"torch_cuda": "12.8"},
    {"environment": {"CUDA_VISIBLE_DEVICES": ""}},
    {"environment": {"OMP_PROC_BIND": "false", "OMP_PLACES": "cores"}},
    {"environment": {"KMP_BLOCKTIME": "1"}},
    {"environment": {"http_proxy": "(set)", "NO_PROXY": "10.0.0.0/8, localhost"}},
    {"open_files": 1025},
    {"temp_folder": {"path": "/" + "x" * 43}},
    {"gateways": [gateway()]},
]


@pytest.mark.parametrize("changes", FINE, ids=str)
def test_what_is_fine_is_not_talked_about(changes: dict[str, Any]) -> None:
    assert said_of(machine(**changes)) == []


def test_a_healthy_machine_says_what_it_has() -> None:
    diagnosis = diagnose(HEALTHY)
    assert diagnosis.counts() == {"problem": 0, "warning": 0, "note": 0, "ok": 14}
    assert not diagnosis.has_problem
    shown = to_text(diagnosed(diagnosis), width=80)
    for fact in ("8 cores", "25.8 GB of 34.4 GB free", "torch 2.13.0+cpu", "8080, 8081, 8082 are free", "65536"):
        assert fact in shown


def test_what_is_worst_comes_first_and_every_rule_is_tried() -> None:
    diagnosis = diagnose(machine(open_files=10, load_1m=9.0, stale_records=1))
    levels = [finding.level for finding in diagnosis.findings]
    assert levels == sorted(levels, key=LEVELS.index)
    assert levels[:3] == ["problem", "warning", "note"]
    assert diagnosis.has_problem
    areas = {finding.area for finding in diagnose(HEALTHY).findings}
    assert {title.partition(" ")[2] for title, _, _ in BROKEN} == areas


def test_placements_are_those_of_the_planner_and_alike_ones_are_drawn_once() -> None:
    diagnosis = diagnose(machine(topology=topology(2), cpus_online=2))
    one, two, auto = diagnosis.placements
    assert [(placed.cpus, placed.threads) for placed in one.plans] == [([0, 1], 2)]
    assert [placed.cpus for placed in two.plans] == [[0], [1]]
    assert auto.plans == two.plans
    shown = to_text(diagnosed(diagnosis))
    assert "--workers 2, --workers auto:" in shown
    assert shown.count("worker 1: 1 thread on 1") == 1


def test_a_snapshot_survives_as_json() -> None:
    snapshot = machine(**CUDA, gateways=[gateway()])
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Machine) == snapshot


@pytest.mark.parametrize("width", [60, 80, 200])
def test_it_is_readable_in_any_width(width: int) -> None:
    shown = to_text(diagnosed(diagnose(machine(open_files=10))), width=width)
    assert max(map(len, shown.splitlines())) <= width
    assert "1 problem, 13 ok" in shown
    assert "-> ulimit -n 1048576" in shown
