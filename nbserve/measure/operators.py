"""What a trace adds up to over an interval: a table of operators, and a flame graph. Pure.

A span counts with the part of it that lies in the interval. Its parent is the span one lane above it, on the same
thread, in which it lies; the gateway's requests have none (their lanes are no nesting). Called by profiling.py and by
the rules of advice; the trace view does the same in the browser.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from nbserve.measure.spans import ROUNDING_US
from nbserve.measure.trace import LaneKind, Trace

__all__ = ["Flame", "Operator", "flame", "lanes_of", "operators", "parents", "shapes_of"]

Interval = tuple[float, float]
"""From, to, in microseconds; touching it is not being in it."""


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table. `total_us` counts recursion as it comes, as torch's own key_averages does."""

    name: str
    kind: LaneKind
    calls: int
    self_us: float
    total_us: float
    shapes: list[str] = msgspec.field(default_factory=list)
    """JSON of the most frequent ones, at most three; empty where shapes were not recorded."""


@dataclass
class Flame:
    """A node of the flame graph; the root is "all", its children are threads."""

    name: str
    total_us: float = 0.0
    self_us: float = 0.0
    calls: int = 0
    children: dict[str, Flame] = field(default_factory=dict)

    def folded(self, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
        """Every path with its own time: the format that flame graph programs read, `a;b;c 12`."""
        path = (*above, self.name)
        if self.self_us > 0:
            yield path, self.self_us
        for child in self.children.values():
            yield from child.folded(path)


def parents(trace: Trace) -> npt.NDArray[np.int64]:
    """The span in which each lies directly; -1 = none."""
    found = np.full(len(trace), -1, dtype=np.int64)
    bounds = np.searchsorted(trace.lane, np.arange(len(trace.lanes) + 1))
    numbers = {(lane.process, lane.thread, lane.depth): number for number, lane in enumerate(trace.lanes)}
    ends = trace.start_us + trace.duration_us
    for number, lane in enumerate(trace.lanes):
        above = numbers.get((lane.process, lane.thread, lane.depth - 1))
        if lane.kind == "gateway" or above is None:
            continue
        first, last = bounds[number], bounds[number + 1]
        begin, end = bounds[above], bounds[above + 1]
        starts = trace.start_us[begin:end]
        place = np.searchsorted(starts, trace.start_us[first:last], side="right") - 1
        candidates = begin + np.maximum(place, 0)
        inside = (place >= 0) & (ends[first:last] <= ends[candidates] + ROUNDING_US)
        found[first:last] = np.where(inside, candidates, -1)
    return found


def operators(trace: Trace, interval: Interval | None = None, lanes: set[int] | None = None) -> list[Operator]:
    """The table, largest own time first; of all lanes, or those named by their numbers."""
    chosen, inside_us = _inside(trace, interval, lanes)
    own_us = _own(trace, chosen, inside_us)
    kinds = np.array([_KINDS.index(lane.kind) for lane in trace.lanes] or [0])
    keys = trace.name[chosen].astype(np.int64) * len(_KINDS) + kinds[trace.lane[chosen]]
    rows, group = np.unique(keys, return_inverse=True)
    calls = np.bincount(group, minlength=len(rows))
    totals = np.bincount(group, inside_us[chosen], minlength=len(rows))
    owns = np.bincount(group, own_us[chosen], minlength=len(rows))
    shapes = _shapes(trace, chosen, group)
    table = [
        Operator(
            name=trace.names[key // len(_KINDS)],
            kind=_KINDS[key % len(_KINDS)],
            calls=int(calls[row]),
            self_us=float(owns[row]),
            total_us=float(totals[row]),
            shapes=shapes.get(row, []),
        )
        for row, key in enumerate(rows.tolist())
    ]
    return sorted(table, key=lambda row: (-row.self_us, row.name))


def flame(trace: Trace, interval: Interval | None = None, lanes: set[int] | None = None) -> Flame:
    """The same spans folded by the path of names that they lie in. Spans whose parent is not chosen are roots."""
    chosen, inside_us = _inside(trace, interval, lanes)
    own_us = _own(trace, chosen, inside_us)
    above = parents(trace)
    root = Flame("all")
    nodes: dict[int, Flame] = {}
    for place in chosen.tolist():  # sorted by lane: parents come before their children
        parent = nodes.get(int(above[place]))
        if parent is None:
            lane = trace.lanes[trace.lane[place]]
            thread = f"{lane.process}, {lane.thread}"
            parent = root.children.setdefault(thread, Flame(thread))
            parent.total_us += float(inside_us[place])
            root.total_us += float(inside_us[place])
        name = trace.names[trace.name[place]]
        nodes[place] = node = parent.children.setdefault(name, Flame(name))
        node.total_us += float(inside_us[place])
        node.self_us += float(own_us[place])
        node.calls += 1
    return root


_KINDS: tuple[LaneKind, ...] = ("gateway", "cpu", "gpu")


def _inside(
    trace: Trace, interval: Interval | None, lanes: set[int] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Which spans are meant, and for how long each of all spans lies in the interval."""
    starts, ends = trace.start_us, trace.start_us + trace.duration_us
    begin, end = interval or (-np.inf, np.inf)
    mask = ((ends > begin) & (starts < end)) | ((starts == ends) & (starts >= begin) & (starts < end))
    if lanes is not None:
        mask &= np.isin(trace.lane, list(lanes))
    inside_us = np.where(mask, np.maximum(np.minimum(ends, end) - np.maximum(starts, begin), 0.0), 0.0)
    return np.flatnonzero(mask), inside_us


def _own(trace: Trace, chosen: npt.NDArray[np.int64], inside_us: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The time of each span that lies in none of its children."""
    own_us = inside_us.copy()
    above = parents(trace)[chosen]
    nested = above >= 0
    np.subtract.at(own_us, above[nested], inside_us[chosen][nested])
    return np.maximum(own_us, 0.0)


def _shapes(trace: Trace, chosen: npt.NDArray[np.int64], group: npt.NDArray[np.int64]) -> dict[int, list[str]]:
    """By row: the most frequent shapes."""
    details = trace.detail[chosen].astype(np.int64)
    pairs, counts = np.unique(np.stack((group, details)), axis=1, return_counts=True)
    frequent: dict[int, Counter[str]] = {}
    for row, detail, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
        text = shapes_of(trace.details[detail]) if detail else ""
        if text:
            frequent.setdefault(row, Counter())[text] += count
    return {row: [text for text, _ in counter.most_common(3)] for row, counter in frequent.items()}


def shapes_of(detail: str) -> str:
    """A span's detail -> the shapes of its inputs that are tensors, as JSON; empty where there are none."""
    shapes = msgspec.json.decode(detail, type=_Shapes).shapes if detail else []
    tensors = [shape for shape in shapes if isinstance(shape, list) and shape]
    return msgspec.json.encode(tensors).decode() if tensors else ""


class _Shapes(msgspec.Struct):
    shapes: list[object] = msgspec.field(default_factory=list)


def lanes_of(trace: Trace, kind: LaneKind) -> set[int]:
    """The numbers of the lanes of a kind."""
    return {number for number, lane in enumerate(trace.lanes) if lane.kind == kind}
