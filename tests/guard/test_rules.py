"""The rules of the topmost conftest.py hold: tried on a folder of tests that break them. So does the closing sum."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.guard.sources import ROOT
from tools.check import Outcome, counts, summary

SKIPS = "import pytest\ndef test_one(): pytest.skip('no time')\ndef test_two(): pass\n"
LEAVES = """\
import subprocess, sys
def test_one():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True).returncode = 0
"""


def run_pytest(folder: Path, test: str, *options: str, allowed: str = "") -> subprocess.CompletedProcess[str]:
    rules = (ROOT / "conftest.py").read_text()
    assert "GRACE_S = 10.0" in rules
    (folder / "tests").mkdir()
    (folder / "tests" / "allowed_skips.txt").write_text(allowed)
    (folder / "conftest.py").write_text(rules.replace("GRACE_S = 10.0", "GRACE_S = 0.3"))
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "tests" / "test_it.py").write_text(test)
    unused = [word for name in ("asyncio", "nbval", "hypothesispytest") for word in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", *unused, "--junitxml", "out.xml", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("options", [("-n", "2"), ("-p", "no:xdist")], ids=["xdist", "one-process"])
def test_a_skip_fails_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run_pytest(tmp_path, SKIPS, *options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "skips that fail this run" in done.stdout
    assert "no time" in done.stdout
    assert counts(tmp_path / "out.xml") == (1, 0, 1)


def test_an_allowed_skip_does_not(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, SKIPS, allowed="# reasons\ntests/test_it.py::test_*  needs time\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout


@pytest.mark.parametrize("options", [("-n", "1"), ("-p", "no:xdist")], ids=["xdist", "one-process"])
def test_a_process_left_behind_fails_the_run_and_is_ended(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run_pytest(tmp_path, LEAVES, *options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "processes left behind" in done.stdout
    [line] = [line for line in done.stdout.splitlines() if "time.sleep(60)" in line]
    pid = int(line.partition(":")[0])
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_the_closing_line_is_the_sum() -> None:
    outcomes = [Outcome("lint", 1, 0, 0, 0.1), Outcome("tests", 40, 2, 1, 9.0, note="exit code 1")]
    assert summary(outcomes).splitlines()[-1] == "41 passed, 2 failed, 1 skipped"
    assert summary(outcomes[:1]).splitlines()[-1] == "1 passed, 0 failed"
