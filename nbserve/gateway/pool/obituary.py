"""What a dead worker can still tell: signal or exit code, what it was doing, its last words, its memory.

Called by gateway/pool/worker.py when a data stream has ended, the memory watch while it loads. Reads the worker's log
file; decides nothing.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable
from pathlib import Path

from nbserve.errors import ErrorInfo
from nbserve.gateway.pool.topology import Memory, read_memory

__all__ = ["Locate", "MemoryWatch", "death", "explain_memory", "time_limit"]

TAIL_BYTES = 8000
TAIL_LINES = 20
WATCH_EVERY_S = 0.25
"""How often memory is looked at while a worker loads."""
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+),? in (?P<name>\S+)')

Locate = Callable[[str, int], str | None]


def death(code: int | None, stage: str, log: Path, locate: Locate) -> ErrorInfo:
    """A worker's end as an error: the signal by name, the stage, and the stack that the interpreter left behind."""
    doing = f" in {stage}" if stage and stage != "idle" else ""
    if code is not None and code < 0:
        message = f"the worker was killed by {_signal_name(-code)}{doing}"
    elif code is not None:
        message = f"the worker exited with code {code}{doing}"
    else:
        message = f"the worker has ended{doing}, its exit status is not known"
    lines, where = _last_words(log, locate)
    return ErrorInfo(
        type="WorkerDied",
        message=message + (f" at {where}" if where else ""),
        status=500,
        where=where,
        stage=stage,
        traceback=lines,
        details={"exit_code": code},
    )


class MemoryWatch:
    """What a worker's memory did while it loaded, to tell a death for want of memory from another."""

    def __init__(self, rss_bytes: Callable[[], int]) -> None:
        self._rss_bytes = rss_bytes
        self._task: asyncio.Task[None] | None = None
        self._peak_rss_bytes = 0
        self._oom_kills: int | None = None

    def start(self) -> None:
        """From now on, `WATCH_EVERY_S`."""
        self._peak_rss_bytes = 0
        self._oom_kills = None
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def stop(self) -> None:
        """Loaded, or failed."""
        if self._task is not None:
            self._task.cancel()

    def explain(self, info: ErrorInfo) -> None:
        """Add to a death what memory has to do with it. Reads files: for a thread."""
        memory = read_memory()
        before = self._oom_kills if self._oom_kills is not None else memory.oom_kills
        explain_memory(info, self._peak_rss_bytes, memory, before)

    async def _watch(self) -> None:
        self._oom_kills = (await asyncio.to_thread(read_memory)).oom_kills
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            self._peak_rss_bytes = max(self._peak_rss_bytes, self._rss_bytes())


def explain_memory(info: ErrorInfo, peak_rss_bytes: int, memory: Memory, oom_kills_before: int) -> None:
    """SIGKILL says nothing of its sender: name memory where the cgroup counted a kill or memory was nearly gone."""
    info.details["peak_rss_bytes"] = peak_rss_bytes
    if info.details.get("exit_code") != -signal.SIGKILL:
        return
    total = memory.total_bytes
    figures = f"while it loaded its memory was up to {peak_rss_bytes / 1e9:.1f} GB, of {total / 1e9:.1f} GB in all"
    if memory.oom_kills > oom_kills_before or peak_rss_bytes > 0.8 * total:
        info.type, info.status = "OutOfMemory", 507
        info.message = f"out of memory: the worker was killed in {info.stage}; {figures}"
        info.hint = "use fewer workers or a smaller model, or give the machine more memory"
    else:
        info.message += f"; {figures}"


def time_limit(died: ErrorInfo, limit_s: float) -> ErrorInfo:
    """For a batch whose handler would not stop: the client's 504."""
    return ErrorInfo(
        type="ResponseTimeout",
        message=f"the handler took longer than {limit_s:g} s, did not stop when interrupted, and was killed",
        status=504,
        where=died.where,
        stage=died.stage,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(log: Path, locate: Locate) -> tuple[list[str], str]:
    """End of what the process wrote outside Jupyter, frames in the user's terms; and the innermost user frame.

    faulthandler writes the most recent frame first.
    """
    try:
        text = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
    except OSError:
        return [], ""
    lines: list[str] = []
    where = ""
    for line in text.splitlines():
        frame = _FRAME.match(line)
        place = locate(frame["file"], int(frame["line"])) if frame else None
        if frame is not None and place is not None:
            where = where or place
            lines.append(f"{place}, in {frame['name']}")
        elif line.strip() and not line.startswith("Extension modules:"):
            lines.append(line)
    return lines[-TAIL_LINES:], where
