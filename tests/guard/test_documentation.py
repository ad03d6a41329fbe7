"""README and handler guide do what they say: their blocks are run, in a real kernel and a real shell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbserve.handler import Context
from nbserve.pipeline import Item, Pipeline
from tests.guard.sources import ROOT
from tests.kernels import Notebook, notebook
from tools.reference import PAGES

README = (ROOT / "README.md").read_text()
HANDLERS = (ROOT / "docs" / "handlers.md").read_text()


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
    """The cells in a kernel; then, while it lives, the commands in a shell. Thirty seconds are the claim."""
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
    assert time.monotonic() - began < 30


def test_make_targets_named_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^make (\w+)", "\n".join(blocks(README, "bash")), re.MULTILINE))
    targets |= set(re.findall(r"`make (\w+)", README))
    assert {"demo", "test", "venv"} <= targets
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_install_commands_name_the_distribution_and_its_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    commands = re.findall(r'pip install "([\w-]+)\[(\w+)\]"', README)
    assert commands
    for name, extra in commands:
        assert name == project["name"]
        assert extra in project["optional-dependencies"]


def test_options_named_in_the_pages_exist() -> None:
    from nbserve.options import CELL_OPTIONS, MODEL_OPTIONS, SERVER_OPTIONS

    known = {flag for option in (*CELL_OPTIONS, *MODEL_OPTIONS, *SERVER_OPTIONS) for flag in option.opts}
    known |= set(re.findall(r"--[\w-]+", PAGES["docs/cli.md"]())) | {"--no-deps"}
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", README + HANDLERS))
    assert not named - known


EXAMPLE = re.compile(r"# (?P<request>[^\n]*) -> (?P<answer>[^\n]*)\n(?P<code>.*)", re.DOTALL)


@pytest.mark.parametrize("block", blocks(HANDLERS, "python"), ids=lambda block: block.splitlines()[0][2:])
def test_examples_of_the_handler_guide(block: str) -> None:
    """Each block's comment: the request's JSON, and the answer's JSON or the status of its error."""
    example = EXAMPLE.fullmatch(block)
    assert example, f"a comment `# request -> answer` on top:\n{block}"
    names: dict[str, Any] = {"__name__": __name__}
    exec(example["code"], names)
    handler = [value for value in names.values() if getattr(value, "__module__", "") == __name__][-1]
    pipeline = Pipeline(handler, Context(name="example"))
    pipeline.initialize()
    [answer] = pipeline.run([Item(example["request"].encode())]).answers
    expected = json.loads(example["answer"])
    assert answer.status == (expected if answer.error else 200), answer.error
    if not answer.error:
        assert json.loads(answer.body) == expected
