"""What was captured as a graph to look at: who needs what, in the order of a tree, and laid out in columns. Pure.

Called by `explained.py` (terminal) and `explained_svg.py` (notebook).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nbserve.explanation import Entry

__all__ = ["Line", "columns", "edges", "tree"]


class Line(NamedTuple):
    """One line of the tree. guide: the lines drawn before its name. seen: it stands further up, with what it needs."""

    guide: str
    entry: Entry
    seen: bool


def edges(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Name -> names that it needs, in the order of the entries. Bundles that say only chains give those."""
    position = {entry.name: index for index, entry in enumerate(entries)}
    found: dict[str, set[str]] = {name: set() for name in position}
    for entry in entries:
        found[entry.name] |= set(entry.needs) & position.keys() - {entry.name}
    needed = set().union(*found.values()) if found else set()
    for entry in entries:
        if entry.name not in needed:
            above = [name for name in entry.chain if name in position and name != entry.name]
            if above:
                found[above[-1]].add(entry.name)
    return {name: sorted(others, key=position.__getitem__) for name, others in found.items()}


def tree(entries: Sequence[Entry]) -> list[Line]:
    """The handler first, below each name what it needs; what is needed twice has its own needs under the first."""
    by_name, below = {entry.name: entry for entry in entries}, edges(entries)
    done: set[str] = set()
    lines: list[Line] = []

    def add(name: str, guide: str, indent: str) -> None:
        seen = name in done
        done.add(name)
        lines.append(Line(guide, by_name[name], seen))
        others = [] if seen else below[name]
        for index, other in enumerate(others):
            last = index == len(others) - 1
            add(other, f"{indent}{'└─ ' if last else '├─ '}", f"{indent}{'   ' if last else '│  '}")

    for name in [*_roots(entries, below), *by_name]:
        if name not in done:
            add(name, "", "")
    return lines


def columns(entries: Sequence[Entry]) -> list[list[str]]:
    """Names by their longest way from the handler, so that who needs something stands left of it (but for circles)."""
    below = edges(entries)
    order: list[str] = []
    done: set[str] = set()

    def visit(name: str) -> None:
        done.add(name)
        for other in below[name]:
            if other not in done:
                visit(other)
        order.append(name)

    for name in [*_roots(entries, below), *below]:
        if name not in done:
            visit(name)
    order.reverse()  # now who needs stands before what is needed, circles left aside
    position = {name: index for index, name in enumerate(order)}
    depth = dict.fromkeys(order, 0)
    for name in order:
        for other in below[name]:
            if position[other] > position[name]:
                depth[other] = max(depth[other], depth[name] + 1)
    return [[name for name in order if depth[name] == level] for level in range(max(depth.values(), default=-1) + 1)]


def _roots(entries: Sequence[Entry], below: dict[str, list[str]]) -> list[str]:
    """The handler, and what nothing needs. (The handler may be needed by what it needs.)"""
    needed = {name for others in below.values() for name in others}
    handlers = [entry.name for entry in entries if entry.chain == [entry.name]]
    return [*handlers, *(entry.name for entry in entries if entry.name not in needed and entry.name not in handlers)]
