"""Rules about a GPU; they speak of profiles with device spans only. Pure."""

from __future__ import annotations

from nbserve.measure.advice.facts import Facts, TraceFacts
from nbserve.measure.advice.finding import Finding

__all__ = [
    "copies_are_pageable",
    "dims_are_unaligned",
    "gpu_has_gaps",
    "gpu_is_little_used",
    "kernels_are_launch_bound",
    "syncs_are_many",
    "tensor_cores_are_unused",
    "tensors_are_moved",
]

SHORT_KERNELS = 0.5
HTA = (
    "PyTorch's Holistic Trace Analysis calls a kernel short that takes less than its own launch; where half of them "
    "are so, launches set the pace"
)


def kernels_are_launch_bound(facts: Facts) -> Finding | None:
    """Half of the kernels take less time than their launch: the CPU cannot keep the GPU busy."""
    trace = _on_gpu(facts)
    if trace is None or not trace.kernels:
        return None
    share = trace.short_kernels / trace.kernels
    if share < SHORT_KERNELS:
        return None
    each = trace.kernels / max(1, trace.batches)
    return Finding(
        rule="launch-bound",
        level="warning",
        what=f"{share:.0%} of {trace.kernels:,} device kernels are shorter than a launch "
        f"({trace.launch_median_us:.1f} us); a batch has {each:.0f}",
        why="the GPU waits for the CPU to launch the next small kernel",
        todo="fuse them: torch.compile(model), with mode='reduce-overhead' as one CUDA graph; larger batches help, too",
        value=share,
        threshold=SHORT_KERNELS,
        source=HTA,
    )


IDLE_IN_BATCH = 0.4


def gpu_has_gaps(facts: Facts) -> Finding | None:
    """Within batches the GPU does nothing for two fifths of the time."""
    trace = _on_gpu(facts)
    if trace is None or not trace.batch_us:
        return None
    idle = 1 - trace.gpu_busy_in_batches_us / trace.batch_us
    if idle < IDLE_IN_BATCH:
        return None
    return Finding(
        rule="gpu-idle-gaps",
        level="warning",
        what=f"within batches the GPU is idle for {idle:.0%} of the time; the longest gap has "
        f"{trace.longest_gap_us:,.0f} us",
        why="decoding, preprocessing, launches or synchronizations hold it up",
        todo="look at what the worker does during the gaps; preprocess on the GPU, or run two workers on it "
        "(--workers 2): one computes while the other prepares",
        value=idle,
        threshold=IDLE_IN_BATCH,
        source="Amdahl's law: without the gaps a batch would be 1.7 times as fast",
    )


LOW_UTILIZATION = 0.5


def gpu_is_little_used(facts: Facts) -> Finding | None:
    """Over the whole profile the GPU was busy for less than half of the time."""
    trace = _on_gpu(facts)
    if trace is None or not trace.window_us:
        return None
    used = trace.gpu_busy_us / trace.window_us
    if used >= LOW_UTILIZATION:
        return None
    return Finding(
        rule="low-utilization",
        level="note",
        what=f"the GPU was busy for {used:.0%} of the profile",
        why="at this rate of requests it has room for more: a second endpoint or worker would fit",
        todo="put more load on it, or share it: --workers 2, or another endpoint on the same device",
        value=used,
        threshold=LOW_UTILIZATION,
        source="the PyTorch Profiler's TensorBoard plugin spoke of low utilization below 50%",
    )


MATMUL_SHARE = 0.1


def tensor_cores_are_unused(facts: Facts) -> Finding | None:
    """Matrix products take time, and none of them runs on TensorCores."""
    trace = _on_gpu(facts)
    if trace is None or not trace.kernel_us or trace.tensor_core_us:
        return None
    share = trace.matmul_us / trace.kernel_us
    if share < MATMUL_SHARE:
        return None
    single = not trace.matmul_types or "float" in trace.matmul_types
    return Finding(
        rule="tensor-cores-unused",
        level="warning",
        what=f"{share:.0%} of the device's time are matrix products and convolutions, none on TensorCores",
        why="TensorCores do them several times as fast",
        todo=(
            "torch.set_float32_matmul_precision('high') in initialize lets float32 use TF32; "
            "model.to(torch.bfloat16) is faster still"
            if single
            else "see the rule on dims: half precision uses TensorCores where widths are multiples of 8"
        ),
        value=share,
        threshold=MATMUL_SHARE,
        source="PyTorch, torch.set_float32_matmul_precision; below 10% there is little to gain (Amdahl's law)",
    )


