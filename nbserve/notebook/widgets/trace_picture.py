"""A trace as a picture and as words: what a notebook shows of the trace view where no widget runs. Pure.

Called by trace.py only. Shown as `<img>` with a data URI: GitHub, and JupyterLab where a notebook is not trusted, take
inline SVG out but leave images in. What stands in a trace is escaped: names of operators are the user's.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from nbserve.measure.operators import operators
from nbserve.measure.svg import BLUE, CHARACTER, GREY, VERMILLION, text
from nbserve.measure.trace import Lane, LaneKind, Trace

__all__ = ["as_html", "as_svg", "as_text", "coverage"]

BINS = 300
BIN_PX = 2
LABEL_PX = 150
ROW_PX: dict[LaneKind, int] = {"gateway": 6, "cpu": 14, "gpu": 14}
AXIS_PX = 22
MAX_ROWS = 40
"""Lanes that are drawn: outermost first. More would make a large file of a small picture."""
LEAST = 0.12
"""Height of a bar for something, however short: it is seen."""
TOP_OPERATORS = 8

_COLOURS: dict[LaneKind, str] = {"gateway": GREY, "cpu": BLUE, "gpu": VERMILLION}


def as_html(trace: Trace, title: str) -> str:
    """Picture and table of operators, as HTML without scripts and styles of the page."""
    source = base64.b64encode(as_svg(trace).encode()).decode()
    told = "".join(f"<div>{html.escape(line)}</div>" for line in _told(trace))
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td>" + "".join(f'<td align="right">{cell}</td>' for cell in numbers) + "</tr>"
        for name, *numbers in _operator_rows(trace)
    )
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    return (
        f'<div class="nbserve-trace"><div><strong>{html.escape(title)}</strong></div>{told}'
        f'<img src="data:image/svg+xml;base64,{source}" alt="{html.escape("; ".join(_thread_lines(trace)))}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def as_text(trace: Trace, title: str) -> str:
    """The trace in lines: its size, its threads, the operators with most time of their own."""
    lines = [title, *_told(trace), *(f"  {line}" for line in _thread_lines(trace))]
    table = [_COLUMNS, *_operator_rows(trace)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_COLUMNS))]
    for name, *numbers in table:
        padded = (number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))
        lines.append("  ".join(["", *padded, name]))
    return "\n".join(lines)


def as_svg(trace: Trace) -> str:
    """Lane by lane, from left to right over the time of the workers: how much of each moment is filled."""
    begin_us, end_us = _working(trace)
    lanes = sorted(range(len(trace.lanes)), key=lambda number: (trace.lanes[number].depth, number))[:MAX_ROWS]
    rows = sorted(lanes, key=lambda number: _order(trace, number))
    height, width = AXIS_PX + sum(ROW_PX[trace.lanes[number].kind] for number in rows) + 2, LABEL_PX + BINS * BIN_PX
    parts = list(_axis(begin_us, end_us, height))
    bottom = AXIS_PX
    for number in rows:
        lane = trace.lanes[number]
        tall = ROW_PX[lane.kind]
        bottom += tall
        if lane.depth == 0:
            label = f"{lane.process} {lane.thread}"
            fits = int(LABEL_PX / CHARACTER)
            parts.append(text(2, bottom - tall + 11, label if len(label) <= fits else f"{label[: fits - 1]}…"))
        filled = coverage(trace, number, BINS, begin_us, end_us)
        parts.append(f'<path d="{_bars(filled, bottom, tall - 2)}" fill="{_COLOURS[lane.kind]}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="DejaVu Sans, sans-serif" font-size="11">{"".join(parts)}</svg>'
    )


def coverage(trace: Trace, lane: int, bins: int, begin_us: float, end_us: float) -> npt.NDArray[np.float64]:
    """Of each of `bins` equal parts of an interval, the share in which the lane has a span."""
    first, last = np.searchsorted(trace.lane, [lane, lane + 1])
    starts, durations = trace.start_us[first:last], trace.duration_us[first:last].astype(np.float64)
    if not len(starts) or end_us <= begin_us:
        return np.zeros(bins)
    moments = np.stack((starts, starts + durations), axis=1).ravel()
    filled = np.stack((np.cumsum(durations) - durations, np.cumsum(durations)), axis=1).ravel()
    edges = np.linspace(begin_us, end_us, bins + 1)
    return np.diff(np.interp(edges, np.maximum.accumulate(moments), filled)) * bins / (end_us - begin_us)


def _working(trace: Trace) -> tuple[float, float]:
    """When the workers are at it: the first requests may have waited long for the profiler to begin."""
    of_workers = np.array([lane.kind != "gateway" for lane in trace.lanes] or [False])[trace.lane]
    starts, durations = trace.start_us[of_workers], trace.duration_us[of_workers]
    return (float(starts.min()), float((starts + durations).max())) if len(starts) else (0.0, trace.end_us)


def _order(trace: Trace, number: int) -> tuple[bool, str, int, int]:
    """The gateway first; lanes of a process together, those of a thread by depth."""
    lane = trace.lanes[number]
    thread = next(place for place, other in enumerate(trace.lanes) if other[:2] == lane[:2])
    return lane.kind != "gateway", lane.process, thread, lane.depth


def _axis(begin_us: float, end_us: float, height: int) -> Iterator[str]:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = LABEL_PX + share * (BINS * BIN_PX - 1)
        yield f'<path d="M{x:.0f} {AXIS_PX - 4}V{height}" stroke="{GREY}" stroke-opacity="0.4"/>'
        anchor = "end" if share == 1 else "middle" if share else "start"
        yield text(x, AXIS_PX - 8, _duration(begin_us + share * (end_us - begin_us)), anchor)


def _bars(shares: npt.NDArray[np.float64], bottom: int, tall: int) -> str:
    """A path: equal neighbours are one bar."""
    heights = np.where(shares > 0, np.maximum(LEAST, np.minimum(shares, 1.0)), 0.0) * tall
    heights = np.ceil(heights * 2) / 2
    changes = [0, *(np.flatnonzero(np.diff(heights)) + 1).tolist(), len(heights)]
    return "".join(
        f"M{LABEL_PX + begin * BIN_PX} {bottom}v-{heights[begin]:g}h{(end - begin) * BIN_PX}v{heights[begin]:g}z"
        for begin, end in pairwise(changes)
        if end > begin and heights[begin] > 0
    )


def _told(trace: Trace) -> list[str]:
    lines = [f"{len(trace):,} spans over {_duration(trace.end_us)}"]
    if note := trace.meta.get("note"):
        lines.append(str(note))
    if truncated := trace.meta.get("truncated"):
        lines.append(f"not whole: {truncated}")
    return lines


def _thread_lines(trace: Trace) -> list[str]:
    """One line a thread: spans of all its lanes, and the share of time in which its outermost one is filled."""
    spans = np.bincount(trace.lane, minlength=len(trace.lanes))
    threads: dict[Lane, int] = {}
    for number, lane in enumerate(trace.lanes):
        outermost = lane._replace(depth=0)
        threads[outermost] = threads.get(outermost, 0) + int(spans[number])
    numbers = {lane: number for number, lane in enumerate(trace.lanes)}
    lines = []
    for lane, count in threads.items():
        busy = float(coverage(trace, numbers[lane], 1, 0.0, trace.end_us)[0]) if lane in numbers else 0.0
        lines.append(f"{lane.process}, {lane.thread}: {count:,} spans, busy {busy:.0%}")
    return lines


_COLUMNS = ("operator", "self", "total", "calls")


def _operator_rows(trace: Trace) -> list[tuple[str, str, str, str]]:
    return [
        (row.name, _duration(row.self_us), _duration(row.total_us), f"{row.calls:,}")
        for row in operators(trace)
        if row.kind != "gateway"
    ][:TOP_OPERATORS]


def _duration(us: float) -> str:
    """Microseconds for a reader."""
    value, unit = (us / 1e6, "s") if us >= 1e6 else (us / 1e3, "ms") if us >= 1e3 else (us, "µs")
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
