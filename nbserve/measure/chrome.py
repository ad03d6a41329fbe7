"""A worker's raw torch trace and the gateway's spans -> a `Trace` on one clock; or one file for Perfetto. Pure.

The raw trace is Chrome's Trace Event Format as PyTorch (Kineto) writes it: complete events ("X") are spans; moments,
names ("M") and torch's own records ("Trace") are none. A GPU's spans have the device as pid and the stream as tid.
Called by profiling.py.
"""

from __future__ import annotations

import bisect
import gzip
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from nbserve.errors import MeasureError
from nbserve.measure.sampled import add_samples
from nbserve.measure.spans import Builder, Thread
from nbserve.measure.system_profile import Track
from nbserve.measure.trace import Lane, Trace
from nbserve.wire.profile import ProfileRecord, RequestSpan

__all__ = ["BATCH", "perfetto", "read_trace", "system_trace"]

BATCH_MARK = "nbserve batch "
"""As worker/profiler marks batches in the trace."""

BATCH = "batch"
"""What the span of a batch is called, its number in the detail: one row of a table, one box of a flame graph."""

_NO_SPANS = {"Trace", "Iteration", "gpu_user_annotation", "overhead"}
"""Of torch's own book-keeping; and the shadows that annotations of the CPU cast on the GPU, which are no work."""


_GPU = {"kernel", "gpu_memcpy", "gpu_memset"}
_ONE_CLOCK_S = 0.05
"""Clocks of gateway and worker that agree so closely are one: what differs is the time between two readings."""
_ABSENT = msgspec.Raw(b"")


class _Args(msgspec.Struct, gc=False):
    """What is used of an event's args, undecoded; the rest is passed over."""

    shapes: msgspec.Raw = msgspec.field(default=_ABSENT, name="Input Dims")
    types: msgspec.Raw = msgspec.field(default=_ABSENT, name="Input type")
    bytes: msgspec.Raw = _ABSENT
    memory_bytes: msgspec.Raw = msgspec.field(default=_ABSENT, name="Bytes")
    allocated_bytes: msgspec.Raw = msgspec.field(default=_ABSENT, name="Total Allocated")
    correlation: msgspec.Raw = _ABSENT


class _Event(msgspec.Struct, gc=False):
    ph: str
    name: str = ""
    cat: str = ""
    pid: int | str = ""
    tid: int | str = ""
    ts: float = 0.0
    dur: float | None = None
    args: _Args | None = None


class _File(msgspec.Struct):
    events: list[_Event] = msgspec.field(name="traceEvents")


def read_trace(raw: bytes | None, record: ProfileRecord) -> Trace:
    """One timeline of what the gateway and the worker noted. `raw`: torch's trace as packed by the worker, or None.

    Raises MeasureError where it is no trace.
    """
    builder = Builder()
    worker = f"worker {record.status.worker}"
    _add_gateway(builder, record)
    meta = _meta(record)
    if raw is None:
        _add_stages(builder, worker, record)
    else:
        meta |= _add_torch(builder, worker, _decoded(raw), record)
    return builder.build(meta)


def system_trace(record: ProfileRecord, tracks: Sequence[Track]) -> Trace:
    """What py-spy saw of all processes, on one timeline with the requests and the batches of the profile."""
    builder = Builder()
    _add_gateway(builder, record)
    _add_stages(builder, f"worker {record.status.worker}", record)
    add_samples(builder, tracks, record.clock.monotonic_s)
    return builder.build(_meta(record))


def perfetto(raw: bytes | None, record: ProfileRecord, tracks: Sequence[Track] = ()) -> bytes:
    """One packed Chrome JSON with the gateway's spans and py-spy's beside the worker's, for Perfetto."""
    text = gzip.decompress(raw) if raw is not None else b'{"traceEvents": []}'
    shift_us, origin_us = 0.0, 0.0
    if raw is not None:
        events = _decoded(raw).events
        origin_us = events[0].ts if events else 0.0
        shift_us = _shift(_marks(events, origin_us), record)
    builder = Builder()
    _add_gateway(builder, record)
    if raw is None:
        _add_stages(builder, f"worker {record.status.worker}", record)
    add_samples(builder, tracks, record.clock.monotonic_s)
    added = msgspec.json.encode(list(_chrome_events(builder, origin_us - shift_us)))[1:-1]
    key = text.index(b'"traceEvents"')
    place = text.index(b"[", key) + 1
    rest = text[place:].lstrip()
    comma = b"" if rest.startswith(b"]") or not added else b","
    return gzip.compress(text[:place] + added + comma + rest, compresslevel=3)


# --- torch ---


def _decoded(raw: bytes) -> _File:
    try:
        return msgspec.json.decode(gzip.decompress(raw), type=_File)
    except (OSError, EOFError, msgspec.MsgspecError) as exc:
        raise MeasureError(f"this is no packed trace of torch: {exc}") from exc


