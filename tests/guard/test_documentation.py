"""The README does what it says: its blocks are run, in a real kernel and a real shell. (The guides: tests/docs.)"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guard.sources import ROOT
from tests.kernels import Notebook, notebook

README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Notebook]:
    with notebook(tmp_path) as running:
        yield running


def run_shell(script: str) -> str:
    """What a shell block prints, with `nbserve` of this environment on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_thirty_seconds_of_the_readme(kernel: Notebook) -> None:
    """The cells in a kernel; then, while it lives, the commands in a shell."""
    began = time.monotonic()
    for cell in blocks(README, "python"):
        kernel.run(cell)
    commands = next(block for block in blocks(README, "bash") if "nbserve predict" in block)
    [served] = json.loads(run_shell("nbserve list --json"))
    assert served["name"] == "adder"
    commands = commands.replace("http://127.0.0.1:PORT/predictions/adder", served["url"])
    answers = re.findall(r'\{"sum":\s*([\d.]+)\}', run_shell(commands))
    assert [float(answer) for answer in answers] == pytest.approx([1.5, 1.5], abs=0.05)
    assert json.loads(run_shell("nbserve list --json")) == []
    assert time.monotonic() - began < 5 * 30, "five-fold, for a busy machine"


def test_make_targets_named_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^make (\w+)", "\n".join(blocks(README, "bash")), re.MULTILINE))
    targets |= set(re.findall(r"`make (\w+)", README))
    assert {"demo", "test", "venv"} <= targets
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)
