"""The command without a gateway: help, usage, exit codes. With one: tests/e2e."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nbserve
from nbserve import cli
from nbserve.verbs import VERBS


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("NBSERVE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NBSERVE_TOKEN", raising=False)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"nbserve {nbserve.__version__}\n"
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, verb in VERBS.items():
        assert (f"  {name} " in shown) == verb.in_face("cli")
    assert "Exit codes: 0 done" in shown


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.in_face("cli")])
def test_every_verb_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    for param in VERBS[name].params:
        if param.param_type_name == "option":
            assert param.opts[0] in shown


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["lst"], 2, "Did you mean 'list'"),
        (["list", "--jsn"], 2, "--json"),
        (["stop"], 2, "or --all"),
        (["predict", "x"], 3, "no endpoint 'x'"),
        (["predict", "x@nowhere", "1"], 3, "no gateway 'nowhere'"),
        (["token", "x"], 3, "nothing is served now"),
        (["status", "x"], 3, "no endpoint 'x'"),
        (["serve", "no-such-folder"], 2, "no bundle at no-such-folder"),
        (["serve", "x", "--workers", "0"], 2, "--workers must be positive"),
    ],
)
def test_exit_codes_and_what_is_said(
    words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(words) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert says in shown.err
    assert "Traceback" not in shown.err


def test_nothing_served_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["list"]) == 0
    assert "nothing is served" in capsys.readouterr().out
    assert cli.run(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert cli.run(["stop", "--all"]) == 0


def test_the_command_is_quick_and_light() -> None:
    program = (
        "import sys; from nbserve import cli; code = cli.run(['--help']);"
        "heavy = {'httpx', 'IPython', 'tornado', 'numpy', 'torch', 'rich.console'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy or code else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_module_is_the_command_too_and_a_closed_pipe_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "nbserve", "list"], stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