def _marks(events: list[_Event], origin_us: float) -> dict[int, tuple[float, float]]:
    """Batch id -> begin and end of its mark."""
    found = {}
    for event in events:
        if event.cat == "user_annotation" and event.name.startswith(BATCH_MARK) and event.dur is not None:
            number = event.name[len(BATCH_MARK) :]
            if number.isdigit():
                found[int(number)] = (event.ts - origin_us, event.ts - origin_us + event.dur)
    return found


def _shift(marks: dict[int, tuple[float, float]], record: ProfileRecord) -> float:
    """What is to be added to the trace's times, so that batches begin when the worker said they did."""
    clock = _worker_clock(record)
    known = [
        clock(batch.began_s) - marks[batch.batch_id][0] for batch in record.worker.batches if batch.batch_id in marks
    ]
    return statistics.median(known) if known else 0.0


def _add_torch(builder: Builder, worker: str, file: _File, record: ProfileRecord) -> dict[str, Any]:
    spans = [event for event in file.events if event.ph == "X" and event.dur is not None and event.cat not in _NO_SPANS]
    origin_us = file.events[0].ts if file.events else 0.0
    marks = _marks(spans, origin_us)
    shift_us = _shift(marks, record)
    links = _Links(marks)
    launched: dict[bytes, int] = {}  # correlation -> batch
    threads, detail_of = _Threads(worker, spans), _Details()
    on_gpu = []
    for event in spans:
        if event.cat in _GPU:
            on_gpu.append(event)
            continue
        start_us = event.ts - origin_us
        link = links(start_us)
        if event.cat == "python_function" and not link:
            continue  # the kernel's own loop, in which all batches are nested
        if event.args is not None and (correlation := bytes(event.args.correlation)):
            launched[correlation] = link
        name, detail = event.name, detail_of(event.args)
        if name.startswith(BATCH_MARK):
            name, detail = BATCH, f'{{"batch":{link}}}'
        builder.add(threads(event), start_us + shift_us, event.dur or 0.0, name, detail=detail, link=link)
    for event in on_gpu:
        correlation = bytes(event.args.correlation) if event.args is not None else b""
        start_us = event.ts - origin_us
        link = launched.get(correlation) or links(start_us)
        builder.add(
            threads(event), start_us + shift_us, event.dur or 0.0, event.name, detail=detail_of(event.args), link=link
        )
    return _memory(file.events)


class _Links:
    """A moment -> the batch that the worker was at, 0 = none; batches come one after the other."""

    def __init__(self, marks: dict[int, tuple[float, float]]) -> None:
        ordered = sorted((begin, end, number) for number, (begin, end) in marks.items())
        self._begins = [begin for begin, _, _ in ordered]
        self._ordered = ordered

    def __call__(self, at_us: float) -> int:
        place = bisect.bisect_right(self._begins, at_us) - 1
        if place < 0:
            return 0
        _, end, number = self._ordered[place]
        return number if at_us <= end else 0


class _Threads:
    """pid and tid -> who that is for a reader. The main thread is the one with the batches."""

    def __init__(self, worker: str, spans: list[_Event]) -> None:
        self._worker = worker
        self._known: dict[tuple[int | str, int | str, bool], Thread] = {}
        self._count = 0
        devices = {event.pid for event in spans if event.cat in _GPU}
        self._names_device = len(devices) > 1
        for event in spans:
            if event.cat == "user_annotation" and event.name.startswith(BATCH_MARK):
                self._known[(event.pid, event.tid, False)] = Thread(worker, "main", "cpu")

    def __call__(self, event: _Event) -> Thread:
        is_gpu = event.cat in _GPU
        key = (event.pid, event.tid, is_gpu)
        thread = self._known.get(key)
        if thread is None:
            if is_gpu:
                name = f"GPU {event.pid} stream {event.tid}" if self._names_device else f"stream {event.tid}"
            else:
                self._count += 1
                name = f"thread {self._count}"
            thread = self._known[key] = Thread(self._worker, name, "gpu" if is_gpu else "cpu")
        return thread


