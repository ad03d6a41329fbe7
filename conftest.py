"""Rules for every suite here, notebooks included: skips must be allowed, and nothing may be left running.

- A skip fails the run unless tests/allowed_skips.txt has a line for it; skips are printed either way.
- Each test process carries a mark in its environment, which every process that it starts inherits. What still carries
  it when the tests are over fails the run, by name.
- Jupyter's and IPython's folders are temporary ones, so that tests neither see nor leave gateways of the user.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import signal
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent
MARK = "NBSERVE_TEST_MARK"
GRACE_S = 10.0
"""How long after the last test a kernel or gateway may take to go."""

_skips: list[tuple[str, str]] = []
_leftovers: list[str] = []
_folder = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Mark this process and give it folders of its own; before anything is collected."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job; tests press Ctrl-C in children
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_folder] = folder = tempfile.mkdtemp(prefix="nbs-")
    os.environ[MARK] = uuid.uuid4().hex
    os.environ["JUPYTER_RUNTIME_DIR"] = f"{folder}/runtime"
    os.environ["NBSERVE_HOME"] = f"{folder}/home"
    os.environ["IPYTHONDIR"] = f"{folder}/ipython"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["MPLBACKEND"] = "agg"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folders."""
    shutil.rmtree(config.stash[_folder], ignore_errors=True)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note each skip (an expected failure is not one)."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note each file that skipped itself."""
    if report.skipped:
        _note_skip(report)


def _note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    _skips.append((report.nodeid, reason))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look for what is still running; in the process that reports, fail the run for it and for skips."""
    _leftovers.extend(end_leftovers(os.environ[MARK]))
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # a worker of pytest-xdist: its controller decides
        output["leftovers"] = _leftovers
    elif (_leftovers or refused_skips()) and session.exitstatus in (
        pytest.ExitCode.OK,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist is done: take over what it found."""
    _leftovers.extend(getattr(node, "workeroutput", {}).get("leftovers", []))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which skips are not allowed and what was left running."""
    refused = refused_skips()
    if refused:
        terminalreporter.section("skips that fail this run", red=True)
        for nodeid, reason in refused:
            terminalreporter.line(f"{nodeid}: {reason}")
        terminalreporter.line("allow one with its reason in tests/allowed_skips.txt")
    if _leftovers:
        terminalreporter.section("processes left behind", red=True)
        for line in _leftovers:
            terminalreporter.line(line)


def refused_skips() -> list[tuple[str, str]]:
    """Skips for which the allow-list has no pattern."""
    lines = (ROOT / "tests" / "allowed_skips.txt").read_text().splitlines()
    allowed = [line.split("  ")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    return [skip for skip in _skips if not any(fnmatch.fnmatch(skip[0], pattern) for pattern in allowed)]


def end_leftovers(mark: str) -> list[str]:
    """Processes that carry the mark after the grace: ended, and returned as `pid: command line`."""
    deadline = time.monotonic() + GRACE_S
    time.sleep(0.1)  # a process that has only just begun (execve) has no environment to read yet
    while (found := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return [f"{pid}: {command}" for pid, command in found.items()]


def marked(mark: str) -> dict[int, str]:
    """Living processes whose environment has the mark, by pid, with their command lines. Linux; empty elsewhere."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # gone meanwhile, or not ours to read
            continue
        # Python's own helper of multiprocessing: lives as long as the test process that it serves.
        if command and "resource_tracker" not in command and int(entry.name) != os.getpid():
            found[int(entry.name)] = command
    return found
