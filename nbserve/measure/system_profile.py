"""`--system`: gateway and workers sampled by py-spy from outside, and the share of each part. Called by profiling.py.

py-spy (optional) reads the stacks of a running Python process without its help, a hundred times a second, native frames
included. Sampling is a process of its own; adding up and sorting frames into parts is pure.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

import nbserve
from nbserve.errors import MeasureError, UsageError
from nbserve.measure.operators import Flame

__all__ = ["Part", "SystemProfile", "find_py_spy", "read_stacks", "start_sampling", "summed_up"]

RATE_HZ = 100
"""py-spy's default: under a percent of a core for a process."""
GRACE_S = 20.0
"""How long py-spy may take to write its file after the time it sampled."""

Part = Literal["framework", "python", "native", "idle"]
"""framework: nbserve and what it is made of; python: the handler, other Python; native: compiled code; idle: waits."""

_FRAMEWORK = re.compile(
    r"(site-packages|python3\.\d+)/(tornado|asyncio|uvloop|ipykernel|jupyter_client|zmq|msgspec|httptools|selectors)[/.]"
)
_OURS = str(Path(nbserve.__file__).parent) + "/"
_WAITS = re.compile(
    r"^(_?select|_?poll|epoll_p?wait2?|__?epoll|pselect|do_epoll_wait|__poll|clock_nanosleep|futex|__futex\S*|"
    r"PyThread_acquire_lock_timed|pthread_cond_\S*wait\S*|sem_wait\S*|recv|__libc_recv|read|__read|wait|accept4?)\b"
)
_FRAME = re.compile(r"^(?P<name>.*?) \((?P<file>[^()]*)\)$")


class SystemProfile(msgspec.Struct, kw_only=True):
    """Shares of samples, by process and in all; a share of 1 is all samples of that process."""

    samples: int
    seconds: float
    shares: dict[str, dict[Part, float]]
    """Process ("gateway", "worker 0") -> part -> share."""
    folded: dict[str, int] = msgspec.field(default_factory=dict)
    """Stack, outermost first, with ";" between frames -> samples: what flame graph programs read."""
    missing: dict[str, str] = msgspec.field(default_factory=dict)
    """Process that could not be sampled -> why."""

    def flame(self) -> Flame:
        """As a flame graph, in samples."""
        root = Flame("all")
        for stack, count in self.folded.items():
            node = root
            node.total_us += count
            for name in stack.split(";"):
                node = node.children.setdefault(name, Flame(name))
                node.total_us += count
            node.self_us += count
            node.calls += count
        return root


def find_py_spy() -> str:
    """The program. Raises UsageError with how to install it."""
    beside = Path(sysconfig.get_path("scripts")) / "py-spy"
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise UsageError("--system needs py-spy, which is not installed", hint="pip install py-spy")
    return found


class Sampling:
    """Runs one py-spy a process until they end by themselves."""

    def __init__(self, py_spy: str, pids: Mapping[str, int], seconds: float, folder: Path) -> None:
        self._seconds = seconds
        self._files = {who: folder / f"{pid}.txt" for who, pid in pids.items()}
        self._running = {who: self._start(py_spy, pid, self._files[who]) for who, pid in pids.items()}

    def _start(self, py_spy: str, pid: int, file: Path) -> subprocess.Popen[bytes]:
        command = [py_spy, "record", "--pid", str(pid), "--output", str(file), "--format", "raw", "--idle"]
        command += ["--rate", str(RATE_HZ), "--duration", str(max(1, round(self._seconds))), "--nonblocking"]
        command += ["--full-filenames"] + (["--native"] if sys.platform == "linux" and _native_works() else [])
        if "--native" in command:
            command.remove("--nonblocking")  # native frames can be read of a process that stands still only
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def result(self) -> SystemProfile:
        """Wait for their end, and add up. Raises MeasureError where none could sample."""
        stacks: dict[str, dict[str, int]] = {}
        missing: dict[str, str] = {}
        for who, process in self._running.items():
            try:
                _, said = process.communicate(timeout=self._seconds + GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                _, said = process.communicate()
            file = self._files[who]
            if process.returncode == 0 and file.exists():
                stacks[who] = read_stacks(file.read_text(errors="replace").splitlines())
            else:
                missing[who] = _why(said.decode(errors="replace"))
        if not stacks:
            reason = next(iter(missing.values()), "there was no process")
            raise MeasureError(f"py-spy could not sample: {reason}", hint=_HINT)
        return summed_up(stacks, self._seconds, missing)

    def stop(self) -> None:
        """End what still runs."""
        for process in self._running.values():
            if process.poll() is None:
                process.kill()
            process.communicate()


def start_sampling(pids: Mapping[str, int], seconds: float, folder: Path) -> Sampling:
    """Begin to sample these processes, by name, for so long; files go to `folder`. Raises UsageError."""
    return Sampling(find_py_spy(), pids, seconds, folder)


def read_stacks(lines: Iterable[str]) -> dict[str, int]:
    """py-spy's raw format: `frame;frame;frame COUNT`, outermost first."""
    stacks: dict[str, int] = {}
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if stack and count.isdigit():
            stacks[stack] = stacks.get(stack, 0) + int(count)
    return stacks


def summed_up(
    stacks: Mapping[str, Mapping[str, int]], seconds: float, missing: Mapping[str, str] | None = None
) -> SystemProfile:
    """Stacks of each process -> shares, and one set of folded stacks."""
    shares: dict[str, dict[Part, float]] = {}
    folded: dict[str, int] = {}
    samples = 0
    for who, counted in stacks.items():
        parts: dict[Part, int] = {"framework": 0, "python": 0, "native": 0, "idle": 0}
        for stack, count in counted.items():
            part = part_of(stack.split(";"))
            parts[part] += count
            key = f"{who};{stack}"
            folded[key] = folded.get(key, 0) + count
        total = sum(parts.values())
        samples += total
        shares[who] = {part: count / total if total else 0.0 for part, count in parts.items()}
    return SystemProfile(samples=samples, seconds=seconds, shares=shares, folded=folded, missing=dict(missing or {}))


def part_of(frames: list[str]) -> Part:
    """Whose time a sample is: by its innermost frame, and, of waits and of native code, by who called it."""
    name, file = _split(frames[-1])
    if _WAITS.match(name):
        return "idle"
    if not file.partition(":")[0].endswith((".py", ".pyx")) and not file.startswith("<"):
        return "native"
    return "framework" if file.startswith(_OURS) or _FRAMEWORK.search(file) else "python"


def _split(frame: str) -> tuple[str, str]:
    """`name (file:line)` -> name, file."""
    found = _FRAME.match(frame)
    return (found["name"], found["file"]) if found else (frame, "")


def _native_works() -> bool:
    """--native stops the process for each sample: too much where py-spy was built without it (macOS, ARM)."""
    return platform.machine() == "x86_64"


def _why(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a word"


_HINT = (
    "py-spy must be allowed to trace other processes: run it as root, or `sysctl kernel.yama.ptrace_scope=0`; in a "
    "container `--cap-add SYS_PTRACE`"
)
