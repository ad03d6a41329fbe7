"""What a rule of the doctor says: one finding. Made by hardware.py and surroundings.py, shown by tables.py."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["LEVELS", "Finding", "Level", "note", "ok", "problem", "warning"]

Level = Literal["problem", "warning", "note", "ok"]
LEVELS: tuple[Level, ...] = ("problem", "warning", "note", "ok")
"""Worst first. problem: serving fails, or will soon. warning: it works, slower or less surely. note: good to know."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`what` was found, with its number; `why` it matters for serving; what `todo` about it. "ok" has no more."""

    level: Level
    area: str
    what: str
    why: str = ""
    todo: str = ""


def ok(area: str, what: str) -> Finding:
    """All is well."""
    return Finding(level="ok", area=area, what=what)


def note(area: str, what: str, why: str, todo: str = "") -> Finding:
    """Good to know."""
    return Finding(level="note", area=area, what=what, why=why, todo=todo)


def warning(area: str, what: str, why: str, todo: str) -> Finding:
    """It works, but slower or less surely than it could."""
    return Finding(level="warning", area=area, what=what, why=why, todo=todo)


def problem(area: str, what: str, why: str, todo: str) -> Finding:
    """Serving fails, or soon will."""
    return Finding(level="problem", area=area, what=what, why=why, todo=todo)