class _Details:
    """What is shown of a span beside its name and times, as JSON."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes, bytes], str] = {}

    def __call__(self, args: _Args | None) -> str:
        if args is None:
            return ""
        key = (bytes(args.shapes), bytes(args.types), bytes(args.bytes))
        text = self._known.get(key)
        if text is None:
            fields = zip(("shapes", "types", "bytes"), key, strict=True)
            inner = ",".join(f'"{name}":{value.decode()}' for name, value in fields if value)
            text = self._known[key] = f"{{{inner}}}" if inner else ""
        return text


def _memory(events: list[_Event]) -> dict[str, Any]:
    """Of a profile with --memory: what was allocated, in all and at most at once."""
    changes = [
        (int(bytes(event.args.memory_bytes)), int(bytes(event.args.allocated_bytes) or b"0"))
        for event in events
        if event.name == "[memory]" and event.args is not None and bytes(event.args.memory_bytes)
    ]
    if not changes:
        return {}
    allocated = sum(size for size, _ in changes if size > 0)
    return {"allocated_bytes": allocated, "peak_bytes": max(total for _, total in changes)}


# --- gateway and stages ---


def _add_gateway(builder: Builder, record: ProfileRecord) -> None:
    """Each request as queue, batch wait and the time in the worker, in one slot."""
    thread = Thread("gateway", "requests", "gateway")
    began_s = record.clock.monotonic_s
    slots: list[float] = []  # when each becomes free
    for request in sorted(record.requests, key=lambda request: request.arrived_s):
        slot = next((place for place, free_s in enumerate(slots) if free_s <= request.arrived_s), len(slots))
        slots[slot : slot + 1] = [request.answered_s]
        told: dict[str, Any] = {"request": request.request_id, "bytes": request.body_bytes, "status": request.status}
        detail = msgspec.json.encode(told).decode()
        for name, from_s, to_s in _phases(request):
            start_us = (from_s - began_s) * 1e6
            builder.add(thread, start_us, (to_s - from_s) * 1e6, name, detail=detail, link=request.batch_id, slot=slot)


def _phases(request: RequestSpan) -> Iterator[tuple[str, float, float]]:
    """As the header Server-Timing has them: what it waited for a worker is queueing, then it waits for its batch."""
    waits_s = min(max(request.arrived_s, request.idle_since_s), request.sent_s)
    if waits_s > request.arrived_s:
        yield "queue", request.arrived_s, waits_s
    if request.sent_s > waits_s:
        yield "batch wait", waits_s, request.sent_s
    yield "in worker", request.sent_s, max(request.sent_s, request.answered_s)


def _add_stages(builder: Builder, worker: str, record: ProfileRecord) -> None:
    """Without a torch trace: the batches and their stages, as the worker timed them."""
    thread, clock = Thread(worker, "main", "cpu"), _worker_clock(record)
    for batch in record.worker.batches:
        number = batch.batch_id
        detail = f'{{"batch":{number},"items":{batch.items}}}'
        builder.add(thread, clock(batch.began_s), batch.seconds * 1e6, BATCH, detail=detail, link=number)
        for stage in batch.stages:
            builder.add(thread, clock(stage.began_s), stage.seconds * 1e6, stage.name, link=number)


def _worker_clock(record: ProfileRecord) -> Callable[[float], float]:
    """The worker's monotonic seconds -> microseconds since the profile began, by the gateway's clock."""
    gateway, worker = record.clock, record.worker.clock
    offset_s = (worker.unix_s - worker.monotonic_s) - (gateway.unix_s - gateway.monotonic_s)
    if abs(offset_s) < _ONE_CLOCK_S:
        offset_s = 0.0
    return lambda at_s: (at_s + offset_s - gateway.monotonic_s) * 1e6


def _meta(record: ProfileRecord) -> dict[str, Any]:
    status, worker = record.status, record.worker
    return {
        "id": status.id,
        "name": status.name,
        "version": status.version,
        "digest": record.digest,
        "worker": status.worker,
        "device": worker.device,
        "threads": worker.threads,
        "profiler": worker.profiler,
        "started_at": record.began_at,
        "seconds": status.seconds,
        "batches": len(worker.batches),
        "requests": len(record.requests),
        "truncated": status.truncated,
        "note": status.note,
    }


def _chrome_events(builder: Builder, origin_us: float) -> Iterator[dict[str, Any]]:
    """Spans of ours as complete events. Processes get numbers, which no real one has beside a worker: 1, 2, ..."""
    start_us = builder.first_us + origin_us
    trace = builder.build({})
    pids: dict[str, int] = {}
    threads: dict[tuple[str, str], int] = {}
    tids = [_tid(lane, number, threads) for number, lane in enumerate(trace.lanes)]
    for number, lane in enumerate(trace.lanes):
        pid = pids.setdefault(lane.process, len(pids) + 1)
        names = {"process_name": f"nbserve {lane.process}", "thread_name": lane.thread}
        for kind, name in names.items():
            yield {"ph": "M", "name": kind, "pid": pid, "tid": tids[number], "args": {"name": name}}
    for place in range(len(trace)):
        number = int(trace.lane[place])
        lane = trace.lanes[number]
        yield {
            "ph": "X",
            "cat": "nbserve",
            "name": trace.names[trace.name[place]],
            "pid": pids[lane.process],
            "tid": tids[number],
            "ts": start_us + float(trace.start_us[place]),
            "dur": float(trace.duration_us[place]),
            "args": msgspec.json.decode(trace.details[trace.detail[place]] or "{}") | {"batch": int(trace.link[place])},
        }


def _tid(lane: Lane, number: int, threads: dict[tuple[str, str], int]) -> int:
    """Requests overlap: each of their lanes is a thread of its own there. Others are nested by their times."""
    if lane.kind == "gateway":
        return number + 1
    return threads.setdefault((lane.process, lane.thread), number + 1)
