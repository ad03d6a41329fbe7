"""docker or podman, by their command lines: find one that works, build with progress, run, ask inside, stop.

Called by `image.py` and `proof.py`. Only options that both understand, docker's classic builder included.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nbserve.errors import ExportError
from nbserve.export.context import HARDENED, STOP_TIMEOUT_S

__all__ = ["BuiltImage", "Container", "Engine", "Layer", "build_step", "find_engine", "parse_history"]

_INFO_TIMEOUT_S = 30.0
_CALL_TIMEOUT_S = 120.0
_SHOWN_LINES = 30

_STEPS = (
    re.compile(r"^(?:\[\d+/\d+\] )?STEP (\d+)/(\d+)\s?: (.*)$", re.IGNORECASE),  # docker's classic builder, podman
    re.compile(r"^#\d+ \[(?:[\w-]+ +)?(\d+)/(\d+)\] (.*)$"),  # BuildKit, plain progress
)


_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kMGT]?B)")
_UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


class BuiltImage(NamedTuple):
    """An image as the engine knows it."""

    id: str
    size_bytes: int
    layers: int


class Layer(msgspec.Struct, frozen=True):
    """One layer of an image: the step that made it, and what it adds."""

    what: str
    size_bytes: int


class Container(NamedTuple):
    """How a container of ours stands."""

    running: bool
    exit_code: int


def build_step(line: str) -> str:
    """A line of a build's output -> "step 3/9: RUN ..."; "" for all others."""
    for pattern in _STEPS:
        if match := pattern.match(line.strip()):
            number, of, what = match.groups()
            return f"step {number}/{of}: {what if len(what) <= 80 else f'{what[:77]}...'}"
    return ""


def parse_history(told: str) -> list[Layer]:
    """Lines of `SIZE<tab>STEP`, the last layer first, as `image history` gives them -> layers, the first one first."""
    layers = []
    for line in reversed(told.splitlines()):
        size, _, step = line.partition("\t")
        what = " ".join(step.split()).removeprefix("/bin/sh -c ").removeprefix("#(nop) ").partition(" # buildkit")[0]
        if (found := _SIZE.fullmatch(size.strip())) and float(found[1]) > 0:
            layers.append(Layer(what, round(float(found[1]) * _UNITS[found[2]])))
    return layers


@dataclass(frozen=True)
class Engine:
    """One engine that answers. `name`: its command, docker or podman. Methods raise ExportError with its own words."""

    name: str

    def build(
        self,
        context: Path,
        tag: str,
        say: Callable[[str], None],
        hear: Callable[[str], None] = lambda line: None,
    ) -> BuiltImage:
        """Build a context; `say` hears of each step as it begins, `hear` each line."""
        command = [self.name, "build", "-t", tag, "."]
        if self.name == "podman":
            command[2:2] = ["--format", "docker"]  # OCI images know no health check
        tail: deque[str] = deque(maxlen=_SHOWN_LINES)
        environment = os.environ | {"BUILDKIT_PROGRESS": "plain"}
        with subprocess.Popen(
            command,
            cwd=context,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    tail.append(line.rstrip())
                    hear(line)
                    if step := build_step(line):
                        say(step)
            except BaseException:  # Ctrl-C in a notebook reaches us alone; so ended, the engine ends what it started
                process.terminate()
                raise
        if process.returncode:
            raise ExportError(
                f"{self.name} could not build the image (exit code {process.returncode}):\n" + "\n".join(tail),
                hint=f"the context is kept in {context}, where `{' '.join(command)}` does the same; where the build "
                "reaches no index, --vendor puts all wheels beside it",
            )
        return self.image(tag)

    def image(self, tag: str) -> BuiltImage:
        """What the engine knows of an image."""
        facts = json.loads(self._call("image", "inspect", tag))[0]
        return BuiltImage(str(facts["Id"]), int(facts["Size"]), len(facts["RootFS"]["Layers"]))

    def layers(self, tag: str) -> list[Layer]:
        """The layers of an image that add something, from the first to the last."""
        form = "{{.Size}}\t{{.CreatedBy}}"
        told = self._call("image", "history", "--no-trunc", "--format", form, tag)
        return parse_history(told)

    def start(self, tag: str, name: str, environment: Mapping[str, str]) -> None:
        """Start an image as README.md says, but with no port published: it is asked from inside.

        Values of the environment go over our own, never in a command line.
        """
        hardened = " ".join(HARDENED).split()
        named = [word for key in environment for word in ("-e", key)]
        self._call("run", "-d", "--name", name, *hardened, *named, tag, environment=environment)

    def container(self, name: str) -> Container:
        """How a container stands."""
        state = json.loads(self._call("container", "inspect", name))[0]["State"]
        return Container(bool(state["Running"]), int(state["ExitCode"]))

    def ask(self, name: str, command: Sequence[str], stdin: bytes) -> bytes:
        """Run a command in a running container; its standard output."""
        done = subprocess.run(
            [self.name, "exec", "-i", name, *command], input=stdin, capture_output=True, timeout=_CALL_TIMEOUT_S
        )
        if done.returncode:
            raise ExportError(f"{self.name} exec failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def logs(self, name: str) -> str:
        """The last lines of a container's log."""
        done = subprocess.run(
            [self.name, "logs", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_CALL_TIMEOUT_S
        )
        return "\n".join(done.stdout.decode(errors="replace").splitlines()[-_SHOWN_LINES:])

    def stop(self, name: str) -> int:
        """SIGTERM, and after its grace SIGKILL; the exit code."""
        self._call("stop", "-t", str(STOP_TIMEOUT_S), name)
        return self.container(name).exit_code

    def remove(self, name: str) -> None:
        """Remove a container, running or not; none of that name is no error."""
        subprocess.run([self.name, "rm", "-f", name], capture_output=True, timeout=_CALL_TIMEOUT_S)

    def _call(self, *words: str, environment: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            [self.name, *words],
            env=os.environ | dict(environment or {}),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_CALL_TIMEOUT_S,
        )
        if done.returncode:
            raise ExportError(f"{self.name} {' '.join(words[:2])} failed: {done.stderr.strip()}")
        return done.stdout


def find_engine() -> Engine | None:
    """The first that answers `info`: a client without its daemon is no engine, though `docker --version` succeeds."""
    for name in ("docker", "podman"):
        if _answers(name):
            return Engine(name)
    return None


def _answers(name: str) -> bool:
    command: Any = [name, "info"]
    try:
        return subprocess.run(command, capture_output=True, timeout=_INFO_TIMEOUT_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
