"""Made-up traces of a busy endpoint, of any size: batches of transformer layers on GPUs, with the requests in them.

Used by the tests of the trace view. Times are not measured; what matters is their shape: deep nesting, thousands of
device kernels of a few microseconds, bursts with idle time between, requests that wait at the same time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np

from nbserve.measure.trace import Lane, Trace

__all__ = ["synthetic"]

LAYERS = 24
UNFUSED = ["aten::mul", "aten::add", "aten::sigmoid", "aten::to"]
SLOTS = 24
ROW = tuple[float, float, str, Lane, str, int]
"""Start, duration, name, lane, detail, batch."""


def synthetic(events: int, seed: int = 1, *, workers: int = 2, hostile: str = "") -> Trace:
    """About so many spans (never fewer than one batch has). `hostile` becomes the name of one operator."""
    random = np.random.default_rng(seed)
    names, details = _Texts(), _Texts([""])
    template = _batch(names, details, hostile)
    batches = max(1, round(events / (len(template) + 12)))
    columns: list[np.ndarray] = []
    lanes: list[Lane] = [Lane("gateway", "requests", slot, "gateway") for slot in range(SLOTS)]
    free = [0.0] * workers
    slots = [0.0] * SLOTS
    now = 0.0
    for batch in range(1, batches + 1):
        now += random.exponential(400.0 if batch % 40 else 400_000.0)  # bursts
        worker = int(np.argmin(free))
        begin = max(now, free[worker]) + 80
        scale = random.uniform(0.8, 1.3)
        rows = template.copy()
        rows[:, 0] = begin + rows[:, 0] * scale
        rows[:, 1] *= scale
        rows[:, 3] += SLOTS + worker * len(_LANES)
        rows[:, 5] = batch
        free[worker] = begin + template[:, :2].sum(axis=1).max() * scale
        columns.append(rows)
        columns.append(_requests(random, names, details, slots, now, begin, free[worker], batch))
    for worker in range(workers):
        lanes += [Lane(f"worker {worker}", *lane) for lane in _LANES]
    table = np.concatenate(columns)
    table = table[np.lexsort((table[:, 0], table[:, 3]))]
    table[:, 0] -= table[:, 0].min()
    meta = {"name": "transformer", "version": "3", "device": "cuda", "batches": batches}
    return Trace(
        start_us=table[:, 0].copy(),
        duration_us=table[:, 1].astype(np.float32),
        name=table[:, 2].astype(np.uint32),
        lane=table[:, 3].astype(np.uint16),
        detail=table[:, 4].astype(np.uint32),
        link=table[:, 5].astype(np.uint32),
        names=names.texts,
        lanes=lanes,
        details=details.texts,
        meta=meta,
    )


_LANES = [("main", depth, "cpu") for depth in range(6)] + [("stream 7", 0, "gpu"), ("stream 20", 0, "gpu")]


@dataclass
class _Texts:
    texts: list[str] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known = {text: place for place, text in enumerate(self.texts)}

    def __call__(self, text: str) -> int:
        if text not in self.known:
            self.known[text] = len(self.texts)
            self.texts.append(text)
        return self.known[text]


class _Writer:
    """The spans of one batch, from 0: a CPU that launches, a GPU that follows."""

    def __init__(self, names: _Texts, details: _Texts) -> None:
        self.names, self.details = names, details
        self.rows: list[tuple[float, ...]] = []
        self.cpu = self.gpu = 0.0

    def add(self, begin: float, duration: float, name: str, lane: int, shapes: object = None) -> None:
        detail = self.details(json.dumps({"shapes": shapes})) if shapes else 0
        self.rows.append((begin, duration, self.names(name), lane, detail, 0))

    def launch(self, depth: int, kernel: str, duration: float) -> None:
        self.add(self.cpu, 4.5, "cudaLaunchKernel", depth)
        self.gpu = max(self.gpu + 0.8, self.cpu + 6)
        self.add(self.gpu, duration, kernel, 6)
        self.gpu += duration
        self.cpu += 5

    def operator(self, name: str, kernel: str, duration: float, shapes: object) -> None:
        begin = self.cpu
        self.cpu += 2
        inner = self.cpu
        self.cpu += 1
        self.launch(5, kernel, duration)
        self.cpu += 0.5
        self.add(inner, self.cpu - inner, name.replace("aten::linear", "aten::addmm"), 4, shapes)
        self.cpu += 0.5
        self.add(begin, self.cpu - begin, name, 3, shapes)
        self.cpu += 1


def _batch(names: _Texts, details: _Texts, hostile: str) -> np.ndarray:
    write = _Writer(names, details)
    stages = []
    for stage, cost in (("decode", 120.0), ("preprocess", 260.0)):
        stages.append((stage, write.cpu, cost))
        write.cpu += cost + 2
    write.add(write.cpu - 90, 60, "Memcpy HtoD (Pageable -> Device)", 7)
    inference = write.cpu
    for layer in range(LAYERS):
        begin = write.cpu
        write.cpu += 3
        write.operator("aten::layer_norm", "vectorized_layer_norm_kernel", 7.5, [[32, 128, 768], [768], [768]])
        write.operator("aten::linear", "ampere_sgemm_128x64_tn", 61.0, [[4096, 768], [768, 2304], [2304]])
        for name in UNFUSED:
            write.operator(name, f"vectorized_elementwise_kernel<4, {name[6:]}_functor>", 2.2, [[32, 128, 768]])
        write.operator("aten::softmax", "softmax_warp_forward<float, 7>", 12.0, [[32, 12, 128, 128]])
        write.operator("aten::linear", "ampere_sgemm_128x128_tn", 88.0, [[4096, 768], [768, 3072], [3072]])
        write.add(begin, write.cpu - begin, f"nn.Module: Block_{layer}", 2)
        write.cpu += 1
    if hostile:
        write.operator(hostile, hostile, 3.0, [[hostile]])
    write.add(write.cpu, write.gpu - write.cpu + 30, "cudaStreamSynchronize", 2)
    write.cpu = write.gpu + 32
    stages.append(("inference", inference, write.cpu - inference))
    for stage, cost in (("postprocess", 90.0), ("encode", 140.0)):
        stages.append((stage, write.cpu + 1, cost))
        write.cpu += cost + 2
    for stage, begin, cost in stages:
        write.add(begin, cost, stage, 1)
    write.add(0, write.cpu + 2, "batch", 0)
    return np.array(write.rows)


def _requests(
    random: np.random.Generator,
    names: _Texts,
    details: _Texts,
    slots: list[float],
    now: float,
    begin: float,
    end: float,
    batch: int,
) -> np.ndarray:
    rows = []
    for number in range(4):
        slot = int(np.argmin(slots))
        arrived = max(slots[slot], now - random.uniform(0, 300)) + 1
        waited = max(arrived + 1, begin - 60)
        done = max(end, begin - 30) + random.uniform(20, 60)
        detail = details(json.dumps({"request": f"req-{batch:05}-{number}", "status": 200}))
        for name, start, stop in (
            ("queue", arrived, waited),
            ("batch wait", waited, max(waited, begin - 20)),
            ("in worker", max(waited, begin - 20), done),
        ):
            rows.append((start, stop - start, names(name), slot, detail, batch))
        slots[slot] = done + 1
    return np.array(rows)
