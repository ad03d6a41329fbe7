"""What a process uses, by /proc: memory shared and its own, CPU time, and what it has written over of mapped files.

Called in a thread, by way of worker.py: the kernel walks all pages of the process for it, 10 ms for 600 MB. Sources:
proc_pid_smaps(5); Documentation/filesystems/proc.rst of the Linux kernel. Elsewhere psutil tells a part of it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import psutil

__all__ = ["MEMORY_FILE", "Usage", "cpu_seconds", "overwritten_bytes", "usage"]


MEMORY_FILE = "nbserve-weights"
"""Name of the files in memory that hold copies of weights (node_weights.py)."""


class Usage(NamedTuple):
    """What a process uses; None where the system does not tell.

    pss_bytes: shared pages count in parts. uss_bytes: pages that no other process has. private_dirty_bytes: those of
    them that hold data of its own, which ending it would free.
    """

    rss_bytes: int
    pss_bytes: int | None
    cpu_s: float
    uss_bytes: int | None = None
    private_dirty_bytes: int | None = None


def usage(pid: int, proc: Path = Path("/proc")) -> Usage | None:
    """Of this process now; None where there is none."""
    try:
        process = psutil.Process(pid)
        times, rss = process.cpu_times(), int(process.memory_info().rss)
    except psutil.Error:
        return None
    cpu_s = times.user + times.system
    try:
        fields = _sums((proc / str(pid) / "smaps_rollup").read_bytes())
    except OSError:  # another system, Linux before 4.14, or it has just ended
        return Usage(rss, None, cpu_s)
    dirty = fields.get(b"Private_Dirty", 0)
    return Usage(rss, fields.get(b"Pss"), cpu_s, dirty + fields.get(b"Private_Clean", 0), dirty)


def cpu_seconds(pid: int) -> float | None:
    """CPU time of this process, all its threads; cheap. None where there is none."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def overwritten_bytes(pid: int, folder: Path, proc: Path = Path("/proc")) -> int | None:
    """Pages of files below `folder`, or of copies of weights in memory, that the process maps privately and has
    written to: they are its own now.

    None where the system does not tell, or the process has ended.
    """
    try:
        smaps = (proc / str(pid) / "smaps").read_bytes()
    except OSError:
        return None
    paths = os.fsencode(folder).replace(b"\n", b"\\012") + b"/", f"/memfd:{MEMORY_FILE} ".encode()
    return sum(_written(smaps, b" " + path) for path in paths)  # a mapping's first line ends with the path


def _written(smaps: bytes, mark: bytes) -> int:
    total, at = 0, smaps.find(mark)
    while at >= 0:
        begin = smaps.index(b"\n", at) + 1
        end = _MAPPING.search(smaps, begin)
        total += _sums(smaps[begin : end.start() if end else len(smaps)]).get(b"Anonymous", 0)
        at = smaps.find(mark, begin)
    return total


_MAPPING = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ ", re.MULTILINE)
_FIELD = re.compile(rb"^(\w+):\s+(\d+) kB$", re.MULTILINE)


def _sums(text: bytes) -> dict[bytes, int]:
    """The fields of one mapping, or of the roll-up, in bytes."""
    return {name: int(number) * 1024 for name, number in _FIELD.findall(text)}
