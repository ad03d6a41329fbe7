"""A trace -> the numbers that rules look at (facts.TraceFacts). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from nbserve.measure.advice.facts import TraceFacts
from nbserve.measure.chrome import BATCH
from nbserve.measure.operators import lanes_of, parents
from nbserve.measure.trace import Trace

__all__ = ["read_facts"]

STAGES = ("decode", "preprocess", "inference", "postprocess", "encode")
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "hipLaunchKernel")
SYNCS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "hipStreamSynchronize")
COPY_CALLS = ("cudaMemcpyAsync", "cudaMemcpy", "hipMemcpyAsync", "hipMemcpyWithStream")
FACTORIES = tuple(
    f"aten::{name}" for name in ("zeros", "ones", "full", "arange", "eye", "linspace", "rand", "randn", "randint")
)
BETWEEN = ("aten::lift_fresh", "aten::detach", "aten::detach_", "detach", "detach_", "aten::empty")
MATMUL_OPS = {
    "aten::mm": (0, 1),
    "aten::addmm": (1, 2),
    "aten::bmm": (0, 1),
    "aten::baddbmm": (1, 2),
    "aten::cudnn_convolution": (0, 1),
    "aten::miopen_convolution": (0, 1),
}
"""Operators that start a matrix product -> the places of its two factors among the inputs."""
MULTIPLES = {"c10::Half": 8, "c10::BFloat16": 8, "float": 4}
"""NVIDIA, "Matrix Multiplication Background User's Guide", section 4.1: 16 bytes' worth of elements."""
FEW_CHANNELS = 4
"""Of images: cuDNN has kernels of their own for them."""

_MATMUL_KERNEL = re.compile(r"gemm|conv(?!ert)|cutlass|xmma|nvjet|wgrad|dgrad|[hi]mma|wgmma", re.IGNORECASE)
_TENSOR_CORE = re.compile(
    r"[hisc]?(?:884|1688|16816|16832|8816)|[hi]mma|wgmma|xmma|tensorop|nvjet|tf32|flash|warpspecialized", re.IGNORECASE
)
"""Names of kernels on TensorCores, as NVIDIA's PyProf (prof/tc.py) tells them apart, with those of Hopper added."""
_PYTHON = re.compile(r"\.pyx?\(\d+\): |^<built-in |^nn\.Module: ")
"""Spans of --stacks: Python itself, no operator."""

Spans = npt.NDArray[np.float64]
"""Begin and end of each, one row a span."""


def read_facts(trace: Trace) -> TraceFacts:
    """All of it. Numbers of a GPU stay 0 where the trace has none."""
    names = np.array([*trace.names, ""], dtype=object)[trace.name]
    spans = np.stack((trace.start_us, trace.start_us + trace.duration_us), axis=1)
    on_cpu = np.isin(trace.lane, list(lanes_of(trace, "cpu")))
    on_gpu = np.isin(trace.lane, list(lanes_of(trace, "gpu")))
    batches = spans[on_cpu & (names == BATCH)]
    inference = spans[on_cpu & (names == "inference")]
    is_name = _by_name(trace)
    is_op = on_cpu & ~is_name(lambda name: name in STAGES or name == BATCH or bool(_PYTHON.search(name)))
    in_batches = _merged(batches)
    kernel = on_gpu & ~is_name(lambda name: name.startswith(("Memcpy", "Memset")))
    matmul = kernel & is_name(lambda name: bool(_MATMUL_KERNEL.search(name)))
    launches = on_cpu & is_name(lambda name: name in LAUNCHES)
    launch_us = float(np.median(trace.duration_us[launches])) if launches.any() else 0.0
    syncs = on_cpu & is_name(lambda name: name in SYNCS)
    pageable = on_gpu & is_name(lambda name: name.startswith("Memcpy") and "Pageable" in name)
    busy = _merged(spans[on_gpu])
    products = _products(trace, on_cpu & is_name(lambda name: name in MATMUL_OPS), names)
    moved = _moved(trace, names, is_op)
    return TraceFacts(
        batches=len(batches),
        window_us=float(batches[:, 1].max() - batches[:, 0].min()) if len(batches) else 0.0,
        batch_us=float((batches[:, 1] - batches[:, 0]).sum()),
        inference_us=float((inference[:, 1] - inference[:, 0]).sum()),
        inference_op_us=_common(_merged(spans[is_op]), _merged(inference)),
        has_gpu=bool(on_gpu.any()),
        gpu_busy_us=_length(busy),
        gpu_busy_in_batches_us=_common(busy, in_batches),
        longest_gap_us=_longest_gap(busy, batches),
        kernels=int(kernel.sum()),
        kernel_us=float(trace.duration_us[kernel].sum()),
        short_kernels=int((kernel & (trace.duration_us < launch_us)).sum()),
        launch_median_us=launch_us,
        matmul_us=float(trace.duration_us[matmul].sum()),
        tensor_core_us=float(trace.duration_us[matmul & is_name(lambda name: bool(_TENSOR_CORE.search(name)))].sum()),
        matmul_types=products.types,
        matmul_calls=products.calls,
        unaligned_calls=products.unaligned,
        unaligned_example=products.example,
        syncs=int(syncs.sum()),
        sync_us=float(trace.duration_us[syncs].sum()),
        pageable_us=float(trace.duration_us[pageable].sum()),
        pageable_bytes=_bytes(trace, pageable),
        moved=len(moved),
        moved_example=moved[0] if moved else "",
        padded_lengths=_lengths(trace, is_op, inference),
    )


# --- intervals ---


