"""A `BenchResult` for readers: a rich renderable for terminals, plain text, HTML for notebooks, a page of its own.

Called by the verb `bench` (verbs.py), and by `BenchResult`'s reprs where it is a cell's result. The words are those of
`facts.py`, the images those of `plots.py`. All that an endpoint said is escaped: its errors, names and versions are not
ours. rich is imported at the point of use.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nbserve.measure import facts
from nbserve.measure.plots import Plot, plots
from nbserve.measure.result import BenchResult, Run

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

__all__ = ["as_html", "as_page", "as_text", "renderable"]

_BAR = 30
"""Characters of the longest bar in text: leaves room for names and numbers in 80 columns."""


def renderable(result: BenchResult) -> RenderableType:
    """The report for a rich console: whole in 80 columns and without colour, in ASCII where it knows no more."""
    return _Terminal(result)


def as_text(result: BenchResult, width: int = 100) -> str:
    """The report as plain text, lines of at most `width` characters."""
    from nbserve.tables import to_text

    return to_text(renderable(result), width)


def as_html(result: BenchResult) -> str:
    """The report for notebooks: meaningful without its style sheet and without images too, as in static viewers."""
    run = facts.best_run(result)
    alarms = "".join(f'<div class="nbserve-alarm"><strong>{_e(line)}</strong></div>' for line in facts.alarms(result))
    lines = [*facts.advice_lines(result), facts.identity(result), facts.load_line(result)]
    lines += [facts.error_line(run)] if run else []
    lines += facts.comparison_lines(result)
    told = "".join(f"<div>{_e(line)}</div>" for line in lines)
    table = f"{_table(*facts.run_table(result))}<div>{_e(facts.table_line(result))}</div>" if run else ""
    figures = "".join(_figure(plot) for plot in plots(result))
    return (
        f'<div class="nbserve-bench">{_STYLE}<div class="nbserve-verdict"><strong>{_e(result.verdict)}</strong></div>'
        f"{alarms}{told}{table}"
        f'<div class="nbserve-plots">{figures}</div>{_more(result, run) if run else ""}</div>'
    )


def as_page(result: BenchResult) -> str:
    """The report as an HTML document that needs nothing beside it, in the reader's light or dark scheme."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<title>nbserve bench: {_e(result.name)}</title>{_PAGE_STYLE}</head><body>{as_html(result)}</body></html>\n"
    )


# --- text ---


class _Terminal:
    """Made of Text only: rich would read square brackets in a plain string as markup."""

    def __init__(self, result: BenchResult) -> None:
        self._result = result

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.text import Text

        for line, style in _lines(self._result):
            if line == _TABLE:
                yield _rich_table(*facts.run_table(self._result), ascii_only=options.ascii_only)
            else:
                yield Text(_plain(line, ascii_only=options.ascii_only), style=style)


_TABLE = "\0table"
"""Stands among the lines where the table of runs goes."""


def _lines(result: BenchResult) -> Iterator[tuple[str, str]]:
    """(line, style) from top to bottom."""
    yield result.verdict, "bold"
    for line in facts.alarms(result):
        yield line, "bold red"
    for line in facts.advice_lines(result):
        yield line, ""
    yield "", ""
    yield facts.identity(result), ""
    yield facts.load_line(result), ""
    run = facts.best_run(result)
    if run is None:
        return
    yield "", ""
    yield _TABLE, ""
    yield facts.table_line(result), "dim"
    yield "", ""
    yield facts.error_line(run), "bold red" if run.errors else ""
    for line in facts.comparison_lines(result):
        yield line, "bold"
    if stages := facts.stages(result):
        yield "", ""
        yield "where the time goes (mean ms)", "dim"
        yield from ((line, "") for line in _stage_lines(stages))
    if bins := facts.batch_bins(run):
        yield "", ""
        yield f"requests in a batch (mean {facts.number(facts.mean_batch(run))})", "dim"
        most = max(each.share for each in bins)
        for each in bins:
            yield f"  {each.label:>9}  {facts.percent(each.share):>6}  {_bar(each.share, most)}".rstrip(), ""
    yield "", ""
    for line in facts.machine_lines(run):
        yield line, ""


def _stage_lines(stages: Sequence[facts.Stage]) -> Iterator[str]:
    most = max(stage.share for stage in stages)
    name_width = min(max(len(stage.name) for stage in stages), 20)
    for stage in stages:
        head = f"  {stage.name[:20]:{name_width}}  {facts.number(stage.mean_ms):>6}  {facts.percent(stage.share):>6}  "
        yield f"{head}{_bar(stage.share, most)}{' <- limit' if stage.limit else ''}".rstrip()


