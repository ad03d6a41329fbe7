"""`--system`: gateway and workers sampled by py-spy from outside, and the share of each part. Called by profiling.py.

py-spy (optional) reads the stacks of a running Python process without its help, native frames included, and notes when.
Sampling is a process of its own for each; adding up and sorting frames into parts is pure.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

import nbserve
from nbserve.errors import UsageError
from nbserve.measure.operators import Flame
from nbserve.wire.profile import MAX_SECONDS

__all__ = [
    "Part",
    "Sampling",
    "Stack",
    "SystemProfile",
    "Track",
    "find_py_spy",
    "part_of",
    "read_tracks",
    "start_sampling",
    "summed_up",
    "why_not",
]

RATE_HZ = 50
"""py-spy's default is 100; with native frames a process stands still for each sample, for a millisecond and more."""
BEGIN_S = 30.0
"""How long py-spy may take to begin: it reads the symbols of all libraries first, which takes seconds with torch."""
GRACE_S = 20.0
"""How long it may take to write its file once it is told to stop."""
SETTLE_S = 2.5
"""Left alone before anything counts: when py-spy first meets a process inside a library it reads its symbols, and the
process stands still. Under traffic that was over after two seconds (docs/profiling.md)."""
LOOK_EVERY_S = 0.05

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
_PROFILER = re.compile(r"(?:^|\.)(?:start|stop|_record|_weigh) \(" + re.escape(_OURS) + r"worker/profiler\.py:")
_FRAME = re.compile(r"^(?P<name>.*?) \((?P<file>[^()]*)\)$")


class Stack(NamedTuple):
    """One thread's stack, outermost frame first, as `name (file:line)`; seconds by the machine's monotonic clock."""

    begin_s: float
    end_s: float
    frames: tuple[str, ...]


class Track(NamedTuple):
    """One thread of a process ("gateway", "worker 0"): its stacks in their order."""

    process: str
    thread: str
    stacks: list[Stack]


class SystemProfile(msgspec.Struct, kw_only=True):
    """Where processes spent their time, added up over their threads; a share of 1 is all of a process."""

    seconds: float
    """How long it was sampled; 0 = it was not."""
    shares: dict[str, dict[Part, float]] = msgspec.field(default_factory=dict)
    """Process ("gateway", "worker 0") -> part -> share."""
    folded: dict[str, float] = msgspec.field(default_factory=dict)
    """Stack, outermost first, with ";" between frames -> milliseconds: what flame graph programs read."""
    missing: dict[str, str] = msgspec.field(default_factory=dict)
    """Process that could not be sampled -> why."""

    def flame(self) -> Flame:
        """As a flame graph."""
        root = Flame("all")
        for stack, ms in self.folded.items():
            node, us = root, 1e3 * ms
            node.total_us += us
            for name in stack.split(";"):
                node = node.children.setdefault(name, Flame(name))
                node.total_us += us
            node.self_us += us
            node.calls += 1
        return root


def find_py_spy() -> str:
    """The program. Raises UsageError with how to install it."""
    beside = Path(sysconfig.get_path("scripts")) / "py-spy"
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise UsageError("--system needs py-spy, which is not installed", hint="pip install py-spy")
    return found


