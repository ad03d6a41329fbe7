"""How long a process was ready to run and had no CPU: who was starved. Used by `load.py` and `target.py`."""

from __future__ import annotations

from pathlib import Path

__all__ = ["waited_s"]


def waited_s(pid: int | None = None) -> float:
    """Seconds since its start, of its main thread; `pid` None = this process. 0 where the system does not say.

    The second field of /proc/PID/schedstat, "time spent waiting on a runqueue" (Linux, sched-stats.rst).
    """
    try:
        text = Path(f"/proc/{pid or 'self'}/schedstat").read_text(encoding="ascii")
        return int(text.split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