def _bar(share: float, most: float) -> str:
    return "█" * round(_BAR * share / most)


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, ascii_only: bool) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.ASCII2 if ascii_only else box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(Text(column), justify="left" if column == "note" else "right", overflow="fold")
    for row in rows:
        loud = any("INVALID" in cell for cell in row)
        table.add_row(*(Text(_plain(cell, ascii_only=ascii_only)) for cell in row), style="bold" if loud else "")
    return table


def _plain(text: str, *, ascii_only: bool) -> str:
    """Without control characters: a server's words must not steer the terminal."""
    text = "".join(char if char.isprintable() else "?" for char in text)
    if not ascii_only:
        return text
    return text.replace("±", "+-").replace("█", "#").encode("ascii", "replace").decode()


# --- HTML ---


def _figure(plot: Plot) -> str:
    source = base64.b64encode(plot.svg.encode()).decode()
    return (
        f'<figure class="nbserve-{plot.name}"><figcaption>{_e(plot.title)}</figcaption>'
        f'<img src="data:image/svg+xml;base64,{source}" alt="{_e(plot.description)}" '
        f'width="{plot.width}" height="{plot.height}"></figure>'
    )


def _more(result: BenchResult, run: Run) -> str:
    """What only some readers look for: numbers of the stages, clients and server, versions and machine."""
    stages = [
        [stage.name, facts.number(stage.mean_ms), facts.number(stage.p99_ms), facts.percent(stage.share)]
        for stage in facts.stages(result)
    ]
    shown = _table(["stage", "mean ms", "p99 ms", "share"], stages) if stages else ""
    lines = "".join(f"<div>{_e(line)}</div>" for line in facts.machine_lines(run))
    environment = _table(["", ""], [[key, _value(value)] for key, value in result.environment.items()], "nbserve-words")
    return (
        f"<details><summary>stages, clients, machine</summary>{shown}{lines}"
        f"{environment if result.environment else ''}</details>"
    )


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _table(columns: Iterable[str], rows: Iterable[Sequence[str]], kind: str = "nbserve-numbers") -> str:
    head = "".join(f"<th>{_e(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_e(cell)}</td>' for cell in row)}</tr>" for row in rows)
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="nbserve-wide">{table}</div>'


def _e(text: str) -> str:
    return html.escape(text)


# The images read on light and dark as they are; where the theme is known, their brightness is turned away from it.
_STYLE = """<style>
.nbserve-bench { color: var(--jp-ui-font-color1, inherit); padding: 4px 0; max-width: 70em;
  font-family: var(--jp-ui-font-family, system-ui, sans-serif); font-size: var(--jp-ui-font-size1, 13px); }
.nbserve-bench .nbserve-verdict { font-size: 1.25em; margin-bottom: 4px; }
.nbserve-bench .nbserve-alarm { border: 2px solid #d55e00; padding: 4px 8px; margin: 4px 0; }
.nbserve-bench div { overflow-wrap: anywhere; }
.nbserve-bench table { margin: 8px 0 2px; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.nbserve-bench .nbserve-wide { overflow-x: auto; overflow-wrap: normal; }
.nbserve-bench td, .nbserve-bench th { padding: 2px 12px 2px 0; border: 0; background: none; }
.nbserve-bench .nbserve-numbers td, .nbserve-bench .nbserve-numbers th { text-align: right; }
.nbserve-bench .nbserve-words td { text-align: left; overflow-wrap: anywhere; }
.nbserve-bench .nbserve-plots { display: flex; flex-wrap: wrap; gap: 8px 20px; }
.nbserve-bench figure { margin: 8px 0 0; } .nbserve-bench figcaption { font-weight: 600; margin-bottom: 4px; }
.nbserve-bench img { max-width: 100%; height: auto; background: none; }
[data-jp-theme-light="true"] .nbserve-bench img, .vscode-light .nbserve-bench img { filter: brightness(.75); }
[data-jp-theme-light="false"] .nbserve-bench img, .vscode-dark .nbserve-bench img,
html[theme="dark"] .nbserve-bench img { filter: brightness(1.45); }
</style>"""
_PAGE_STYLE = """<style>
:root { color-scheme: light dark; } body { margin: 24px; color: #222; background: #fff; }
.nbserve-bench img { filter: brightness(.75); }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #111; } .nbserve-bench img { filter: brightness(1.45); }
}
</style>"""
