"""The model of a trace: lanes in which nothing overlaps, whatever was added; tables and flame graphs by brute force."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nbserve.measure.operators import flame, operators, parents
from nbserve.measure.spans import Builder, Thread
from nbserve.measure.trace import Trace
from tests.traces import synthetic

MAIN = Thread("worker 0", "main", "cpu")

times = st.integers(0, 60).map(float)
threads = st.sampled_from([MAIN, Thread("worker 0", "stream 7", "gpu")])
names = st.sampled_from(["a", "b", "c"])
spans = st.lists(st.tuples(times, st.integers(0, 30).map(float), names, threads), max_size=25)
"""Whole microseconds: sums are exact."""


def built(rows: list[tuple[float, float, str, Thread]]) -> Trace:
    builder = Builder()
    for start, duration, name, thread in rows:
        builder.add(thread, start, duration, name)
    return builder.build({})


@given(spans)
def test_nothing_overlaps_in_a_lane_and_nothing_is_lost(rows: list[Any]) -> None:
    trace = built(rows)
    assert len(trace) == len(rows)
    order = list(zip(trace.lane.tolist(), trace.start_us.tolist(), strict=True))
    assert order == sorted(order)
    ends = trace.start_us + trace.duration_us
    for place in range(1, len(trace)):
        if trace.lane[place] == trace.lane[place - 1]:
            assert ends[place - 1] <= trace.start_us[place]
    if rows:
        first = min(row[0] for row in rows)
        found = sorted((trace.names[trace.name[i]], trace.start_us[i] + first) for i in range(len(trace)))
        assert found == sorted((name, start) for start, _, name, _ in rows)


def test_nesting_becomes_depth_and_neighbours_share_a_lane() -> None:
    trace = built(
        [(0, 10, "a", MAIN), (1, 4, "b", MAIN), (5.000_5, 4, "b", MAIN), (2, 1, "c", MAIN), (20, 1, "a", MAIN)]
    )
    depths = {
        (trace.names[n], s): trace.lanes[lane].depth
        for n, s, lane in zip(trace.name, trace.start_us, trace.lane, strict=True)
    }
    assert depths == {("a", 0.0): 0, ("b", 1.0): 1, ("b", 5.000_5): 1, ("c", 2.0): 2, ("a", 20.0): 0}


def test_rounding_to_a_nanosecond_opens_no_new_lane() -> None:
    """Kineto's times are of the size 4.5e12 us, where doubles are 0.001 apart."""
    trace = built([(0, 10, "a", MAIN), (1, 2.002, "b", MAIN), (3, 2, "b", MAIN)])
    assert len(trace.lanes) == 2
    assert trace.start_us[1] + trace.duration_us[1] <= trace.start_us[2]


def test_columns_come_back_out_of_their_bytes() -> None:
    trace = synthetic(1000, 3)
    header, buffer = trace.to_bytes()
    assert header["events"] == len(trace)
    for name, kind, offset in header["columns"]:
        column = np.frombuffer(buffer, np.dtype(kind).newbyteorder("<"), len(trace), offset)
        assert offset % 8 == 0
        assert (column == getattr(trace, name)).all()
    assert (header["names"], header["details"]) == (trace.names, trace.details)
    empty = built([])
    assert (len(empty), empty.end_us, empty.to_bytes()[1]) == (0, 0.0, b"")


# --- tables and flame graphs, against the plain way ---


def brute_force(trace: Trace, interval: tuple[float, float]) -> tuple[dict[Any, list[float]], dict[Any, float]]:
    """name -> [calls, self, total]; path -> self. Span by span, each looked up in all others."""
    begin, end = interval
    rows = []
    for place in range(len(trace)):
        start, stop = float(trace.start_us[place]), float(trace.start_us[place] + trace.duration_us[place])
        counts = (stop > begin and start < end) or (start == stop and begin <= start < end)
        inside = max(0.0, min(stop, end) - max(start, begin)) if counts else 0.0
        rows.append((trace.lanes[trace.lane[place]], start, stop, trace.names[trace.name[place]], counts, inside))

    def parent(place: int) -> int | None:
        lane, start, stop, *_ = rows[place]
        for other, (above, first, last, *_) in enumerate(rows):
            same = (above.process, above.thread, above.depth) == (lane.process, lane.thread, lane.depth - 1)
            last_begun = same and first <= start and not any(
                rows[k][0] == above and first < rows[k][1] <= start for k in range(len(rows))
            )  # fmt: skip
            if lane.kind != "gateway" and last_begun and stop <= last + 0.01:
                return other
        return None

    own = [row[5] for row in rows]
    for place in range(len(rows)):
        above = parent(place)
        if above is not None:
            own[above] -= rows[place][5]
    table: dict[Any, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    paths: dict[Any, float] = defaultdict(float)
    for place, (lane, _, _, name, counts, inside) in enumerate(rows):
        if not counts:
            continue
        row = table[name, lane.kind]
        row[0] += 1
        row[1] += max(0.0, own[place])
        row[2] += inside
        path, above = [name], parent(place)
        while above is not None:
            path.insert(0, rows[above][3])
            above = parent(above)
        paths["all", f"{lane.process}, {lane.thread}", *path] += max(0.0, own[place])
    return table, {path: time for path, time in paths.items() if time > 0}


@given(spans, st.tuples(times, times).map(lambda pair: (min(pair), max(pair))))
def test_tables_and_flames_are_those_of_the_plain_way(rows: list[Any], interval: tuple[float, float]) -> None:
    trace = built(rows)
    table, paths = brute_force(trace, interval)
    found = operators(trace, interval)
    assert {(row.name, row.kind): [row.calls, row.self_us, row.total_us] for row in found} == table
    assert [row.self_us for row in found] == sorted((row.self_us for row in found), reverse=True)
    folded = dict(flame(trace, interval).folded())
    assert folded == paths


def test_a_parent_is_one_that_holds_it_whole() -> None:
    trace = built([(0, 10, "a", MAIN), (5, 10, "b", MAIN), (6, 2, "c", MAIN)])  # b only overlaps a
    names = [trace.names[number] for number in trace.name]
    above = [names[p] if p >= 0 else None for p in parents(trace).tolist()]
    assert dict(zip(names, above, strict=True)) == {"a": None, "b": None, "c": "b"}


def test_lanes_may_be_chosen_and_shapes_are_counted() -> None:
    builder = Builder()
    for at, shape in enumerate(("[[1,8],[]]", "[[2,8],[]]", "[[2,8],[]]")):
        builder.add(MAIN, 10.0 * at, 5.0, "aten::mm", detail=f'{{"shapes":{shape}}}')
    builder.add(Thread("gateway", "requests", "gateway"), 0.0, 30.0, "queue", slot=0)
    trace = builder.build({})
    [row] = operators(trace, lanes={0})
    assert (row.name, row.calls, row.total_us, row.shapes) == ("aten::mm", 3, 15.0, ["[[2,8]]", "[[1,8]]"])
    assert {row.name for row in operators(trace)} == {"aten::mm", "queue"}
