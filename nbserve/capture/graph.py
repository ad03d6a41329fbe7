"""What was captured, as a graph of handler.py's globals; its order, and its text. Pure.

Built by `walk.py`. A node is one global: an import, a definition, a literal, or `x = value("x")`. Hard edges are what a
node needs when its line runs, soft ones what it needs when it is called.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nbserve.bundle.manifest import Span
from nbserve.errors import CaptureError

__all__ = ["Graph", "How", "Node"]

How = Literal["import", "source", "value", "module file", "pickle (live only)"]


@dataclass
class Node:
    """One global of handler.py. text: its statement. spans: (first line in text, lines, where, first line there)."""

    name: str
    how: How
    chain: tuple[str, ...] = ()
    text: str = ""
    where: str = ""
    bytes: int = 0
    note: str = ""
    order: int = 0
    definition: bool = False
    """A def or class: set apart by blank lines."""
    hard: set[str] = field(default_factory=set)
    soft: set[str] = field(default_factory=set)
    spans: list[tuple[int, int, str, int]] = field(default_factory=list)


class Graph:
    """Nodes by name."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def reachable(self, start: Iterable[str]) -> set[str]:
        """Names that these need, themselves included."""
        found: set[str] = set()
        todo = list(start)
        while todo:
            name = todo.pop()
            if name not in found and name in self.nodes:
                found.add(name)
                todo += [*self.nodes[name].hard, *self.nodes[name].soft]
        return found

    def ordered(self, target: str) -> list[Node]:
        """What `target` needs, each after what it needs when its line runs; else in the order of discovery.

        Raises CaptureError where definitions need each other.
        """
        names = self.reachable([target])
        before = {name: self.nodes[name].hard & names - {name} for name in names}
        self._add_calls(before)
        waiting = {name: set(needs) for name, needs in before.items()}
        ready = [(self.nodes[name].order, name) for name, needs in waiting.items() if not needs]
        heapq.heapify(ready)
        done: list[Node] = []
        while ready:
            _, name = heapq.heappop(ready)
            done.append(self.nodes[name])
            del waiting[name]
            for other, needs in waiting.items():
                if name in needs:
                    needs.discard(name)
                    if not needs:
                        heapq.heappush(ready, (self.nodes[other].order, other))
        if waiting:
            raise CaptureError(
                f"{', '.join(sorted(waiting))} need each other before they are defined",
                hint="pass one of them as an argument instead of binding it in a closure or a default",
            )
        return done

    def _add_calls(self, before: dict[str, set[str]]) -> None:
        """What a line needs may be called by it (decorators, base classes): then its body's names come first too,
        where that is possible."""
        for name in sorted(before, key=lambda each: self.nodes[each].order):
            for other in sorted(self.reachable(before[name]) & before.keys() - before[name] - {name}):
                if not self._leads(before, other, name):
                    before[name].add(other)

    @staticmethod
    def _leads(before: dict[str, set[str]], start: str, end: str) -> bool:
        seen: set[str] = set()
        todo = [start]
        while todo:
            name = todo.pop()
            if name == end:
                return True
            if name not in seen:
                seen.add(name)
                todo += before[name]
        return False

    def free(self, name: str) -> str:
        """The name, or one like it that no captured global has."""
        while name in self.nodes:
            name += "_"
        return name

    def render(self, target: str, *, accessor: str, future: bool, ambient: Mapping[str, Any]) -> tuple[str, list[Span]]:
        """handler.py and its source map. ambient: arguments of the call that sets them; {} for none."""
        nodes = self.ordered(target)
        imports = sorted(
            {line for node in nodes if node.how in ("import", "module file") for line in node.text.splitlines()}
        )
        rest = [node for node in nodes if node.how not in ("import", "module file")]
        lines = ['"""Captured from a notebook by nbserve: imports, definitions and data, nothing that runs."""', ""]
        if future:
            lines += ["from __future__ import annotations", ""]
        reads_values = any(node.how in ("value", "pickle (live only)") for node in rest)
        if reads_values:
            imports.append("from nbserve.bundle import open_values")
        setter = self.free("ambient")
        if ambient:
            imports.append(f"from nbserve.bundle import ambient{f' as {setter}' if setter != 'ambient' else ''}")
        lines += [*sorted(imports, key=_import_order), ""]
        if ambient:
            lines += [f"{setter}(", *(f"    {key}={value!r}," for key, value in ambient.items()), ")", ""]
        if reads_values:
            lines += [f"{accessor} = open_values(__file__)", ""]
        spans: list[Span] = []
        apart = False
        for node in rest:
            if node.definition or apart:
                lines += [""] if lines[-1] == "" else ["", ""]
            apart = node.definition
            for at, count, where, line in node.spans:
                start = len(lines) + at
                spans.append(Span(start, start + count - 1, where, line))
            lines += node.text.rstrip("\n").split("\n")
        return "\n".join(lines).rstrip("\n") + "\n", spans


def _import_order(line: str) -> tuple[bool, str]:
    return line.startswith("from "), line
