"""What a rule of advice says. The words are those of doctor/finding.py; the number and its threshold come with it."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["LEVELS", "Finding", "Level"]

Level = Literal["warning", "note"]
LEVELS: tuple[Level, ...] = ("warning", "note")
"""Worst first. warning: time or memory is lost that need not be. note: good to know."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`what` was found, with its number; `why` it matters; what `todo` about it."""

    rule: str
    level: Level
    what: str
    why: str
    todo: str
    value: float
    """What was measured, in the unit of the threshold."""
    threshold: float
    """The rule speaks from here on."""
    source: str
    """Where the threshold comes from."""
