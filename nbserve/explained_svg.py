"""The graph of what was captured as SVG: the handler on the left, to the right what it needs. Pure; text is escaped.

Kinds differ by the line of their box and by their words, not by colour alone; colours are Okabe and Ito's, which
people with any kind of colour vision tell apart (https://jfly.uni-koeln.de/color/), lighter on a dark ground.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

from nbserve.captured_graph import columns, edges
from nbserve.explanation import Entry
from nbserve.tables import entry_size

__all__ = ["graph_svg"]

MOST_NODES = 40
_BOX_HEIGHT, _ROW, _GAP, _MARGIN = 36, 46, 56, 8
_CHAR = 7.2
"""Width of a character at 12 px in the widest of the usual fonts."""
_MOST_CHARS = 30
_KINDS = {"source": "s", "value": "v", "import": "i", "module file": "m", "pickle (live only)": "p"}


class _Box(NamedTuple):
    entry: Entry
    x: int
    y: int
    width: int


def graph_svg(entries: Sequence[Entry], title: str, key: str) -> str:
    """An <svg> element. key: makes its ids the page's only ones. Larger graphs leave out imports, then what is far."""
    shown, left_out = _most_telling(entries)
    boxes, width, height = _placed(shown)
    below = edges(shown)
    lines = [_line(boxes[name], boxes[other]) for name, others in below.items() for other in others]
    note = ""
    if left_out:
        note = f'<text class="n" x="{_MARGIN}" y="{height + 12}">and {left_out} more, in the table</text>'
        height += 20
    return (
        f'<svg class="nbserve-graph" role="img" aria-labelledby="{key}-t {key}-d" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" style="max-width:100%;height:auto" xmlns="http://www.w3.org/2000/svg">'
        f'{_STYLE}<title id="{key}-t">{_e(title)}</title><desc id="{key}-d">{_e(_words(shown, below))}</desc>'
        f"{''.join(lines)}{''.join(map(_box, boxes.values()))}{note}</svg>"
    )


def _most_telling(entries: Sequence[Entry]) -> tuple[list[Entry], int]:
    found = [entry for entry in entries if not entry.name.endswith("(setting)")]
    if len(found) > MOST_NODES:
        found = [entry for entry in found if entry.how != "import"]
    if len(found) > MOST_NODES:
        near = {name for column in columns(found) for name in column}
        order = [name for column in columns(found) for name in column if name in near]
        kept = set(order[:MOST_NODES])
        found = [entry for entry in found if entry.name in kept]
    return found, len(entries) - len(found)


def _placed(entries: Sequence[Entry]) -> tuple[dict[str, _Box], int, int]:
    by_name = {entry.name: entry for entry in entries}
    boxes: dict[str, _Box] = {}
    x = _MARGIN
    laid_out = columns(entries)
    tallest = max(map(len, laid_out), default=0)
    for column in laid_out:
        chars = max(max(len(_short(name)), len(_second(by_name[name]))) for name in column)
        width = round(chars * _CHAR) + 20
        top = _MARGIN + (tallest - len(column)) * _ROW // 2
        for row, name in enumerate(column):
            boxes[name] = _Box(by_name[name], x, top + row * _ROW, width)
        x += width + _GAP
    return boxes, max(x - _GAP + _MARGIN, 2 * _MARGIN), tallest * _ROW + 2 * _MARGIN + _ROW // 2 - (_ROW - _BOX_HEIGHT)


def _box(box: _Box) -> str:
    entry = box.entry
    kind = _KINDS.get(entry.how, "s")
    full = ", ".join(filter(None, (f"{entry.name}: {entry.how}", entry.where, entry_size(entry), entry.note)))
    return (
        f'<g class="{kind}"><title>{_e(full)}</title>'
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{_BOX_HEIGHT}" rx="{12 if kind == "m" else 4}"/>'
        f'<text x="{box.x + 10}" y="{box.y + 15}">{_e(_short(entry.name))}</text>'
        f'<text class="n" x="{box.x + 10}" y="{box.y + 29}">{_e(_second(entry))}</text></g>'
    )


def _line(start: _Box, end: _Box) -> str:
    """From the right side of who needs to the left side of what is needed; in a circle back, below the boxes."""
    if end.x <= start.x:
        x1, x2, y1, y2 = start.x + 14, end.x + end.width - 14, start.y + _BOX_HEIGHT, end.y + _BOX_HEIGHT
        low = max(y1, y2) + _ROW // 2
        return f'<path class="e" d="M{x1} {y1} C{x1} {low} {x2} {low} {x2} {y2}"/>'
    x1, y1, x2, y2 = start.x + start.width, start.y + _BOX_HEIGHT // 2, end.x, end.y + _BOX_HEIGHT // 2
    bend = _GAP // 2
    return f'<path class="e" d="M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"/>'


def _second(entry: Entry) -> str:
    return ", ".join(filter(None, (entry.how, entry.where, entry_size(entry))))[:_MOST_CHARS]


def _short(name: str) -> str:
    return name if len(name) <= _MOST_CHARS else f"{name[: _MOST_CHARS - 1]}…"


def _words(entries: Sequence[Entry], below: dict[str, list[str]]) -> str:
    """The graph for a screen reader."""
    names = {entry.name: f"{entry.name} ({entry.how})" for entry in entries}
    said = [f"{names[name]} needs {', '.join(others)}" for name, others in below.items() if others]
    return ". ".join(said) or ", ".join(names.values())


def _e(text: str) -> str:
    return html.escape(text)


_STYLE = """<style>
.nbserve-graph { --s: #0072b2; --v: #b34f00; --i: #666; --m: #00785a; --p: #a5407a; font: 12px sans-serif; }
@media (prefers-color-scheme: dark) {
  .nbserve-graph { --s: #56b4e9; --v: #e69f00; --i: #aaa; --m: #2dc7a0; --p: #e39cc4; } }
[data-jp-theme-light="true"] .nbserve-graph { --s: #0072b2; --v: #b34f00; --i: #666; --m: #00785a; --p: #a5407a; }
[data-jp-theme-light="false"] .nbserve-graph { --s: #56b4e9; --v: #e69f00; --i: #aaa; --m: #2dc7a0; --p: #e39cc4; }
.nbserve-graph text { fill: var(--jp-ui-font-color1, currentColor); }
.nbserve-graph .n { font-size: 10px; fill-opacity: .8; }
.nbserve-graph rect { fill: none; stroke-width: 1.5; }
.nbserve-graph .e { fill: none; stroke: var(--i); }
.nbserve-graph .s rect { stroke: var(--s); }
.nbserve-graph .v rect { stroke: var(--v); stroke-width: 3; }
.nbserve-graph .i rect { stroke: var(--i); stroke-dasharray: 4 3; }
.nbserve-graph .m rect { stroke: var(--m); }
.nbserve-graph .p rect { stroke: var(--p); stroke-width: 3; stroke-dasharray: 2 2; }
</style>"""
