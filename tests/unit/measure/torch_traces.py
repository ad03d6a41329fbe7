"""Raw torch traces written by hand, as Kineto writes them on a GPU, and the records that belong to them."""

from __future__ import annotations

import gzip
import json
from typing import Any

from nbserve.wire.messages import Timings
from nbserve.wire.profile import BatchSpan, ClockPair, Profiled, ProfileRecord, ProfileStatus, RequestSpan, WorkerShare

MAIN = {"pid": 4711, "tid": 4711}
BASE_US = 4_547_025_000_000.0
"""Times of real traces are of this size."""


class RawTrace:
    """Spans in microseconds from 0; `packed` is the file."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = [
            {"ph": "M", "name": "process_name", "ts": BASE_US, "pid": 4711, "tid": 0, "args": {"name": "python"}},
            {"ph": "X", "cat": "Trace", "name": "PyTorch Profiler (0)", "pid": "Spans", "tid": "PyTorch Profiler",
             "ts": BASE_US, "dur": 1e6, "args": {"Op count": 0}},
            {"ph": "i", "s": "g", "name": "Record Window End", "pid": "", "tid": "", "ts": BASE_US + 1e6},
        ]  # fmt: skip
        self._correlation = 0

    def span(self, cat: str, name: str, start_us: float, dur_us: float, where: dict[str, Any], **args: Any) -> None:
        """Any event."""
        event = {"ph": "X", "cat": cat, "name": name, **where, "ts": BASE_US + start_us, "dur": dur_us, "args": args}
        self.events.append(event)

    def batch(self, number: int, start_us: float, dur_us: float, **stages: tuple[float, float]) -> None:
        """A batch and its stages: name=(start, duration)."""
        self.span("user_annotation", f"nbserve batch {number}", start_us, dur_us, MAIN)
        self.span("gpu_user_annotation", f"nbserve batch {number}", start_us, dur_us, {"pid": 0, "tid": 7})
        for name, (start, duration) in stages.items():
            self.span("user_annotation", name, start, duration, MAIN)

    def op(self, name: str, start_us: float, dur_us: float, shapes: Any = None, types: Any = None) -> None:
        """An operator on the CPU."""
        args = {} if shapes is None else {"Input Dims": shapes, "Input type": types or ["float"] * len(shapes)}
        self.span("cpu_op", name, start_us, dur_us, MAIN, **args)

    def launch(
        self,
        kernel: str,
        at_us: float,
        dur_us: float,
        *,
        launch_us: float = 5.0,
        delay_us: float = 5.0,
        call: str = "cudaLaunchKernel",
        cat: str = "kernel",
        stream: int = 7,
        **args: Any,
    ) -> None:
        """A call of the runtime, and what it starts on the GPU `delay_us` after its end."""
        self._correlation += 1
        self.span("cuda_runtime", call, at_us, launch_us, MAIN, correlation=self._correlation)
        start_us = at_us + launch_us + delay_us
        where = {"pid": 0, "tid": stream}
        args |= {"correlation": self._correlation, "device": 0, "stream": stream}
        self.span(cat, kernel, start_us, dur_us, where, **args)

    @property
    def packed(self) -> bytes:
        """As the worker packs it."""
        return gzip.compress(json.dumps({"schemaVersion": 1, "traceEvents": self.events}).encode())


def record(batches: dict[int, tuple[float, float]], **fields: Any) -> ProfileRecord:
    """Batches: id -> (start, duration) in microseconds of the gateway's clock since the profile began.

    One request a batch, which arrives 300 us before it, waits 200 us for the worker and 50 us for its batch.
    """
    clock = ClockPair(1000.0, 1_700_000_000.0)
    spans = [
        BatchSpan(number, clock.monotonic_s + start * 1e-6, duration * 1e-6, 1, [])
        for number, (start, duration) in batches.items()
    ]
    requests = [
        RequestSpan(
            f"r{number}",
            number,
            clock.monotonic_s + (start - 300) * 1e-6,
            clock.monotonic_s + (start - 100) * 1e-6,
            clock.monotonic_s + (start - 50) * 1e-6,
            clock.monotonic_s + (start + duration + 50) * 1e-6,
            10,
            200,
        )
        for number, (start, duration) in batches.items()
    ]
    status = ProfileStatus(
        id="1", name="m", version="1", worker=0, state="done", batches=len(batches), asked_batches=20, seconds=1.0,
        asked_seconds=30.0, has_trace=True,
    )  # fmt: skip
    defaults: dict[str, Any] = {
        "status": status,
        "began_at": clock.unix_s,
        "clock": clock,
        "requests": requests,
        "timings": {number: Timings(1e-5, 1e-5, 1e-4, 1e-5, 1e-5) for number in batches},
        "worker": Profiled("1", clock, spans, profiler="torch 2.13.0", device="cuda:0", threads=1),
        "shares": [WorkerShare(0, len(batches), len(batches), 0.1)],
    }
    return ProfileRecord(**(defaults | fields))
