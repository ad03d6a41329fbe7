"""What `top` and `ps -e` call a process. Used by the main modules of gateway, worker and zygote."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["name_process"]


def name_process(name: str) -> None:
    """At most 15 characters (proc(5)). Linux; elsewhere it stays as it is.

    A forked worker has the command line of its zygote: this tells them apart.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)
