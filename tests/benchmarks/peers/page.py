"""The result of `make peers` for readers: tables for the terminal, docs/peers.md, its plot. Pure but for `write`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.table import Table

from nbserve.measure import svg
from tests.benchmarks.peers.bars import Row

__all__ = ["bars_table", "markdown", "plot", "table", "write"]

BEGIN, END = "<!-- peers: begin (make peers) -->", "<!-- peers: end -->"
COLUMNS = ("server", "CPU s / 1000", "spread", "requests/s", "p50 ms", "p99 ms", "errors")
SHOWN = ("nbserve", "mosec", "FastAPI", "LitServe")
HEIGHT = 250
NAMES = 78
"""Pixels beside the plot."""


def table(rows: Sequence[Row]) -> Table:
    """All rows, for the terminal."""
    shown = Table(title="nbserve and its peers", title_justify="left")
    for title in ("workload", "load", *COLUMNS):
        shown.add_column(title, justify="left" if title in ("workload", "load", "server") else "right")
    for (workload, load), group in _by_load(rows):
        for row in group:
            shown.add_row(workload, load, *_cells(row))
        shown.add_section()
    return shown


def bars_table(bars: Sequence[Mapping[str, Any]]) -> Table:
    """The bars, for the terminal."""
    shown = Table(title="bars", title_justify="left")
    for title in ("bar", "value", "limit", ""):
        shown.add_column(title)
    for bar in bars:
        what, value, limit, holds = _bar_cells(bar)
        shown.add_row(what, value, limit, holds, style="" if bar["holds"] else "bold red")
    return shown


def markdown(result: Mapping[str, Any]) -> str:
    """What stands between the marks of docs/peers.md."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        f"Measured on {result['date']} on {result['machine']}; commit {result['commit']}; {result['settings']};",
        f"{result['minutes']:g} minutes in all. Versions: {versions}.",
        "",
        "### Bars",
        "",
        *_markdown_table(("bar", "value", "limit", ""), [_bar_cells(bar) for bar in result["bars"]]),
    ]
    for workload, what in result["workloads"].items():
        rows = [row for row in result["rows"] if row["workload"] == workload]
        lines += ["", f"### {workload}: {what}", ""]
        lines += _markdown_table(("load", *COLUMNS), [(row["load"], *_cells(row)) for row in rows])
    lines += ["", "### Settings that were tried", ""]
    tried = [row for row in result["tried"] if any(_is_rival(row, other) for other in result["tried"])]
    cells = [(row["workload"], row["server"], f"{row['wait_ms']:g}", _number(row["cpu_s_per_1000"])) for row in tried]
    lines += _markdown_table(("workload", "server", "wait ms", "CPU s / 1000"), cells)
    return "\n".join(lines)


def plot(rows: Sequence[Row]) -> str:
    """CPU of a no-op request over the number of connections, a line a server, named at its right end."""
    points = {server: _points(rows, server) for server in SHOWN}
    values = [value for line in points.values() for _, value in line]
    x = svg.Axis(0.8, 80, svg.LEFT, svg.WIDTH - NAMES, [(count, str(count)) for count in (1, 4, 16, 64)], log=True)
    y = svg.logarithmic(min(values), max(values), HEIGHT - svg.BOTTOM, svg.TOP)
    parts, described, ends = [*svg.frame(x, y, HEIGHT, "CPU s / 1000 requests", "connections")], [], []
    for server, line in points.items():
        colour, width = (svg.BLUE, 2.5) if server == "nbserve" else (svg.GREY, 1.2)
        pixels = [(x.at(count), y.at(value)) for count, value in line]
        parts.append(svg.line(pixels, f'fill="none" stroke="{colour}" stroke-width="{width}"'))
        parts += [svg.dot(px, py, colour, colour) for px, py in pixels]
        ends.append((pixels[-1][1], server))
        described.append(f"{server}: " + ", ".join(f"{value:.3g} at {count:g}" for count, value in line))
    taken = 0.0
    for py, server in sorted(ends):
        taken = max(py + 4, taken + 14)
        parts.append(svg.text(x.at(64) + 8, taken, server))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {svg.WIDTH} {HEIGHT}" width="{svg.WIDTH * 1.6:g}"'
    style = 'font-family="DejaVu Sans, Verdana, sans-serif" font-size="12"'
    return f"{head} {style}><title>{svg.escape('; '.join(described))}</title>\n" + "\n".join(parts) + "\n</svg>\n"


def write(docs: Path, result: Mapping[str, Any]) -> None:
    """Put the figures into docs/peers.md, and the plot beside its images."""
    path = docs / "peers.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n\n{markdown(result)}\n\n{END}{after}", encoding="utf-8")
    if any(row["workload"] == "noop" for row in result["rows"]):
        (docs / "images" / "peers.svg").write_text(plot(result["rows"]), encoding="utf-8")


def _points(rows: Sequence[Row], server: str) -> list[tuple[float, float]]:
    return sorted(
        (float(row["load"].removeprefix("c=")), row["cpu_s_per_1000"])
        for row in rows
        if row["workload"] == "noop" and row["server"] == server and row["load"].startswith("c=")
    )


def _by_load(rows: Sequence[Row]) -> Any:
    return groupby(rows, key=lambda row: (row["workload"], row["load"]))


def _is_rival(row: Row, other: Row) -> bool:
    same = all(row[key] == other[key] for key in ("workload", "server"))
    return same and row["wait_ms"] != other["wait_ms"]


def _cells(row: Row) -> tuple[str, ...]:
    figures = (row["cpu_s_per_1000"], row["requests_per_s"], row["p50_ms"], row["p99_ms"])
    cpu, rate, p50, p99 = map(_number, figures)
    return row["server"], cpu, f"{row['spread']:.0%}", rate, p50, p99, str(row["errors"])


def _bar_cells(bar: Mapping[str, Any]) -> tuple[str, ...]:
    sign = ">=" if bar["least"] else "<="
    return bar["what"], _number(bar["value"]), f"{sign} {bar['limit']:g}", "holds" if bar["holds"] else "MISSED"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (titles, ["---"] * len(titles), *rows)]
