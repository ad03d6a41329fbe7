"""What a notebook says where a serve does not come to be, where its gateway is gone, and of endpoints not its own."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbserve.client import Client
from nbserve.errors import NotFound, UsageError
from nbserve.notebook import serve
from nbserve.notebook.launcher import NotebookGateway
from nbserve.notebook.magics import extension_of, unload
from nbserve.notebook.serve import Asked


@pytest.fixture
def ip() -> Iterator[Any]:
    """IPython without a kernel, with the magics."""
    shell = InteractiveShell(colors="nocolor")
    extension_of(shell)
    gateway = shell._nbserve_gateway
    yield shell
    unload(shell)
    gateway.close()
    shell.history_manager.end_session()


def gateway_that(command: str) -> NotebookGateway:
    """A notebook's gateway whose process does this."""
    process = subprocess.Popen([sys.executable, "-c", command])
    process.wait()
    gateway = NotebookGateway("a.ipynb")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]  # where nobody answers any more
    stand_in = SimpleNamespace(
        client=Client(f"http://127.0.0.1:{port}", "t"),
        wait=lambda timeout_s: process.returncode,
        is_running=lambda: False,
        terminate=lambda: None,
        log=Path("g.log"),
    )
    gateway._process = stand_in  # type: ignore[assignment]
    return gateway


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("import os; os.kill(os.getpid(), 9)", "this notebook's gateway was killed by SIGKILL (its log: g.log)"),
        ("raise SystemExit(3)", "this notebook's gateway ended with exit code 3 (its log: g.log)"),
    ],
)
def test_a_gateway_that_nobody_has_asked_to_go_is_named(command: str, says: str) -> None:
    assert gateway_that(command).obituary == f"run the serving cells again: {says}"


def test_one_that_was_asked_to_go_or_never_was_is_not() -> None:
    assert gateway_that("").obituary == ""
    assert NotebookGateway("a.ipynb").obituary == ""


def test_a_verb_says_so_where_it_finds_nothing(ip: Any) -> None:
    ip._nbserve_gateway._process = gateway_that("raise SystemExit(3)")._process
    with pytest.raises(NotFound) as raised:
        ip.run_line_magic("nbserve", "predict nobody 1")
    assert raised.value.hint.startswith("run the serving cells again: this notebook's gateway ended with exit code 3")


@pytest.mark.parametrize(
    ("line", "is_own", "is_refused"),
    [
        ("stop twin", False, True),
        ("stop twin", True, False),
        ("stop twin@b1", False, False),
        ("stop twin --gateway b1", False, False),
    ],
)
def test_another_notebooks_endpoint_is_stopped_only_where_it_is_named(
    ip: Any, monkeypatch: pytest.MonkeyPatch, line: str, is_own: bool, is_refused: bool
) -> None:
    other = SimpleNamespace(
        is_own=is_own,
        owner="b.ipynb (b1)",
        record=SimpleNamespace(id="b1", name="b.ipynb"),
        serves=lambda name, version: name == "twin",
    )
    monkeypatch.setattr("nbserve.resolve.Gateways.__iter__", lambda self: iter([other]))
    monkeypatch.setattr("nbserve.notebook.magics.invoke", lambda verb, gateways, params: [])
    if not is_refused:
        ip.run_line_magic("nbserve", line)
        return
    with pytest.raises(UsageError, match="'twin' is not served by this notebook, but by b") as raised:
        ip.run_line_magic("nbserve", line)
    assert raised.value.hint == "`%nbserve stop twin@b1` stops it there"


def test_a_sample_that_raises_is_shown_without_our_frames(ip: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ip.run_cell("%%serve_handler x --sample nothing['x']\nnothing = {}\ndef predict(b): return b\n")
    shown = capsys.readouterr().out
    assert "KeyError" in shown
    assert "magics.py" not in shown


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (SimpleNamespace(default=True, state="READY", version="4"), "version 4 is served still"),
        (SimpleNamespace(default=False, state="LOADING", version="5"), "nothing is served under this name"),
        (SimpleNamespace(default=True, state="FAILED", version="4"), "nothing is served under this name"),
        (None, "nothing is served under this name"),
    ],
)
def test_what_is_served_after_a_failure_is_what_the_gateway_says(model: Any, says: str) -> None:
    client = SimpleNamespace(model=lambda name: model)
    gateway = SimpleNamespace(running=lambda *, detach: client if model else None)
    serving: Any = SimpleNamespace(gateway=gateway)
    asked = Asked("x", None, None)  # type: ignore[arg-type]
    assert serve.Serving._what_serves(serving, asked) == says


def test_old_bundles_go_also_where_no_cell_waits_or_a_version_fails(ip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    collected: list[str] = []
    monkeypatch.setattr(serve, "collect", lambda root, name, in_use: collected.append(name))
    extension = extension_of(ip)

    class Refused(NotFound):
        pass

    def no_gateway(*, detach: bool = False) -> Any:
        raise Refused("no gateway here")

    monkeypatch.setattr(extension._serving.gateway, "client", no_gateway)
    with pytest.raises(Refused):
        ip.run_cell("%%serve_handler bundles\ndef predict(b): return b\n").raise_error()
    assert collected == ["bundles"]