class Sampling:
    """One py-spy a process, from the start until `finish`; each ends by itself where that never comes."""

    def __init__(self, py_spy: str, pids: Mapping[str, int], folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started_s: dict[str, float] = {}
        self._began_s = 0.0
        for who, pid in pids.items():
            with self._log(pid).open("wb") as log:
                self._running[who] = subprocess.Popen(
                    _command(py_spy, pid, self._file(pid)), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            self._started_s[who] = time.monotonic()  # it has begun to run, and counts its times from its first moments
        self._pids = dict(pids)

    def _file(self, pid: int) -> Path:
        return self._folder / f"{pid}.json"

    def _log(self, pid: int) -> Path:
        return self._folder / f"{pid}.log"

    def wait_begun(self) -> None:
        """Until all take samples and have settled, or have ended."""
        deadline_s = time.monotonic() + BEGIN_S
        waiting = dict(self._running)
        while waiting and time.monotonic() < deadline_s:
            time.sleep(LOOK_EVERY_S)
            waiting = {
                who: process
                for who, process in waiting.items()
                if process.poll() is None and b"Sampling process" not in self._log(self._pids[who]).read_bytes()
            }
        if any(process.poll() is None for process in self._running.values()):
            time.sleep(SETTLE_S)
        self._began_s = time.monotonic()

    def wait(self, seconds: float) -> None:
        """Until that much has been sampled."""
        time.sleep(max(0.0, self._began_s + seconds - time.monotonic()))

    def finish(self) -> tuple[SystemProfile, list[Track]]:
        """End it, and add up."""
        ended_s = time.monotonic()
        for process in self._running.values():
            process.send_signal(signal.SIGINT)  # it then writes its file
        tracks: list[Track] = []
        missing: dict[str, str] = {}
        for who, process in self._running.items():
            try:
                process.wait(GRACE_S)
                events = msgspec.json.decode(self._file(self._pids[who]).read_bytes())
                tracks += read_tracks(who, events, self._started_s[who], (self._began_s, ended_s))
            except (subprocess.TimeoutExpired, OSError, msgspec.MsgspecError):
                missing[who] = why_not(self._log(self._pids[who]).read_text(errors="replace"), _ptrace_scope())
        return summed_up(tracks, ended_s - self._began_s if tracks else 0.0, missing), tracks

    def stop(self) -> None:
        """End what still runs."""
        for process in self._running.values():
            with contextlib.suppress(OSError):
                process.kill()
            process.wait()


def start_sampling(pids: Mapping[str, int], folder: Path) -> Sampling:
    """Begin to sample these processes, by name; files go to `folder`. Raises UsageError without py-spy."""
    return Sampling(find_py_spy(), pids, folder)


def _command(py_spy: str, pid: int, file: Path) -> list[str]:
    command = [py_spy, "record", "--pid", str(pid), "--output", str(file), "--format", "chrometrace", "--idle"]
    command += ["--rate", str(RATE_HZ), "--duration", str(round(MAX_SECONDS + BEGIN_S + GRACE_S)), "--full-filenames"]
    # native frames can be read of a process that stands still only; py-spy is built with them for x86-64 alone
    has_native = sys.platform == "linux" and platform.machine() == "x86_64"
    return [*command, "--native" if has_native else "--nonblocking"]


def read_tracks(
    process: str, events: Iterable[Mapping[str, Any]], started_s: float, within: tuple[float, float]
) -> list[Track]:
    """py-spy's Chrome trace: frames that begin (B) and end (E), in microseconds since `started_s`; by thread.

    What the profiler itself does between batches is left out.
    """
    open_: dict[int, list[str]] = {}
    since_s: dict[int, float] = {}
    stacks: dict[int, list[Stack]] = {}

    def close(thread: int, now_s: float) -> None:
        frames, begin_s = tuple(open_[thread]), max(since_s[thread], within[0])
        end_s = min(now_s, within[1])
        if frames and end_s > begin_s and not any(map(_PROFILER.search, frames)):
            stacks[thread].append(Stack(begin_s, end_s, frames))

    for event in events:
        thread, at_s = event["tid"], started_s + event["ts"] / 1e6
        if thread not in open_:
            open_[thread], stacks[thread], since_s[thread] = [], [], at_s
        if at_s > since_s[thread]:
            close(thread, at_s)
            since_s[thread] = at_s
        if event["ph"] == "B":
            open_[thread].append(_frame(event))
        elif event["ph"] == "E" and open_[thread]:
            open_[thread].pop()
    ordered = sorted((each for each in stacks.values() if each), key=lambda each: not _is_main(each[0]))
    return [Track(process, f"samples {number}", each) for number, each in enumerate(ordered, 1)]


def _frame(event: Mapping[str, Any]) -> str:
    args = event.get("args") or {}
    file, line = args.get("filename") or "", args.get("line") or 0
    return f"{event['name']} ({file}:{line})".replace(";", ":") if line else f"{event['name']} ({file})"


def _is_main(stack: Stack) -> bool:
    return any(frame.startswith("<module> ") for frame in stack.frames)


def summed_up(tracks: Sequence[Track], seconds: float, missing: Mapping[str, str] | None = None) -> SystemProfile:
    """Stacks of each process -> shares, and one set of folded stacks."""
    shares: dict[str, dict[Part, float]] = {}
    folded: dict[str, float] = {}
    for process, _, stacks in tracks:
        parts = shares.setdefault(process, {"framework": 0.0, "python": 0.0, "native": 0.0, "idle": 0.0})
        for begin_s, end_s, frames in stacks:
            parts[part_of(frames)] += end_s - begin_s
            key = ";".join((process, *frames))
            folded[key] = folded.get(key, 0.0) + 1e3 * (end_s - begin_s)
    for parts in shares.values():
        total_s = sum(parts.values()) or 1.0
        parts.update({part: part_s / total_s for part, part_s in parts.items()})
    return SystemProfile(seconds=seconds, shares=shares, folded=folded, missing=dict(missing or {}))


def part_of(frames: Sequence[str]) -> Part:
    """Whose time a sample is: by its innermost frame; waits by the innermost one with a name, as libc may have none."""
    named = next((frame for frame in reversed(frames) if not frame.startswith("0x")), "")
    if _WAITS.match(_split(named)[0]):
        return "idle"
    _, file = _split(frames[-1])
    if not file.partition(":")[0].endswith((".py", ".pyx")) and not file.startswith("<"):
        return "native"
    return "framework" if file.startswith(_OURS) or _FRAMEWORK.search(file) else "python"


def _split(frame: str) -> tuple[str, str]:
    """`name (file:line)` -> name, file."""
    found = _FRAME.match(frame)
    return (found["name"], found["file"]) if found else (frame, "")


def why_not(said: str, ptrace_scope: int | None) -> str:
    """What py-spy said -> why a process could not be sampled, and how it can be. ptrace_scope: Yama's, where it is."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if not re.search(r"permission|not permitted|SYS_PTRACE", said, re.IGNORECASE):
        return lines[-1].removeprefix("Error: ") if lines else "py-spy ended without a word"
    mend = _SCOPES.get(ptrace_scope or 0, _SCOPES[0])
    return f"py-spy may not trace other processes: {mend}"


_SCOPES = {
    0: "in a container it needs `--cap-add SYS_PTRACE`, elsewhere the user that serves, or root",
    1: "kernel.yama.ptrace_scope is 1; `sudo sysctl kernel.yama.ptrace_scope=0` allows it, until the next boot",
    2: "kernel.yama.ptrace_scope is 2, for administrators alone: run it as root",
    3: "kernel.yama.ptrace_scope is 3: nobody may, until the machine is booted with another",
}


def _ptrace_scope() -> int | None:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text()) if os.geteuid() else None
    except (OSError, ValueError):
        return None
