"""How a widget's messages travel in the kernel. Called by each widget when it is made."""

from __future__ import annotations

from typing import Any

__all__ = ["hear_in_subshells"]


def hear_in_subshells(comm: Any) -> None:
    """Have messages of the browser handled in the subshell that it chose, while a cell runs.

    ipykernel 7.4 sends them to the loop that last published on the comm, which is the main one for a widget that a cell
    shows: they would wait for the end of the next cell. Older ones do as the browser says. Handlers of such messages
    must be safe on any thread.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default
