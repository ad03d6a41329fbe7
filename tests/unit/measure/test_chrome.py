"""Raw traces onto one clock: real ones of torch, hand-built ones of a GPU, and what goes to Perfetto."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from nbserve.errors import MeasureError
from nbserve.measure.chrome import perfetto, read_trace
from nbserve.measure.trace import Lane, Trace
from nbserve.wire.profile import BatchSpan, ClockPair, Profiled, StageSpan
from tests.unit.measure.torch_traces import MAIN, RawTrace, record


def rows(trace: Trace, lane: str = "", name: str = "") -> list[tuple[str, float, float, int, str]]:
    """(name, start, duration, link, detail) of a thread's spans."""
    return [
        (trace.names[n], round(float(s), 2), round(float(d), 2), int(k), trace.details[detail])
        for s, d, n, at, detail, k in zip(
            trace.start_us, trace.duration_us, trace.name, trace.lane, trace.detail, trace.link, strict=True
        )
        if trace.lanes[at].thread == (lane or trace.lanes[at].thread) and trace.names[n] == (name or trace.names[n])
    ]


def gpu_trace() -> RawTrace:
    raw = RawTrace()
    raw.batch(12, 1000, 500, inference=(1100, 300))
    raw.op("aten::mm", 1110, 40, [[8, 16], [16, 32]], ["c10::Half", "c10::Half"])
    raw.launch("sm90_xmma_gemm_f16", 1120, 200.0)  # ends 100 us after the launching batch did: 1130 .. 1330
    raw.launch("late_kernel", 1390, 400.0)
    raw.launch("Memcpy HtoD (Pageable -> Device)", 1010, 10.0, call="cudaMemcpyAsync", cat="gpu_memcpy", bytes=4096)
    raw.batch(13, 2000, 100, inference=(2010, 50))
    return raw


def test_gateway_worker_and_gpu_are_on_one_clock() -> None:
    # batch 12 began 3 s into the profile by the gateway's clock; in the trace it is at 1000 us
    trace = read_trace(gpu_trace().packed, record({12: (3_000_000, 500), 13: (3_001_000, 100)}))
    begin = 2_999_700.0  # the first request's arrival: time 0
    assert rows(trace, "main", "batch") == [
        ("batch", 3_000_000 - begin, 500.0, 12, '{"batch":12}'),
        ("batch", 3_001_000 - begin, 100.0, 13, '{"batch":13}'),
    ]
    assert rows(trace, "requests")[:3] == [
        ("queue", 0.0, 200.0, 12, '{"request":"r12","bytes":10,"status":200}'),
        ("batch wait", 200.0, 50.0, 12, '{"request":"r12","bytes":10,"status":200}'),
        ("in worker", 250.0, 600.0, 12, '{"request":"r12","bytes":10,"status":200}'),
    ]
    kernels = rows(trace, "stream 7")
    assert [(name, start, link) for name, start, _, link, _ in kernels] == [
        ("Memcpy HtoD (Pageable -> Device)", 320.0, 12),
        ("sm90_xmma_gemm_f16", 430.0, 12),
        ("late_kernel", 700.0, 12),  # by who launched it: it runs when its batch is over
    ]
    assert kernels[0][4] == '{"bytes":4096}'
    assert Lane("worker 0", "stream 7", 0, "gpu") in trace.lanes
    assert "gpu_user_annotation" not in trace.names
    [product] = rows(trace, "main", "aten::mm")
    assert json.loads(product[4]) == {"shapes": [[8, 16], [16, 32]], "types": ["c10::Half", "c10::Half"]}
    assert (trace.meta["device"], trace.meta["batches"], trace.meta["version"]) == ("cuda:0", 2, "1")


def test_a_worker_whose_clock_began_elsewhere_is_put_right() -> None:
    away = ClockPair(5.0, 1_700_000_000.0)  # the same moment as the gateway's 1000.0
    span = BatchSpan(12, 5.0 + 3.0, 0.0005, 1, [])
    worker = Profiled("1", away, [span], profiler="torch 2.13.0", device="cuda:0")
    trace = read_trace(gpu_trace().packed, record({12: (3_000_000, 500)}, worker=worker))
    assert rows(trace, "main", "batch")[0][1] == pytest.approx(300.0, abs=0.1)


def test_streams_of_several_devices_are_told_apart_and_other_threads_counted() -> None:
    raw = gpu_trace()
    raw.span("kernel", "other", 1100, 5, {"pid": 1, "tid": 7}, correlation=99)
    raw.span("cpu_op", "aten::mul", 1150, 5, {"pid": 4711, "tid": 4712})
    trace = read_trace(raw.packed, record({12: (3_000_000, 500)}))
    threads = {(lane.thread, lane.kind) for lane in trace.lanes}
    on_gpu = {("GPU 0 stream 7", "gpu"), ("GPU 1 stream 7", "gpu")}
    assert threads == {("requests", "gateway"), ("main", "cpu"), ("thread 1", "cpu")} | on_gpu
    assert rows(trace, "thread 1") == [("aten::mul", 450.0, 5.0, 12, "")]


