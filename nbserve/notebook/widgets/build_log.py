"""Lines of a build -> text that can be shown, and how far the build is. Pure; used by `job.py` and `actions.py`."""

from __future__ import annotations

import re

__all__ = ["BuildProgress", "readable"]

LINE_CHARS = 2000
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

_STEPS = (
    re.compile(r"^(?:\[(?P<stage>\d+)/(?P<stages>\d+)\] )?STEP (?P<step>\d+)/(?P<steps>\d+) ?:", re.IGNORECASE),
    re.compile(r"^#\d+ \[(?:(?P<name>[\w-]+) +)?(?P<step>\d+)/(?P<steps>\d+)\] "),  # BuildKit: stages have names alone
)
_BUILD, _PROOF = 0.1, 0.85
"""Shares of the whole at which the build and the proof begin: most of the time goes by in between."""


def readable(line: str) -> str:
    """A line as a terminal would leave it: without colours, what a carriage return overwrote gone, not without end."""
    text = _ESCAPES.sub("", line.rstrip("\r\n")).rpartition("\r")[2]
    text = _CONTROL.sub("", text)
    left = len(text) - LINE_CHARS
    return text if left <= 0 else f"{text[:LINE_CHARS]}… ({left} characters more)"


class BuildProgress:
    """How far an export is, by its stages and the lines of its build. Never goes back."""

    def __init__(self) -> None:
        self.done = 0.0
        self._stages: list[str] = []

    def stage(self, text: str) -> float:
        """A stage of the export begins."""
        begins = {"building": _BUILD, "proving": _PROOF, "serving": _PROOF + 0.1}
        return self._reach(begins.get(text.partition(" ")[0], 0.0))

    def line(self, line: str) -> float:
        """A line of the build."""
        for pattern in _STEPS:
            if match := pattern.match(line.strip()):
                found = match.groupdict()
                stage, stages = self._place(found)
                within = (int(found["step"]) - 1) / max(1, int(found["steps"]))
                return self._reach(_BUILD + (_PROOF - _BUILD) * (stage - 1 + within) / max(stage, stages))
        return self.done

    def _place(self, found: dict[str, str | None]) -> tuple[int, int]:
        """Which stage of how many; of BuildKit's, which come without a number, of two: our Dockerfile has so many."""
        if found.get("stage"):
            return int(found["stage"] or 1), int(found["stages"] or 1)
        name = found.get("name")
        if name is None:
            return 1, 1
        if name not in self._stages:
            self._stages.append(name)
        return self._stages.index(name) + 1, 2

    def _reach(self, share: float) -> float:
        self.done = max(self.done, min(share, 1.0))
        return self.done
