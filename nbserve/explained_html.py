"""`explain` in a notebook: the graph, warnings, and the same facts as in a terminal. Every value is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from nbserve.explained import facts, history, of_entry
from nbserve.explained_svg import graph_svg
from nbserve.explanation import Explanation
from nbserve.tables import entry_size

__all__ = ["as_html", "graph_html"]


def as_html(data: Explanation) -> str:
    """One <div>, in the colours of the page around it."""
    title = f"{data.name} version {data.version}" if data.version else data.name
    parts = [f"<b>{_e(title)}</b>", *(f"<div><b>{_e(label)}</b> {_e(text)}</div>" for label, text in facts(data))]
    parts += [f'<div role="note">&#9888; {_e(text)}</div>' for text in (*data.changed, *data.warnings)]
    parts += _variable(data) if data.variable else []
    parts.append(graph_html(data))
    if not data.variable and data.entries:
        columns = ("name", "how", "from", "size", "what", "because of")
        rows = [
            (each.name, each.how, each.where, entry_size(each), each.note, " -> ".join(each.chain))
            for each in data.entries
        ]
        parts.append(_details(f"captured: {len(rows)}", _table(columns, rows)))
    if data.skipped:
        skipped = [(one.name, one.where, one.why) for one in data.skipped]
        parts.append(_details(f"seen and not taken: {len(skipped)}", _table(("name", "from", "why"), skipped)))
    return f'<div class="nbserve-explained">{_STYLE}{"".join(parts)}</div>'


def graph_html(data: Explanation) -> str:
    """The graph of a whole explanation, or of one chain; nothing where nothing is known."""
    if not data.entries:
        return ""
    chosen = data.variable.name if data.variable else ""
    title = f"What {data.name} is made of" if not chosen else f"What leads from {data.name} to {chosen}"
    return graph_svg(data.entries, title, f"nbserve-{data.digest[:8]}-{chosen or 'all'}")


def _variable(data: Explanation) -> Iterable[str]:
    assert data.variable is not None
    entry = data.entries[-1]
    yield f"<div><b>{_e(entry.name)}</b> {_e(of_entry(entry))}</div>"
    yield f"<div>because of {_e(' -> '.join(entry.chain))}</div>"
    if data.variable.needed_by:
        yield f"<div>needed by {_e(', '.join(data.variable.needed_by))}</div>"
    if entry.needs:
        yield f"<div>needs {_e(', '.join(entry.needs))}</div>"
    yield from (f"<div>{_e(line)}</div>" for line in history(entry))
    if data.variable.source:
        yield f"<div>{_e(data.variable.source_where)}</div><pre>{_e(data.variable.source)}</pre>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{_e(column)}</th>' for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_e(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{_e(summary)}</summary>{content}</details>"


def _e(text: str) -> str:
    return html.escape(text)


_STYLE = """<style>
.nbserve-explained { color: var(--jp-ui-font-color1, inherit); font-family: var(--jp-ui-font-family, sans-serif);
  font-size: var(--jp-ui-font-size1, 13px); max-width: 80em; }
.nbserve-explained pre { color: inherit; background: var(--jp-layout-color2, #8881); padding: 6px; margin: 4px 0; }
.nbserve-explained td, .nbserve-explained th { text-align: left; padding: 1px 10px 1px 0; }
</style>"""
