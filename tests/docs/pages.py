"""How the guides are played: their blocks, in page order, in one kernel and one shell.

- ```python is a cell. With `# REQUEST -> ANSWER` as its first line it is a handler, asked by itself (test_guides).
- ```bash is a script, run in the kernel's folder with `nbserve` of this environment on the path.
- ```text right after either is its output; `...` stands for anything.
- a comment right before a block changes that: `<!-- raises -->` a cell that must fail; `<!-- stays: TEXT -->` a script
  that goes on, ready when it has printed TEXT, and must end well when the page ends; `<!-- parsed: why -->` not run.

What a page cannot know is put in: `127.0.0.1:PORT` is the gateway of the page's kernel, and 8080, 8081 and 8082 are
free ports.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.kernels import CellError, Notebook, notebook

__all__ = ["Block", "Shell", "blocks", "differs", "play"]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>[a-z]+)\n(?P<code>.*?)^```$"
    r"(?:\n\n^```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
SHELL_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Block:
    """One fenced block with the output that the page shows for it (None: it shows none)."""

    language: str
    code: str
    output: str | None
    mark: str
    line: int

    @property
    def is_example(self) -> bool:
        """Whether it is a handler with a request and its answer."""
        return self.language == "python" and re.match(r"# [^\n]* -> ", self.code) is not None


def blocks(page: str) -> list[Block]:
    """Fenced blocks in page order; outputs belong to the block before them."""
    return [
        Block(one["language"], one["code"], one["output"], one["mark"] or "", page.count("\n", 0, one.start("code")))
        for one in _BLOCK.finditer(page)
    ]


def differs(expected: str, actual: str) -> str:
    """Empty where an output is as the page shows it, else both of them. How wide a gap is does not count."""
    wanted, got = _plain(expected), _plain(actual)
    pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
    return "" if re.fullmatch(pattern, got, re.DOTALL) else f"the page shows\n{wanted}\nbut it is\n{got}"


def _plain(text: str) -> str:
    lines = (" ".join(line.split()) for line in _COLOUR.sub("", text).splitlines())
    return "\n".join(line for line in lines if line)


def play(page: str, folder: Path) -> int:
    """Run a page in `folder`; how many blocks were run. AssertionError names the block's line."""
    played = 0
    with notebook(folder) as cells, Shell(folder).open() as shell:
        for block in blocks(page):
            if block.language not in ("python", "bash") or block.is_example or block.mark.startswith("parsed"):
                continue
            output = _cell(cells, block) if block.language == "python" else shell.run(block)
            difference = differs(block.output, output) if block.output is not None else ""
            assert not difference, f"line {block.line}: {difference}"
            played += 1
    return played


def _cell(cells: Notebook, block: Block) -> str:
    error, output = False, ""
    try:
        output = cells.run(block.code)
    except CellError as exc:
        error, output = True, str(exc)
    assert error == (block.mark == "raises"), f"line {block.line}: {'an' if error else 'no'} error\n{output}"
    return output


class Shell:
    """Runs scripts in one folder; what goes on is ended, and must end well, when the page does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._going: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._ports = _free_ports(3)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "COLUMNS": "160"}

    @contextmanager
    def open(self) -> Iterator[Shell]:
        """Scripts run within."""
        try:
            yield self
            self._end()
        finally:
            for process, _ in self._going:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def run(self, block: Block) -> str:
        """What a script prints; of one that goes on, what it has printed until it is ready."""
        if block.mark.startswith("stays: "):
            return self._start(block, block.mark.removeprefix("stays: "))
        streams: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}  # mixed, as in a terminal
        done = subprocess.run(
            self._command(block), env=self._environment, cwd=self._folder, timeout=SHELL_TIMEOUT_S, **streams
        )
        output: str = done.stdout
        assert done.returncode == 0, f"line {block.line}: exit code {done.returncode}\n{output}"
        return output

    def _start(self, block: Block, ready: str) -> str:
        log = self._folder / f"line{block.line}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                self._command(block), env=self._environment, cwd=self._folder, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self._going.append((process, log))
        deadline = time.monotonic() + SHELL_TIMEOUT_S
        while ready not in log.read_text():
            assert process.poll() is None, f"line {block.line}: it ended\n{log.read_text()}"
            assert time.monotonic() < deadline, f"line {block.line}: not ready\n{log.read_text()}"
            time.sleep(0.05)
        return log.read_text()

    def _command(self, block: Block) -> list[str]:
        script = block.code
        if "127.0.0.1:PORT" in script:
            listed = [sys.executable, "-m", "nbserve", "list", "--json"]
            found = subprocess.run(listed, env=self._environment, capture_output=True, check=True).stdout
            [place] = {urlsplit(one["url"]).netloc for one in json.loads(found)}
            script = script.replace("127.0.0.1:PORT", place)
        for shown, free in zip(("8080", "8081", "8082"), self._ports, strict=True):
            script = re.sub(rf"\b{shown}\b", str(free), script)
        return ["bash", "-euo", "pipefail", "-c", script]

    def _end(self) -> None:
        for process, _ in self._going:
            process.send_signal(signal.SIGTERM)
        for process, log in self._going:
            code = process.wait(40)
            assert code == 0, f"exit code {code}\n{log.read_text()}"


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in listening:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in listening]