UNALIGNED = 0.25


def dims_are_unaligned(facts: Facts) -> Finding | None:
    """A quarter of the matrix products have widths that TensorCores cannot take whole. Needs --shapes."""
    trace = _on_gpu(facts)
    if trace is None or not trace.matmul_calls:
        return None
    share = trace.unaligned_calls / trace.matmul_calls
    if share < UNALIGNED:
        return None
    return Finding(
        rule="dims-unaligned",
        level="warning",
        what=f"{trace.unaligned_calls:,} of {trace.matmul_calls:,} matrix products have widths that are no multiples "
        f"of 8 (half precision) or 4 (TF32): {trace.unaligned_example}",
        why="TensorCores work on tiles of 16 bytes: such products are padded, or run without them",
        todo="pad the layer's width, or the vocabulary, to the next multiple of 8 (64 is better)",
        value=share,
        threshold=UNALIGNED,
        source="NVIDIA, Matrix Multiplication Background User's Guide, 4.1: 16 bytes' worth of elements; a quarter of "
        "the calls is our choice",
    )


SYNCS_PER_BATCH = 3.0


def syncs_are_many(facts: Facts) -> Finding | None:
    """A batch waits for the device three times or more; it must once, for its answer."""
    trace = _on_gpu(facts)
    if trace is None or not trace.batches:
        return None
    each = trace.syncs / trace.batches
    if each < SYNCS_PER_BATCH:
        return None
    share = trace.sync_us / trace.batch_us if trace.batch_us else 0.0
    return Finding(
        rule="device-syncs",
        level="warning",
        what=f"a batch waits for the GPU {each:.0f} times, {share:.0%} of its time",
        why="at each .item(), .cpu(), print or comparison of a device tensor the CPU stops launching until all is done",
        todo="keep results on the device until postprocess, and move them once, for the whole batch: "
        "probs.tolist() instead of p.item() for each row",
        value=each,
        threshold=SYNCS_PER_BATCH,
        source="PyTorch Performance Tuning Guide, 'Avoid unnecessary CPU-GPU synchronization'; one wait a batch is the "
        "answer itself, a second one its input",
    )


PAGEABLE_SHARE = 0.05


def copies_are_pageable(facts: Facts) -> Finding | None:
    """Copies from or to pageable memory take a twentieth of the batch."""
    trace = _on_gpu(facts)
    if trace is None or not trace.batch_us:
        return None
    share = trace.pageable_us / trace.batch_us
    if share < PAGEABLE_SHARE:
        return None
    return Finding(
        rule="pageable-copies",
        level="warning",
        what=f"copies of pageable memory take {share:.0%} of the batches' time ({_megabytes(trace.pageable_bytes)})",
        why="the driver copies such memory into a pinned buffer first, and the CPU waits for it",
        todo="keep a pinned buffer (torch.empty(..., pin_memory=True)) in the handler, fill it in preprocess, and send "
        "it with .to(device, non_blocking=True)",
        value=share,
        threshold=PAGEABLE_SHARE,
        source="CUDA C++ Best Practices Guide, 'Pinned Memory': about twice the bandwidth; a twentieth is our choice",
    )


def tensors_are_moved(facts: Facts) -> Finding | None:
    """In each batch a tensor is made on the CPU that could have been made on the GPU."""
    trace = _on_gpu(facts)
    if trace is None or not trace.batches:
        return None
    each = trace.moved / trace.batches
    if each < 1:
        return None
    return Finding(
        rule="created-then-moved",
        level="warning",
        what=f"{each:.0f} tensors a batch are made on the CPU and copied at once ({trace.moved_example})",
        why="the copy is a launch, and waits for the CPU, where a kernel on the device would have done",
        todo="give the factory its device: torch.zeros(n, device=x.device)",
        value=each,
        threshold=1.0,
        source="PyTorch Performance Tuning Guide, 'Create tensors directly on the target device'",
    )


def _on_gpu(facts: Facts) -> TraceFacts | None:
    return facts.trace if facts.trace is not None and facts.trace.has_gpu else None


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"
