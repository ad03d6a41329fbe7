"""Samples become spans: whatever is sampled, the flame graph of the trace has the same paths with the same times."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.measure.chrome import perfetto, system_trace
from nbserve.measure.operators import flame
from nbserve.measure.sampled import add_samples
from nbserve.measure.spans import Builder
from nbserve.measure.system_profile import Stack, Track, part_of, summed_up
from tests.unit.measure.torch_traces import record

FRAMES = ["run (app.py:3)", "forward (model.py:9)", "addmm (libtorch.so)", "epoll_wait (libc.so.6)"]
steps = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 9), st.lists(st.sampled_from(FRAMES), min_size=1, max_size=5)),
    max_size=12,
)
"""Of one thread: what passes before, how long it lasts, and the stack; in hundredths of a second."""


def track(process: str, thread: str, given_steps: list[tuple[int, int, list[str]]]) -> Track:
    at, stacks = 0, []
    for before, lasts, frames in given_steps:
        stacks.append(Stack((at + before) / 100, (at + before + lasts) / 100, tuple(frames)))
        at += before + lasts
    return Track(process, thread, stacks)


@given(steps, steps, steps)
def test_the_flame_graph_is_that_of_the_samples(
    gateway: list[tuple[int, int, list[str]]],
    worker: list[tuple[int, int, list[str]]],
    waiting: list[tuple[int, int, list[str]]],
) -> None:
    tracks = [
        track("gateway", "samples 1", gateway),
        track("worker 0", "samples 1", worker),
        track("worker 0", "samples 2", waiting),
    ]
    builder = Builder()
    add_samples(builder, tracks, 0.0)
    trace = builder.build({})
    found = {path[1:]: hundredths for path, us in flame(trace).folded() if (hundredths := round(us / 1e4))}
    wanted: dict[tuple[str, ...], int] = {}
    for process, thread, stacks in tracks:
        for begin_s, end_s, frames in stacks:
            path = (f"{process}, {thread}", part_of(frames), *frames)
            wanted[path] = wanted.get(path, 0) + round((end_s - begin_s) * 100)
    assert found == wanted
    ends = trace.start_us + trace.duration_us
    same = trace.lane[1:] == trace.lane[:-1]
    assert (ends[:-1][same] <= trace.start_us[1:][same]).all(), "spans of a lane do not overlap"
    assert set(trace.lane.tolist()) == set(range(len(trace.lanes))), "no lane is empty"
    folded = summed_up(tracks, 5).folded
    assert sum(folded.values()) == pytest.approx(10 * sum(wanted.values()))


def test_samples_stand_beside_the_batch_that_they_were_taken_in() -> None:
    """Of a batch that takes from 1000 to 2000 us after the profile's begin, a sample in its middle."""
    written = record({1: (1000.0, 1000)})
    began_s = written.clock.monotonic_s
    tracks = [Track("worker 0", "samples 1", [Stack(began_s + 1.2e-3, began_s + 1.7e-3, ("forward (m.py:1)",))])]
    trace = system_trace(written, tracks)
    at = {trace.names[name]: place for place, name in enumerate(trace.name)}
    assert set(at) >= {"in worker", "batch", "python", "forward (m.py:1)"}
    for inner, outer in (("forward (m.py:1)", "python"), ("python", "batch"), ("batch", "in worker")):
        assert trace.start_us[at[outer]] <= trace.start_us[at[inner]]
        assert trace.start_us[at[inner]] + trace.duration_us[at[inner]] <= (
            trace.start_us[at[outer]] + trace.duration_us[at[outer]] + 0.01
        )
    assert trace.start_us[at["forward (m.py:1)"]] - trace.start_us[at["batch"]] == pytest.approx(200, abs=64)
    events = json.loads(gzip.decompress(perfetto(None, written, tracks)))["traceEvents"]
    spans = {event["name"]: event for event in events if event["ph"] == "X"}
    assert spans["forward (m.py:1)"]["ts"] - spans["batch"]["ts"] == pytest.approx(200, abs=64)
    assert spans["forward (m.py:1)"]["tid"] == spans["python"]["tid"] != spans["batch"]["tid"]
    assert spans["forward (m.py:1)"]["pid"] == spans["batch"]["pid"] != spans["in worker"]["pid"]


def test_every_thread_of_many_has_its_lanes() -> None:
    processes = ["gateway", *(f"worker {number}" for number in range(8))]
    threads = [(process, f"samples {number}") for process in processes for number in range(1, 10)]
    trace = system_trace(record({}), [track(*thread, [(0, 9, FRAMES[:2])]) for thread in threads])
    assert [(lane.process, lane.thread, lane.depth) for lane in trace.lanes] == [
        (*thread, depth) for thread in threads for depth in range(3)
    ]
    assert "truncated" not in trace.meta or not trace.meta["truncated"]


def test_nothing_sampled_is_an_empty_trace() -> None:
    builder = Builder()
    add_samples(builder, [Track("gateway", "samples 1", [])], 0.0)
    assert len(builder.build({})) == 0
