"""Collects spans and makes a `Trace` of them: nesting becomes lanes, texts become indices, all times start at 0. Pure.

Used by chrome.py, which knows where spans come from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nbserve.measure.trace import Lane, LaneKind, Trace

__all__ = ["Builder", "Thread"]

ROUNDING_US = 0.01
"""Times of a raw trace are rounded to a nanosecond: a span may seem to outlast the one it is nested in by this much."""
MAX_LANES = 65_535


class Thread(NamedTuple):
    """Where spans happen."""

    process: str
    name: str
    kind: LaneKind


class _Column:
    """Texts by index, each once."""

    def __init__(self, first: tuple[str, ...] = ()) -> None:
        self.texts = list(first)
        self._known = {text: place for place, text in enumerate(first)}

    def __call__(self, text: str) -> int:
        place = self._known.get(text)
        if place is None:
            place = self._known[text] = len(self.texts)
            self.texts.append(text)
        return place


class Builder:
    """Add spans in any order, then `build`."""

    def __init__(self) -> None:
        self._names = _Column()
        self._details = _Column(("",))
        self._threads: dict[Thread, list[tuple[float, float, int, int, int, int]]] = {}

    def add(
        self,
        thread: Thread,
        start_us: float,
        duration_us: float,
        name: str,
        *,
        detail: str = "",
        link: int = 0,
        slot: int = -1,
    ) -> None:
        """One span. `slot`: the lane of its thread; -1 = by how it is nested in the others."""
        row = (start_us, duration_us, self._names(name), self._details(detail), link, slot)
        self._threads.setdefault(thread, []).append(row)

    @property
    def first_us(self) -> float:
        """Where the first span begins; 0 where there is none."""
        return min((row[0] for rows in self._threads.values() for row in rows), default=0.0)

    def build(self, meta: dict[str, Any]) -> Trace:
        """All that was added; threads in the order in which each was first seen."""
        lanes: list[Lane] = []
        parts: list[npt.NDArray[np.float64]] = []
        for thread, rows in self._threads.items():
            table = np.array(rows, dtype=np.float64).reshape(-1, 6)
            table = table[np.lexsort((-table[:, 1], table[:, 0]))]
            if table[0, 5] < 0:
                table[:, 5] = _nested(table[:, 0].tolist(), table[:, 1].tolist())
            deepest = int(table[:, 5].max())
            table[:, 5] += len(lanes)
            lanes += [Lane(*thread[:2], depth, thread.kind) for depth in range(deepest + 1)]
            parts.append(table)
        table = np.concatenate(parts) if parts else np.zeros((0, 6))
        if len(lanes) > MAX_LANES:
            table, lanes = table[table[:, 5] < MAX_LANES], lanes[:MAX_LANES]
            meta = meta | {"truncated": f"{meta.get('truncated', '')} more than {MAX_LANES:,} lanes".strip()}
        table = table[np.lexsort((table[:, 0], table[:, 5]))]
        if len(table):
            table[:, 0] -= table[:, 0].min()
        return Trace(
            start_us=table[:, 0].copy(),
            duration_us=_kept_apart(table[:, 0], table[:, 1], table[:, 5]),
            name=table[:, 2].astype(np.uint32),
            lane=table[:, 5].astype(np.uint16),
            detail=table[:, 3].astype(np.uint32),
            link=table[:, 4].astype(np.uint32),
            names=self._names.texts,
            lanes=lanes,
            details=self._details.texts,
            meta=meta,
        )


def _nested(starts: list[float], durations: list[float]) -> npt.NDArray[np.float64]:
    """Depth of each span of one thread, sorted by start, longest first.

    One that overlaps another without being nested in it gets a depth of its own below.
    """
    depths = np.zeros(len(starts))
    ends: list[float] = []  # of the spans that are open, outermost first
    for place, start in enumerate(starts):
        while ends and ends[-1] <= start + ROUNDING_US:
            ends.pop()
        depths[place] = len(ends)
        ends.append(start + durations[place])
    return depths


def _kept_apart(
    starts: npt.NDArray[np.float64], durations: npt.NDArray[np.float64], lanes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Durations as float32 that reach into no following span of the lane, whatever rounding did to them."""
    room = np.full(len(starts), np.inf)
    same = lanes[1:] == lanes[:-1]
    room[:-1][same] = (starts[1:] - starts[:-1])[same]
    fitting = np.minimum(durations, room)
    rounded: npt.NDArray[np.float32] = fitting.astype(np.float32)
    too_long = rounded.astype(np.float64) > fitting
    rounded[too_long] = np.nextafter(rounded[too_long], np.float32(0))
    return rounded
