"""The command without a gateway: help, usage, exit codes. With one: tests/contract/test_cli.py and tests/e2e."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nbserve
from nbserve import cli
from nbserve.errors import BundleError, GatewayError, NbserveError, NotFound, UsageError
from nbserve.notebook.parsing import parse
from nbserve.verbs import VERBS, Verb, command
from tools import reference

OF_THE_CLI = [name for name, verb in VERBS.items() if verb.in_face("cli")]
WITHOUT_JSON = {"serve", "predict", "token", "completion", "gateway"}
"""They return no data, or an answer that is text or bytes of its own."""
COMMAND = re.compile(r"(?<![\w/])%?nbserve [^|)&;>#]*")


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


@pytest.mark.parametrize("name", OF_THE_CLI)
def test_every_verb_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb = VERBS[name]
    assert cli.run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    for param in verb.params:
        if param.param_type_name == "option":
            assert param.opts[0] in shown
    for example in verb.examples_of("cli"):
        assert example in shown
    on_one_line = " ".join(shown.split())
    for code, meaning in verb.exit_codes().items():
        assert f"{code} {meaning}" in on_one_line
        assert code in cli.EXIT_CODES
    assert ("--json" in shown) == (name not in WITHOUT_JSON)


@pytest.mark.parametrize("face", ["cli", "magic"])
@pytest.mark.parametrize("name", VERBS)
def test_examples_are_there_and_parse(name: str, face: Any) -> None:
    verb = VERBS[name]
    if not verb.in_face(face):
        return
    prompt = "nbserve" if face == "cli" else "%nbserve"
    lines = [match for example in verb.examples_of(face) for match in COMMAND.findall(example)]
    assert lines
    for line in lines:
        assert line.startswith(f"{prompt} {name} ") or line.strip() == f"{prompt} {name}"
        _parse(verb, face, line.removeprefix(f"{prompt} {name}"))


def _parse(verb: Verb, face: Any, rest: str) -> None:
    if face == "cli":
        command(verb, face).make_context(verb.name, shlex.split(rest))
    else:
        parse(command(verb, face), rest.strip(), target_is_expression=verb.name == "serve")


def test_every_verb_has_its_place_in_the_overview() -> None:
    placed = [name for names in cli.SECTIONS.values() for name in names]
    assert sorted(placed) == sorted({*OF_THE_CLI, *placed})
    assert len(placed) == len(set(placed))


def test_the_page_of_the_docs_has_examples_and_exit_codes_of_every_verb() -> None:
    sections = re.split(r"^## ", reference.cli_page(), flags=re.MULTILINE)[1:]
    assert [section.splitlines()[0] for section in sections] == ["`nbserve`", *(f"`nbserve {n}`" for n in OF_THE_CLI)]
    for section in sections:
        assert "Examples:" in section
        assert "Exit codes: 0 " in section


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (NbserveError("x"), 1),
        (BundleError("x"), 1),
        (UsageError("x"), 2),
        (NotFound("x"), 3),
        (GatewayError("x"), 4),
        (KeyboardInterrupt(), 130),
        (PermissionError(13, "Permission denied", "/etc/x"), 1),
    ],
)
def test_what_errors_end_with(
    exc: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _fail_with(exc, monkeypatch)
    assert cli.run(["list"]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "bug" not in said
    if isinstance(exc, OSError):
        assert said == "nbserve: /etc/x: Permission denied\n"


def test_a_bug_says_where_to_report_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _fail_with(ZeroDivisionError("oh"), monkeypatch)
    assert cli.run(["list"]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError: oh" in said
    assert cli.REPORT_URL in said
    assert f"nbserve {nbserve.__version__}, Python {sys.version.split()[0]}" in said


def _fail_with(exc: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise exc

    monkeypatch.setattr(cli, "invoke", fail)


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
        (["explain", "./nothing"], 2, "no bundle at ./nothing: it is not a folder"),
        (["verify", "/"], 2, "no bundle at /: it has no manifest.json"),
        (["verify", "x"], 3, "no endpoint 'x'"),
        (["completion", "tcsh"], 2, "'bash', 'zsh', 'fish'"),
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