def test_requests_that_wait_at_the_same_time_have_lanes_of_their_own() -> None:
    trace = read_trace(gpu_trace().packed, record({12: (3_000_000, 500), 13: (3_000_100, 500), 14: (3_002_000, 10)}))
    slots = {lane.depth for lane in trace.lanes if lane.kind == "gateway"}
    assert slots == {0, 1}


def test_without_torch_the_stages_are_there() -> None:
    clock = ClockPair(1000.0, 1_700_000_000.0)
    stages = [StageSpan("decode", 1003.0, 0.0001), StageSpan("inference", 1003.0001, 0.0003)]
    worker = Profiled("1", clock, [BatchSpan(12, 1003.0, 0.0005, 3, stages)])
    trace = read_trace(None, record({12: (3_000_000, 500)}, worker=worker))
    assert [row[:4] for row in rows(trace, "main")] == [
        ("batch", 300.0, 500.0, 12),
        ("decode", 300.0, 100.0, 12),
        ("inference", 400.0, 300.0, 12),
    ]
    assert {lane.depth for lane in trace.lanes if lane.kind == "cpu"} == {0, 1}


def test_perfetto_gets_one_file_with_the_gateway_in_it() -> None:
    raw, written = gpu_trace(), record({12: (3_000_000, 500), 13: (3_001_000, 100)})
    events = json.loads(gzip.decompress(perfetto(raw.packed, written)))["traceEvents"]
    theirs = [event for event in events if event.get("cat") != "nbserve" and event["pid"] not in (1, 2)]
    assert theirs == raw.events, "nothing of theirs is changed"
    ours = {event["name"]: event for event in events if event.get("cat") == "nbserve"}
    mark = next(event for event in raw.events if event["name"] == "nbserve batch 13")
    assert ours["in worker"]["args"]["request"] == "r13"
    assert ours["in worker"]["ts"] == pytest.approx(mark["ts"] - 50, abs=0.01), "on their clock"
    assert all(isinstance(event["pid"], int) for event in events if event.get("cat") == "nbserve")
    names = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert "nbserve gateway" in names
    alone = json.loads(gzip.decompress(perfetto(None, written)))["traceEvents"]
    assert {"queue", "batch"} <= {event["name"] for event in alone}


def test_what_is_no_trace_is_said_so() -> None:
    for damaged in (b"", b"{}", gzip.compress(b"{}"), gpu_trace().packed[:200]):
        with pytest.raises(MeasureError, match="no packed trace"):
            read_trace(damaged, record({12: (0, 1)}))


def test_python_functions_outside_of_batches_are_left_out() -> None:
    raw = gpu_trace()
    raw.span("python_function", "tornado/ioloop.py(1): start", 0, 5000, MAIN)
    raw.span("python_function", "handler.py(7): inference", 1100, 290, MAIN)
    trace = read_trace(raw.packed, record({12: (3_000_000, 500)}))
    assert "handler.py(7): inference" in trace.names
    assert "tornado/ioloop.py(1): start" not in trace.names


def test_a_real_trace_of_torch(tmp_path: Path) -> None:
    import torch

    model, batch = torch.nn.Linear(64, 8), torch.zeros(4, 64)
    began: list[BatchSpan] = []
    with torch.profiler.profile(record_shapes=True, profile_memory=True, with_stack=True) as recorder:
        for number in (5, 6):
            at_s = time.monotonic()
            mark = torch.profiler.record_function(f"nbserve batch {number}")
            with mark, torch.profiler.record_function("inference"), torch.inference_mode():
                model(batch).softmax(-1).sum().item()
            began.append(BatchSpan(number, at_s, time.monotonic() - at_s, 4, []))
    file = tmp_path / "t.json.gz"
    recorder.export_chrome_trace(str(file))
    clock = ClockPair(time.monotonic(), time.time())
    worker = Profiled("1", clock, began, profiler="torch")
    trace = read_trace(file.read_bytes(), record({}, worker=worker, clock=clock))
    batches = rows(trace, "main", "batch")
    assert [link for _, _, _, link, _ in batches] == [5, 6]
    said_us = (began[1].began_s - began[0].began_s) * 1e6
    assert batches[1][1] - batches[0][1] == pytest.approx(said_us, abs=2000)
    products = rows(trace, "main", "aten::addmm")
    assert [link for _, _, _, link, _ in products] == [5, 6]
    assert json.loads(products[0][4])["shapes"][1] == [4, 64]
    assert trace.meta["allocated_bytes"] >= 2 * 4 * 8 * 4
    assert trace.meta["peak_bytes"] > 0
    assert "Trace" not in {lane.process for lane in trace.lanes}
