"""What a run of a row counted, the sum over its runs, and how that is shown: terminal table, markdown, JSON. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from tests.faults.traffic import HANG_S, Record

__all__ = ["COLUMNS", "RowResult", "Run", "count", "markdown_table", "rich_table"]

COLUMNS = ("fault", "runs", "sent", "answered", "failed", "executed twice", "longest wait", "back after", "must", "")
MAX_REASONS = 5


@dataclass
class Run:
    """One run of a row. `broken`: what its `must` says and was not so; empty = held.

    answered: right answers to good requests. meant: requests that failed as they should (bad items, refused load).
    failed: all others. figures: more numbers, which go to the JSON file.
    """

    sent: int = 0
    answered: int = 0
    failed: int = 0
    meant: int = 0
    begun_twice: int = 0
    completed_twice: int = 0
    longest_wait_s: float = 0.0
    back_after_s: float | None = None
    broken: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def must(self, holds: bool, otherwise: str) -> None:
        """Note what did not hold."""
        if not holds:
            self.broken.append(otherwise)


def count(
    records: Sequence[Record], twice: tuple[int, int] = (0, 0), meant: Callable[[Record], bool] = lambda _: False
) -> Run:
    """Sort the records of one run. `meant`: whether this failure is what the request was for."""
    run = Run(sent=len(records), begun_twice=twice[0], completed_twice=twice[1])
    wrong: Counter[str] = Counter()
    for record in records:
        if record.right:
            run.answered += 1
        elif meant(record):
            run.meant += 1
        else:
            run.failed += 1
            wrong[record.error or f"status {record.status}"] += 1
    run.longest_wait_s = max((record.wait_s for record in records if record.right), default=0.0)
    if any(not record.status for record in records):
        run.longest_wait_s = math.inf
    for error, times in wrong.most_common(3):
        run.must(False, f"{times} of {run.sent} requests failed: {error[:300]}")
    return run


@dataclass
class RowResult:
    """All runs of one row, as they stand in the table."""

    name: str
    fault: str
    must: str
    runs: list[Run] = field(default_factory=list)
    seed: int = 0
    seconds: float = 0.0
    commit: str = ""

    @property
    def held(self) -> bool:
        """Whether the row ran, and its `must` held in every run."""
        return bool(self.runs) and not any(run.broken for run in self.runs)

    def broken(self) -> list[str]:
        """The reasons, each with the number of its first run; the first MAX_REASONS of them."""
        reasons = [f"run {number}: {text}" for number, run in enumerate(self.runs, 1) for text in run.broken]
        more = [f"and {len(reasons) - MAX_REASONS} more"] if len(reasons) > MAX_REASONS else []
        return reasons[:MAX_REASONS] + more

    def cells(self) -> tuple[str, ...]:
        """One line of the table, in the order of COLUMNS: sums of counts, worst of times."""
        total = {name: sum(getattr(run, name) for run in self.runs) for name in ("sent", "answered", "failed", "meant")}
        begun, completed = (sum(run.begun_twice for run in self.runs), sum(run.completed_twice for run in self.runs))
        backs = [run.back_after_s for run in self.runs if run.back_after_s is not None]
        held = sum(not run.broken for run in self.runs)
        return (
            self.fault,
            str(len(self.runs)),
            str(total["sent"]),
            str(total["answered"]),
            f"{total['failed']}" + (f" (+ {total['meant']} meant)" if total["meant"] else ""),
            f"{begun} / {completed}",
            seconds(max((run.longest_wait_s for run in self.runs), default=0.0)),
            seconds(max(backs)) if backs else "-",
            self.must,
            "holds"
            if self.held
            else f"BROKEN in {len(self.runs) - held} of {len(self.runs)}"
            if self.runs
            else "NOT RUN",
        )

    def plain(self) -> dict[str, Any]:
        """For the JSON file; infinite becomes null there."""
        result = asdict(self)
        for run in result["runs"]:
            if math.isinf(run["longest_wait_s"]):
                run["longest_wait_s"] = None
        return result

    @classmethod
    def from_plain(cls, value: dict[str, Any]) -> RowResult:
        """Of `plain`."""
        runs = [Run(**run) for run in value["runs"]]
        for run in runs:
            run.longest_wait_s = math.inf if run.longest_wait_s is None else run.longest_wait_s
        return cls(**(value | {"runs": runs}))


def seconds(value: float) -> str:
    """A time to read: 12 ms, 1.34 s."""
    if math.isinf(value):
        return f"> {HANG_S:g} s"
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"


def rich_table(results: Iterable[RowResult]) -> Table:
    """For the terminal."""
    table = Table(title="faults", show_lines=True)
    for column in COLUMNS:
        right = column in ("runs", "sent", "answered", "executed twice", "longest wait", "back after")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for result in results:
        table.add_row(*result.cells(), style="" if result.held else "bold red")
    return table


def markdown_table(results: Iterable[RowResult]) -> str:
    """For docs/reliability.md: the table, then what was broken."""
    results = list(results)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in result.cells()) + " |" for result in results]
    for result in results:
        if not result.held:
            lines += ["", f"Broken: **{result.fault}** (seed {result.seed})", ""]
            lines += [f"- {' '.join(reason.split())}" for reason in result.broken()]
    return "\n".join(lines)