def _merged(spans: Spans) -> Spans:
    """The moments that any of the spans covers, as spans that do not touch, in order."""
    if not len(spans):
        return np.zeros((0, 2))
    ordered = spans[np.argsort(spans[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ordered[:, 1])
    begins = np.concatenate(([True], ordered[1:, 0] > reach[:-1]))
    first = np.flatnonzero(begins)
    last = np.concatenate((first[1:] - 1, [len(ordered) - 1]))
    return np.stack((ordered[first, 0], reach[last]), axis=1)


def _length(merged: Spans) -> float:
    return float((merged[:, 1] - merged[:, 0]).sum())


def _common(one: Spans, other: Spans) -> float:
    """How long both cover the same moments. Both merged."""
    if not len(one) or not len(other):
        return 0.0
    return _length(one) + _length(other) - _length(_merged(np.concatenate((one, other))))


def _longest_gap(busy: Spans, batches: Spans) -> float:
    """Of nothing between two spans, both within one batch."""
    longest = 0.0
    for begin, end in batches:
        inside = busy[np.searchsorted(busy[:, 1], begin, side="right") : np.searchsorted(busy[:, 0], end)]
        if len(inside) > 1:
            longest = max(longest, float((inside[1:, 0] - inside[:-1, 1]).max()))
    return longest


# --- names and details ---


def _by_name(trace: Trace) -> Callable[[Callable[[str], bool]], npt.NDArray[np.bool_]]:
    """A test of names -> which spans pass it; each name is looked at once."""

    def which(test: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
        passed = np.array([test(name) for name in trace.names] or [False])
        found: npt.NDArray[np.bool_] = passed[trace.name]
        return found

    return which


class _Detail(msgspec.Struct):
    shapes: list[object] = msgspec.field(default_factory=list)
    types: list[object] = msgspec.field(default_factory=list)
    bytes: float = 0.0


def _details(trace: Trace, places: npt.NDArray[np.int64]) -> Iterator[tuple[int, _Detail]]:
    """Of these spans: place and detail; each text is read once."""
    known: dict[int, _Detail] = {}
    for place in places.tolist():
        number = int(trace.detail[place])
        if number not in known:
            text = trace.details[number]
            known[number] = msgspec.json.decode(text, type=_Detail) if text else _Detail()
        yield place, known[number]


def _bytes(trace: Trace, mask: npt.NDArray[np.bool_]) -> float:
    return sum(detail.bytes for _, detail in _details(trace, np.flatnonzero(mask)))


class _Products(NamedTuple):
    calls: int
    unaligned: int
    example: str
    types: frozenset[str]


def _products(trace: Trace, mask: npt.NDArray[np.bool_], names: npt.NDArray[Any]) -> _Products:
    """Matrix products whose inner and outer widths TensorCores cannot take whole; batch sizes are not looked at."""
    calls = unaligned = 0
    example = ""
    types = set()
    for place, detail in _details(trace, np.flatnonzero(mask)):
        first, second = MATMUL_OPS[names[place]]
        if len(detail.shapes) <= second or len(detail.types) <= second:
            continue
        kind, shape = str(detail.types[second]), detail.shapes[second]
        types.add(kind)
        if kind not in MULTIPLES or not isinstance(shape, list) or len(shape) < 2:
            continue
        calls += 1
        widths = shape[:2] if "convolution" in names[place] else shape[-2:]
        if any(width > FEW_CHANNELS and width % MULTIPLES[kind] for width in widths):
            unaligned += 1
            example = example or f"{names[place]} {detail.shapes[first]} x {shape} {kind}"
    return _Products(calls, unaligned, example, frozenset(types))


def _moved(trace: Trace, names: npt.NDArray[Any], is_op: npt.NDArray[np.bool_]) -> list[str]:
    """Tensors that a factory filled on the CPU and the next operator copied to the GPU: what the factory was."""
    above = parents(trace)
    copies = np.flatnonzero(is_op & np.isin(names, COPY_CALLS))
    if not len(copies):
        return []
    top = _outermost(above, is_op)
    copying = set(top[copies].tolist())  # the outermost operators that hold a copy
    outermost = np.flatnonzero(is_op & (top == np.arange(len(top)))).tolist()
    outermost.sort(key=lambda place: (trace.lanes[trace.lane[place]][:2], trace.start_us[place]))
    found, made = [], ""
    for place in outermost:
        name = names[place]
        if name in FACTORIES:
            made = name
        elif made and name in ("aten::to", "aten::_to_copy", "aten::copy_"):
            if place in copying:
                found.append(made)
            made = ""
        elif name not in BETWEEN:
            made = ""
    return found


def _outermost(above: npt.NDArray[np.int64], is_op: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Of each span, the outermost operator that holds it: itself, where none does."""
    top = np.arange(len(above))
    while True:
        parent = above[top]
        climbs = (parent >= 0) & is_op[np.maximum(parent, 0)]
        if not climbs.any():
            return top
        top = np.where(climbs, parent, top)


def _lengths(trace: Trace, is_op: npt.NDArray[np.bool_], inference: Spans) -> int:
    """Different second widths of the first input that each inference works on; an embedding's first is its table."""
    seen = set()
    starts = trace.start_us
    order = np.argsort(starts, kind="stable")
    order = order[is_op[order]]
    begins = starts[order]
    for begin, end in inference:
        first = np.searchsorted(begins, begin)
        for place, detail in _details(trace, order[first : first + 20]):
            if starts[place] >= end:
                break
            inputs = detail.shapes[trace.names[trace.name[place]] == "aten::embedding" :]
            shape = next((one for one in inputs if isinstance(one, list) and len(one) >= 2), None)
            if shape is not None:
                seen.add(shape[1])
                break
    return len(seen)
