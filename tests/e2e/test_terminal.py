"""A failed request replayed in IPython at a terminal: a person at a pty types, and the debugger stands in the cell."""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.e2e.kernels import MARK, end_marked

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-terminal")]

CELL = """%%serve_handler ratio --sample {"a": 1, "b": 2}
class Ratio:
    def inference(self, rows):
        return [self.one(row["a"], row["b"]) for row in rows]
    def one(self, a, b):
        result = a / b
        return result
"""
TIMEOUT_S = 30.0
PROMPT = r"In \[\d+\]: "
DEBUGGER = r"ipdb> "
LOGGED = re.compile(r"^\[ratio #\d.*\n?", re.MULTILINE)
"""What the worker prints comes when it comes, also after the prompt."""


class Terminal:
    """IPython at a pty."""

    def __init__(self, folder: Path) -> None:
        self._mark = uuid.uuid4().hex
        environment = os.environ | {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "200", MARK: self._mark}
        command = ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit"]
        self._child: Any = pexpect.spawn(
            sys.executable, command, cwd=str(folder), env=environment, encoding="utf-8", timeout=TIMEOUT_S
        )
        self._child.setecho(False)
        self._child.expect(PROMPT)

    def type(self, line: str, prompt: str = PROMPT) -> str:
        """What is shown until the next prompt."""
        self._child.sendline(line)
        self._child.expect(prompt)
        shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", str(self._child.before)).replace("\r\n", "\n")
        return LOGGED.sub("", shown)

    def cell(self, text: str) -> str:
        """A cell of several lines; two empty ones end it."""
        for line in [*text.splitlines(), ""]:
            self._child.sendline(line)
            self._child.expect(r"\.\.\.: ")
        return self.type("")

    def leave(self) -> None:
        """As a person does; then nothing of it is left."""
        self._child.sendline("exit")
        self._child.expect(pexpect.EOF)
        self._child.close()
        end_marked(self._mark)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = tmp_path_factory.mktemp("terminal")
    made = Terminal(folder)
    try:
        made.type("%load_ext nbserve")
        assert "ratio version 1: ready" in made.cell(CELL)
        made.type("import nbserve; endpoint = nbserve.Endpoint.find('ratio')")
        assert "ZeroDivisionError" in made.type("endpoint.predict({'a': 7, 'b': 0})")
        yield made
    finally:
        made.leave()


def failure(terminal: Terminal) -> str:
    """The id of the last one."""
    return terminal.type("print(endpoint.failures[0].id)").strip()


def test_pdb_opens_on_the_cells_own_line(terminal: Terminal) -> None:
    seen = terminal.type(f"%nbserve replay {failure(terminal)} --pdb", DEBUGGER)
    assert re.search(r"result = a / b\n", seen.rpartition("---> ")[2])
    assert "(6)one()" in seen.replace("\n", "")
    assert terminal.type("p a, b", DEBUGGER).strip() == "(7, 0)"
    assert "[{'a': 7, 'b': 0}]" in terminal.type("up", DEBUGGER) + terminal.type("up", DEBUGGER) + terminal.type(
        "p rows", DEBUGGER
    )
    terminal.type("q")


def test_debug_afterwards_opens_there_too(terminal: Terminal) -> None:
    word = failure(terminal)
    seen = terminal.type(f"%nbserve replay {word}")
    assert "ZeroDivisionError: division by zero" in seen
    assert "pipeline.py" not in seen, "no frame of ours"
    assert "result = a / b" in terminal.type("%debug", DEBUGGER)
    assert terminal.type("p b", DEBUGGER).strip() == "0"
    terminal.type("q")


def test_both_answers_against_the_live_endpoint(terminal: Terminal) -> None:
    seen = terminal.type(f"%nbserve replay {failure(terminal)} --against live")
    assert "here: ZeroDivisionError: division by zero" in seen
    assert "live: 500 ZeroDivisionError: division by zero" in seen
