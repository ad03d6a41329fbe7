"""Runs -> medians with their spread -> tables. Pure: no clock, no processes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.table import Table

__all__ = ["compare", "first_answers_table", "items", "load_table", "markdown", "mean_batch", "summarize"]

Row = dict[str, Any]

COLUMNS = {
    "scenario": "scenario",
    "connections": "connections",
    "batching": "batching",
    "requests_per_s": "requests/s",
    "spread": "spread",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "cpu_s_per_1000": "CPU s / 1000",
    "batch_mean": "mean batch",
    "errors": "errors",
}


CELL_TITLES = (
    "load_ext",
    "serve_handler",
    "first answer",
    "total",
    "spread",
    "edited: first answer",
    "edited: cell",
)
"""Of `first_answer_cells`."""


def summarize(runs: Sequence[Mapping[str, float]]) -> Row:
    """The median of each figure over the runs; `spread` is (max - min) / median of requests/s; errors are added up."""
    row: Row = {key: median(run[key] for run in runs) for key in runs[0]}
    rates = [run["requests_per_s"] for run in runs]
    row["spread"] = (max(rates) - min(rates)) / row["requests_per_s"] if row["requests_per_s"] else math.inf
    row["errors"] = int(sum(run["errors"] for run in runs))
    row["runs"] = len(runs)
    return row


def items(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """Requests in the batches that a status counted between two readings."""
    return sum(int(size) * (count - before.get(size, 0)) for size, count in after.items())


def mean_batch(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """Mean size of the batches between two readings; 0 where there were none."""
    batches = sum(after.values()) - sum(before.values())
    return items(before, after) / batches if batches else 0.0


def load_table(rows: Sequence[Row]) -> Table:
    """For the terminal."""
    table = Table(title="load", title_justify="left")
    for title in COLUMNS.values():
        table.add_column(title, justify="left" if title in ("scenario", "batching") else "right")
    for place, row in enumerate(rows):
        last_of_scenario = place + 1 == len(rows) or rows[place + 1]["scenario"] != row["scenario"]
        table.add_row(*(_shown(key, row[key]) for key in COLUMNS), end_section=last_of_scenario)
    return table


def first_answers_table(answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """Seconds from the first cell to the first answer, and for the cell edited and run again; medians."""
    table = Table(title="first cell to first answer, seconds", title_justify="left")
    table.add_column("scenario")
    for title in CELL_TITLES:
        table.add_column(title, justify="right")
    for name, runs in answers.items():
        table.add_row(name, *first_answer_cells(runs))
    return table


def first_answer_cells(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Medians in seconds, as in CELL_TITLES; the spread is that of the total."""
    totals = [run["total_s"] for run in runs]
    keys = ("load_ext_s", "serve_s", "answer_s", "total_s", "rerun_s", "rerun_cell_s")
    *first, rerun, cell = (f"{median(run[key] for run in runs):.3f}" for key in keys)
    return [*first, f"{(max(totals) - min(totals)) / median(totals):.0%}", rerun, cell]


def markdown(result: Mapping[str, Any]) -> str:
    """The same tables for an issue or a page."""
    lines = [f"{result['machine']}  ", f"commit {result['commit'] or 'none'}, {result['settings']}", ""]
    if result["first_answer"]:
        lines += _header(["scenario, seconds", *CELL_TITLES])
        lines += [_line([name, *first_answer_cells(runs)]) for name, runs in result["first_answer"].items()]
        lines.append("")
    if result["load"]:
        lines += _header(list(COLUMNS.values()))
        lines += [_line([_shown(key, row[key]) for key in COLUMNS]) for row in result["load"]]
        lines.append("")
    return "\n".join(lines)


def compare(old: Sequence[Row], new: Sequence[Row]) -> Table:
    """new / old of each figure, for rows that both have; a change within the spread of the runs is dimmed."""
    table = Table(title="new / old (dim: within the spread of the runs)", title_justify="left")
    for title in ("scenario", "connections", "batching", "requests/s", "p50 ms", "p99 ms", "CPU s / 1000"):
        table.add_column(title, justify="left" if title in ("scenario", "batching") else "right")
    before = {_key(row): row for row in old}
    for row in new:
        if _key(row) not in before:
            continue
        base = before[_key(row)]
        noise = max(base["spread"], row["spread"])
        cells = []
        for key in ("requests_per_s", "p50_ms", "p99_ms", "cpu_s_per_1000"):
            ratio = row[key] / base[key] if base[key] else math.nan
            cells.append(f"{ratio:.2f}" if abs(ratio - 1) > noise else f"[dim]{ratio:.2f}[/dim]")
        table.add_row(row["scenario"], str(row["connections"]), row["batching"], *cells)
    return table


def _key(row: Row) -> tuple[Any, ...]:
    return row["scenario"], row["connections"], row["batching"]


def _shown(key: str, value: Any) -> str:
    if key == "spread":
        return f"{value:.0%}"
    if key == "requests_per_s":
        return f"{value:,.0f}"
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 10
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def _header(titles: Sequence[str]) -> list[str]:
    return [_line(titles), _line(["---"] * len(titles))]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
