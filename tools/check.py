"""`make test`: every check, one after the other; one that fails fails the whole, the others still run.

    python -m tools.check                      all of it
    python -m tools.check --only lint,types    some parts

The last line is `N passed, N failed`: the sum over the parts, where a linter counts as one.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
JUNIT = "JUNIT"
"""Stands in a command for the file that pytest writes its counts to."""
PYTEST = [sys.executable, "-m", "pytest", "--junitxml", JUNIT]


@dataclass(frozen=True)
class Part:
    """One check: a command and how long it may take."""

    name: str
    command: list[str]
    limit_s: float = 120.0


@dataclass(frozen=True)
class Outcome:
    """What a part counted, and how long it took."""

    name: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    note: str = ""


PARTS = [
    Part("lint", [sys.executable, "-m", "ruff", "check", "."]),
    Part("format", [sys.executable, "-m", "ruff", "format", "--check", "."]),
    Part("types", [sys.executable, "-m", "mypy"], limit_s=300),
    # Before the tests: browsers load what it builds.
    Part("widgets", [sys.executable, "labextension/hatch_build.py", "build", "types", "test"], limit_s=300),
    Part(
        "tests",
        [*PYTEST, "-p", "no:nbval", "-n", "2", "--dist", "worksteal", "--durations", "10", "tests"],
        limit_s=3000,  # a guard against what hangs; on two free cores they take some eleven minutes
    ),
    Part(
        "notebooks",
        # A process of its own: pytest-xdist would deal out the cells of one notebook to several workers.
        [
            *PYTEST,
            *["-p", "no:xdist", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "120"],
            *["--nbval-sanitize-with", "tests/notebooks/sanitize.cfg", "--timeout", "300", "notebooks"],
        ],
        limit_s=300,
    ),
]


def run(part: Part, folder: Path) -> Outcome:
    """Run one part with its output shown as it comes."""
    junit = folder / f"{part.name}.xml"
    command = [str(junit) if word == JUNIT else word for word in part.command]
    print(f"\n== {part.name}: {' '.join(command[1:])}", flush=True)
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    note = ""
    try:
        code = process.wait(part.limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        code, note = process.wait(), f"killed after {part.limit_s:.0f} s"
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise
    passed, failed, skipped = counts(junit) if JUNIT in part.command else (int(code == 0), int(code != 0), 0)
    if code and not failed:
        failed, note = 1, note or f"exit code {code}"
    return Outcome(part.name, passed, failed, skipped, time.monotonic() - started, note)


def counts(junit: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of one pytest run; zeros where it wrote nothing."""
    if not junit.exists():
        return 0, 0, 0
    suites = ElementTree.parse(junit).getroot().iter("testsuite")
    total = failed = skipped = 0
    for suite in suites:
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return max(total - failed - skipped, 0), failed, skipped


def summary(outcomes: list[Outcome]) -> str:
    """The closing table and line."""
    lines = [f"{'':12}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"]
    lines += [
        f"{one.name:12}{one.passed:8}{one.failed:8}{one.skipped:9}{one.seconds:9.1f}  {one.note}".rstrip()
        for one in outcomes
    ]
    passed, failed = sum(one.passed for one in outcomes), sum(one.failed for one in outcomes)
    skipped = sum(one.skipped for one in outcomes)
    tail = f", {skipped} skipped (allowed)" if skipped and not failed else f", {skipped} skipped" if skipped else ""
    return "\n".join([*lines, "", f"{passed} passed, {failed} failed{tail}"])


def main() -> int:
    """Run the parts asked for; 0 where all of them passed."""
    parser = argparse.ArgumentParser(description="Every check of this checkout.")
    parser.add_argument("--only", default="", metavar="PART,...", help=", ".join(part.name for part in PARTS))
    wanted = {name for name in parser.parse_args().only.split(",") if name}
    unknown = wanted - {part.name for part in PARTS}
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [run(part, Path(folder)) for part in PARTS if not wanted or part.name in wanted]
    print(f"\n{summary(outcomes)}")
    return 1 if any(one.failed for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
