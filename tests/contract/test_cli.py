"""The console script as a process, with a gateway that serves: signals, pipes, widths, completion in a real shell."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from nbserve import completion
from tests.unit.gateway.running import OBEDIENT, TIMEOUT_S, Running, make_bundle, running, until

SCRIPT = Path(sys.executable).parent / "nbserve"
BYTES = OBEDIENT.replace('return {"echo": payload}', 'return b"\\x00\\xff\\n"')


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serves `obedient`, and is the only one that the commands of this module find."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        patch.setenv("NBSERVE_HOME", str(folder / "home"))
        with running(name=str(folder / "a [b] notebook with a name that is rather long.ipynb")) as made:
            made.client.register(str(make_bundle(folder)))
            yield made


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}  # pytest-xdist sets it
    return subprocess.run([SCRIPT, *words], capture_output=True, env=inherited | environment, timeout=60)


def following(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([SCRIPT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def print_until_shown(gateway: Running, stream: IO[bytes] | None, word: str) -> bytes:
    """Have the handler print the word until a follower, which joins at some time, shows it."""
    assert stream is not None
    for _ in range(300):
        gateway.predict({"print": word})
        if select.select([stream], [], [], 0.1)[0]:
            line = stream.readline()
            if word.encode() in line:
                return line
    raise AssertionError(f"{word} was not shown")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_followed_logs_come_as_they_are_printed_and_end_with_the_signal(
    gateway: Running, number: signal.Signals, code: int
) -> None:
    with following("logs", "obedient", "-f") as process:
        line = print_until_shown(gateway, process.stdout, f"word-{code}")
        assert line.startswith(b"[obedient #0 batch ")
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err.strip() == b""


def test_followed_logs_as_json_are_one_object_a_line(gateway: Running) -> None:
    with following("logs", "obedient", "-f", "--json") as process:
        event = json.loads(print_until_shown(gateway, process.stdout, "as-json"))
        assert (event["kind"], event["model"]) == ("log", "obedient")
        process.terminate()


def test_a_reader_that_has_gone_ends_them_without_a_word(gateway: Running) -> None:
    with following("logs", "obedient", "-f") as process:
        print_until_shown(gateway, process.stdout, "before")
        assert process.stdout is not None
        process.stdout.close()
        until(lambda: gateway.predict({"print": "into the closed pipe"}) and process.poll() is not None, "it has ended")
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_followed_logs_end_with_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    with running() as gateway:
        gateway.client.register(str(make_bundle(tmp_path)))
        with following("logs", "obedient", "-f") as process:
            print_until_shown(gateway, process.stdout, "here")
            gateway.process.terminate()
            _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")


def test_into_a_pipe_a_row_is_a_line_however_long(gateway: Running) -> None:
    rows = [line for line in run("list").stdout.decode().splitlines() if line.startswith("obedient")]
    assert len(rows) == 1
    assert f"http://127.0.0.1:{gateway.port}/predictions/obedient" in rows[0]
    assert "a [b] notebook with a name that is rather long.ipynb" in rows[0]
    narrow = run("list", COLUMNS="60").stdout.decode()
    assert max(map(len, narrow.splitlines())) <= 60
    assert b"\x1b" not in run("status", FORCE_COLOR="1").stdout


def test_in_a_terminal_tables_fit_into_it(gateway: Running) -> None:
    shown = in_terminal("list", columns=70)
    assert "obedient" in shown
    assert max(map(len, shown.splitlines())) <= 70


def test_an_answer_that_is_bytes_goes_into_a_file_as_it_is(gateway: Running, tmp_path: Path) -> None:
    gateway.client.register(str(make_bundle(tmp_path, "raw", BYTES, sample=None)))
    try:
        done = run("predict", "raw", "1")
        assert (done.stdout, done.returncode) == (b"\x00\xff\n", 0)
        assert "3 bytes of application/octet-stream" in in_terminal("predict", "raw", "1")
    finally:
        gateway.client.unregister("raw")
    assert json.loads(run("predict", "obedient", "[1, 2]").stdout) == {"echo": [1, 2]}


def test_what_a_handler_prints_fits_any_encoding(gateway: Running) -> None:
    gateway.predict({"print": "größer →"})
    until(lambda: "→" in run("logs", "obedient").stdout.decode(), "it is in the log")
    done = run("logs", "obedient", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert b"gr\\xf6\\xdfer \\u2192" in done.stdout
    assert done.stderr == b""


def test_explain_of_the_bundle_and_of_the_endpoint(gateway: Running) -> None:
    bundle = gateway.client.model("obedient").bundle
    by_name = json.loads(run("explain", "obedient", "--json").stdout)
    by_folder = json.loads(run("explain", bundle, "--json").stdout)
    assert by_name["digest"] == by_folder["digest"]
    assert (by_name["version"], by_folder["version"]) == ("1", "")
    assert by_name["proof"]["checked"]
    assert b"`nbserve verify` sends its sample" in run("explain", bundle).stdout


# -- completion ------------------------------------------------------------------------------------------------------


@pytest.fixture
def bash() -> Iterator[Terminal]:
    """An interactive bash that has loaded the completion script, as ~/.bashrc would."""
    command = shutil.which("bash")
    assert command, "completion is tried in a real shell"
    with Terminal([command, "--norc", "--noprofile", "-i"], PATH=f"{SCRIPT.parent}:{os.environ['PATH']}") as terminal:
        terminal.send('eval "$(nbserve completion bash)"; echo rea""dy\n')
        terminal.until("ready\n")
        yield terminal


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("nbserve expl", "nbserve explain "),
        ("nbserve status --js", "nbserve status --json "),
        ("nbserve completion zs", "nbserve completion zsh "),
        ("nbserve predict obed", "nbserve predict obedient "),
        ("nbserve verify obed", "nbserve verify obedient "),
        ("nbserve verify /us", "nbserve verify /usr/"),
        ("nbserve serve /us", "nbserve serve /usr/"),
        ("nbserve status obedient --version ", "nbserve status obedient --version 1 "),
    ],
)
def test_tab_in_bash(gateway: Running, bash: Terminal, typed: str, becomes: str) -> None:
    bash.send(f"{typed}\t")
    assert bash.until(becomes)


def test_tab_completes_the_ids_of_gateways(gateway: Running, bash: Terminal) -> None:
    name = gateway.process.config.id
    bash.send(f"nbserve list --gateway {name[:4]}\t")
    assert bash.until(f"--gateway {name} ")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_what_the_scripts_of_other_shells_ask_and_get(gateway: Running, shell: str) -> None:
    script = run("completion", shell).stdout.decode()
    assert f"{completion.VARIABLE}={shell}_complete" in script
    words = {"COMP_WORDS": "nbserve predict obed", "COMP_CWORD": "obed" if shell == "fish" else "2"}
    done = run(**words, **{completion.VARIABLE: f"{shell}_complete"})
    assert done.stdout.decode().split() == (["plain,obedient"] if shell == "fish" else ["plain", "obedient", "_"])


def test_a_gateway_that_hangs_does_not_hold_up_a_tab(gateway: Running) -> None:
    os.kill(gateway.process.pid, signal.SIGSTOP)
    try:
        words = {"COMP_WORDS": "nbserve predict ", "COMP_CWORD": "2", completion.VARIABLE: "bash_complete"}
        began = time.monotonic()
        done = run(**words)
        assert time.monotonic() - began < 10 * completion.ANSWER_TIMEOUT_S
    finally:
        os.kill(gateway.process.pid, signal.SIGCONT)
    assert (done.stdout.strip(), done.stderr, done.returncode) == (b"", b"", 0)


class Terminal:
    """A command in a pseudo terminal of its own; ended when the block is left."""

    def __init__(self, command: list[str], *, columns: int = 200, **environment: str) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.environ.update(TERM="dumb", PS1="$ ", COLUMNS=str(columns), **environment)
            os.execv(command[0], command)
        self._shown = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._terminal)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def send(self, text: str) -> None:
        """Type it."""
        os.write(self._terminal, text.encode())

    def until(self, text: str) -> str:
        """What is shown, once it holds this text, or all of it once the command has ended."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self._shown:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self._shown}"
            if select.select([self._terminal], [], [], 0.2)[0]:
                try:
                    self._shown += os.read(self._terminal, 65536).decode(errors="replace").replace("\r\n", "\n")
                except OSError:  # the other end is closed
                    break
        return self._shown


def in_terminal(*words: str, columns: int = 100) -> str:
    """What the command shows in a terminal of so many columns."""
    with Terminal([str(SCRIPT), *words], columns=columns) as terminal:
        return terminal.until("(never shown)")
