"""Gateways are found while they live, and only then; ports are remembered."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nbserve import discovery
from nbserve.discovery import GatewayRecord


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("NBSERVE_HOME", str(tmp_path / "home"))


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        yield running
        running.kill()


def record_of(pid: int, **changes: object) -> GatewayRecord:
    fields = {
        "id": "ab12",
        "pid": pid,
        "start_time": discovery.process_start_time(pid),
        "boot_id": discovery.boot_id(),
        "host": discovery.host_name(),
        "url": "http://127.0.0.1:1",
        "management_url": "http://127.0.0.1:1",
        "token": "secret",
    }
    return msgspec.convert(fields | changes, GatewayRecord)


def test_a_published_gateway_is_found_with_all_its_fields(process: subprocess.Popen[bytes]) -> None:
    record = record_of(process.pid, name="a.ipynb", kernel_id="k")
    path = discovery.publish(record)
    assert discovery.records() == [record]
    assert path.name == "nbserve-ab12.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    discovery.remove(path)
    discovery.remove(path)
    assert discovery.records() == []


def test_a_dead_gateway_is_dropped_and_its_file_deleted(process: subprocess.Popen[bytes]) -> None:
    path = discovery.publish(record_of(process.pid))
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie until it is reaped: dead all the same
    assert discovery.records() == []
    assert not path.exists()


@pytest.mark.parametrize("change", [{"start_time": 1.0}, {"boot_id": "another boot"}])
def test_a_reused_pid_is_not_taken_for_the_gateway(change: dict[str, object]) -> None:
    path = discovery.publish(record_of(os.getpid(), **change))
    assert discovery.records() == []
    assert not path.exists()


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"schema": 99}])
def test_what_cannot_be_judged_here_is_neither_shown_nor_deleted(change: dict[str, object]) -> None:
    path = discovery.publish(record_of(os.getpid(), **change))
    assert discovery.records() == []
    assert path.exists()


def test_half_a_file_hides_no_other(tmp_path: Path) -> None:
    path = discovery.publish(record_of(os.getpid()))
    path.with_name("nbserve-cd34.json").write_bytes(path.read_bytes()[:40])
    assert [record.id for record in discovery.records()] == ["ab12"]


def test_names_with_brackets_and_blanks_do_not_confuse_the_start_time(tmp_path: Path) -> None:
    program = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'a) R 1 (b', 0, 0, 0); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        before = discovery.process_start_time(running.pid)
        assert running.stdout is not None
        running.stdout.readline()
        assert discovery.process_start_time(running.pid) == before is not None
        running.kill()


def test_ports_are_remembered_by_notebook_and_the_oldest_are_forgotten() -> None:
    assert discovery.remembered_port("a.ipynb") == 0
    for number in range(205):
        discovery.remember_port(f"{number}.ipynb", 1000 + number)
    discovery.remember_port("204.ipynb", 7)
    assert discovery.remembered_port("204.ipynb") == 7
    assert discovery.remembered_port("0.ipynb") == 0
    kept = json.loads((discovery.home() / "ports.json").read_text())
    assert len(kept) == 200


def test_a_broken_file_of_ports_is_started_anew() -> None:
    discovery.home().mkdir()
    (discovery.home() / "ports.json").write_text("{")
    discovery.remember_port("a.ipynb", 5)
    assert discovery.remembered_port("a.ipynb") == 5
