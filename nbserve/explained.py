"""`explain` in a terminal: a tree of what was captured, what was not and why, and one name looked at closely.

rich is imported at the point of use. The same text is the plain form of a notebook's output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nbserve.captured_graph import tree
from nbserve.explanation import Entry, Explanation
from nbserve.tables import entry_size, new_table, proof_line

__all__ = ["as_renderable", "facts", "history", "of_entry"]

_MOST_SKIPPED = 12
"""Names not taken that are shown; `--json` has all."""


def as_renderable(data: Explanation) -> Any:
    """What the verb `explain` shows."""
    from rich.console import Group

    title = f"{data.name} version {data.version}" if data.version else data.name
    lines = [f"  {label}: {text}" for label, text in facts(data)]
    return Group(title, *lines, *(_close(data) if data.variable else _all(data)), *_remarks(data))


def facts(data: Explanation) -> list[tuple[str, str]]:
    """What is known of the whole, as (label, text)."""
    found = [
        ("bundle", data.bundle),
        ("digest", data.digest),
        ("captured", data.origin),
        ("needs", ", ".join(data.requirements)),
        ("the sample run imported", ", ".join(data.imported)),
        ("proof", proof_line(data.proof) if data.version else _sample_line(data.has_sample)),
    ]
    shown = found[:2] if data.variable else found
    return [(label, text) for label, text in shown if text]


def _all(data: Explanation) -> Iterator[Any]:
    if not data.entries:
        yield "  it does not say what was captured: no notebook wrote it"
        return
    shown = new_table("name", "how", "from", "size", "what")
    for line in tree(data.entries):
        entry = line.entry
        if line.seen:
            shown.add_row(f"{line.guide}{entry.name}", "above", "", "", "")
        else:
            shown.add_row(f"{line.guide}{entry.name}", entry.how, entry.where, entry_size(entry), entry.note)
    yield ""
    yield shown
    if data.skipped:
        yield ""
        yield "seen and not taken:"
        some = data.skipped[:_MOST_SKIPPED]
        yield from (f"  {one.name}{f' ({one.where})' if one.where else ''}: {one.why}" for one in some)
        if len(some) < len(data.skipped):
            yield f"  and {len(data.skipped) - len(some)} more (--json shows all)"


def _close(data: Explanation) -> Iterator[Any]:
    """One name: its chain, its cell's lines, its history."""
    assert data.variable is not None
    entry = data.entries[-1]
    yield f"{entry.name}: {of_entry(entry)}"
    yield f"  because of: {' -> '.join(entry.chain)}"
    if data.variable.needed_by:
        yield f"  needed by: {', '.join(data.variable.needed_by)}"
    if entry.needs:
        yield f"  needs: {', '.join(entry.needs)}"
    yield from (f"  {line}" for line in history(entry))
    if data.variable.source:
        yield f"  {data.variable.source_where}:"
        yield from (f"    {line}" for line in data.variable.source.splitlines())


def of_entry(entry: Entry) -> str:
    """ "value, Sequential, In[3], 1.2 MB"."""
    return ", ".join(filter(None, (entry.how, entry.note, entry.where, entry_size(entry))))


def history(entry: Entry) -> list[str]:
    """Which cells bound the name, and whose binding is served."""
    lives = [index for index, (where, _) in enumerate(entry.bound) if where == entry.where]
    return [
        f"bound in {where}, line {line}{' (this one is served)' if lives and index == lives[-1] else ''}"
        for index, (where, line) in enumerate(entry.bound)
    ]


def _remarks(data: Explanation) -> Iterator[str]:
    if data.changed or data.warnings:
        yield ""
    yield from (f"  changed: {text}" for text in data.changed)
    yield from (f"  warning: {text}" for text in data.warnings)


def _sample_line(has_sample: bool) -> str:
    return "`nbserve verify` sends its sample" if has_sample else "it has no sample"
