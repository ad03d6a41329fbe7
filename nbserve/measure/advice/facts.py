"""What the rules of advice look at: plain numbers out of an endpoint's counters and, where there is one, a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from nbserve.config import ModelConfig
from nbserve.wire.management import WorkerStatus
from nbserve.wire.messages import Timings
from nbserve.wire.numbers import Numbers
from nbserve.wire.profile import ProfileRecord, RequestSpan

__all__ = ["Facts", "TraceFacts", "WorkerFacts", "facts_of_numbers", "facts_of_profile"]


@dataclass(frozen=True, kw_only=True)
class WorkerFacts:
    """One worker. `seconds`: that its batches took (of a profile), or CPU time (of counters)."""

    id: int
    batches: int = 0
    requests: int = 0
    seconds: float = 0.0
    cores: int = 0
    threads: int = 0
    rss_bytes: int = 0
    uss_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class TraceFacts:
    """What reading.py finds in a trace. Times in microseconds; counts are of the whole trace."""

    batches: int = 0
    window_us: float = 0.0
    """From the begin of the first batch to the end of the last."""
    batch_us: float = 0.0
    """In batches, added up."""
    inference_us: float = 0.0
    inference_op_us: float = 0.0
    """Of that, inside of any operator; the rest is Python between them."""
    has_gpu: bool = False
    gpu_busy_us: float = 0.0
    """Moments of the window at which the GPU did anything."""
    gpu_busy_in_batches_us: float = 0.0
    longest_gap_us: float = 0.0
    """Between two spans of the GPU within one batch."""
    kernels: int = 0
    kernel_us: float = 0.0
    short_kernels: int = 0
    """Shorter than a launch takes."""
    launch_median_us: float = 0.0
    matmul_us: float = 0.0
    """Device kernels of matrix products and convolutions."""
    tensor_core_us: float = 0.0
    """Of these, on TensorCores."""
    matmul_types: frozenset[str] = frozenset()
    matmul_calls: int = 0
    unaligned_calls: int = 0
    unaligned_example: str = ""
    syncs: int = 0
    sync_us: float = 0.0
    pageable_us: float = 0.0
    pageable_bytes: float = 0.0
    moved: int = 0
    """Tensors made on the CPU and moved at once."""
    moved_example: str = ""
    padded_lengths: int = 0
    """How many different lengths the model's input had; more than one: batches are padded each on its own."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that is known. `stages_s`: per stage, the seconds that requests spent in it, added up."""

    config: ModelConfig
    device: str = "cpu"
    requests: int = 0
    stages_s: Mapping[str, float] = field(default_factory=dict)
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    """Size -> how many batches."""
    workers: Sequence[WorkerFacts] = ()
    worker_seconds_are: str = "in batches"
    body_waste: float = 0.0
    """Share of a batch that bodies shorter than its longest would leave empty, over all batches of two and more."""
    available_bytes: int = 0
    """Of the machine, under the cgroup's limit; 0 = not known."""
    total_bytes: int = 0
    trace: TraceFacts | None = None

    @property
    def batches(self) -> int:
        """How many there were."""
        return sum(self.batch_sizes.values())

    @property
    def worker_s(self) -> float:
        """Seconds of requests within the worker's stages."""
        return sum(self.stages_s.get(stage, 0.0) for stage in _WORKER_STAGES)

    @property
    def latency_s(self) -> float:
        """Seconds of requests from arrival to answer."""
        return sum(self.stages_s.values())


_WORKER_STAGES = ("decode", "preprocess", "inference", "postprocess", "encode")


def facts_of_numbers(
    now: Numbers, before: Numbers | None, config: ModelConfig, memory: Mapping[str, int] | None = None
) -> Facts:
    """What happened between two looks at an endpoint's counters; without `before`: since it was loaded."""
    then = before or _none_of(now)
    sizes = {int(size): count - then.batch_sizes.get(size, 0) for size, count in now.batch_sizes.items()}
    cpu_s = {worker.id: worker for worker in then.workers}
    return Facts(
        config=config,
        device=next((worker.device for worker in now.workers), "cpu"),
        requests=sum(now.requests.values()) - sum(then.requests.values()),
        stages_s={stage: seconds - then.stages_s.get(stage, 0.0) for stage, seconds in now.stages_s.items()},
        batch_sizes={size: count for size, count in sizes.items() if count > 0},
        workers=[_worker(worker, cpu_s.get(worker.id)) for worker in now.workers],
        worker_seconds_are="of CPU time",
        available_bytes=(memory or {}).get("available_bytes", 0),
        total_bytes=(memory or {}).get("total_bytes", 0),
    )


def facts_of_profile(record: ProfileRecord, trace: TraceFacts, facts: Facts) -> Facts:
    """`facts` of the endpoint, with what its profile saw in their place."""
    items: dict[int, list[int]] = {}
    for request in record.requests:
        items.setdefault(request.batch_id, []).append(request.body_bytes)
    counted = _undisturbed(record)
    sizes: dict[int, int] = {}
    for bodies in items.values():
        sizes[len(bodies)] = sizes.get(len(bodies), 0) + 1
    seen = {share.worker: share for share in record.shares}
    workers = [
        WorkerFacts(
            id=worker.id,
            batches=seen[worker.id].batches if worker.id in seen else 0,
            requests=seen[worker.id].requests if worker.id in seen else 0,
            seconds=seen[worker.id].seconds if worker.id in seen else 0.0,
            cores=worker.cores,
            threads=record.worker.threads
            if worker.id == record.status.worker and record.worker.threads
            else worker.threads,
            rss_bytes=worker.rss_bytes,
            uss_bytes=worker.uss_bytes,
        )
        for worker in facts.workers
    ]
    return Facts(
        config=facts.config,
        device=record.worker.device,
        requests=len(counted),
        stages_s=_stages(counted, record.timings),
        batch_sizes=sizes,
        workers=workers,
        body_waste=_waste(list(items.values())),
        available_bytes=facts.available_bytes,
        total_bytes=facts.total_bytes,
        trace=trace,
    )


def _undisturbed(record: ProfileRecord) -> list[RequestSpan]:
    """Without the requests that had to wait until the profiler had started; all, where there are no others."""
    began_s = min((batch.began_s for batch in record.worker.batches), default=0.0)
    return [request for request in record.requests if request.arrived_s >= began_s] or record.requests


def _stages(requests: Sequence[RequestSpan], timings: Mapping[int, Timings]) -> dict[str, float]:
    """Seconds of these requests by stage, as the gateway's metrics count them."""
    stages_s = dict.fromkeys(("queue", "batch", *_WORKER_STAGES, "transport"), 0.0)
    for request in requests:
        waits_s = min(max(request.arrived_s, request.idle_since_s), request.sent_s)
        stages_s["queue"] += waits_s - request.arrived_s
        stages_s["batch"] += request.sent_s - waits_s
        inside = timings.get(request.batch_id)
        if inside is None:
            continue
        inside_s = [getattr(inside, f"{stage}_s") for stage in _WORKER_STAGES]
        for stage, seconds in zip(_WORKER_STAGES, inside_s, strict=True):
            stages_s[stage] += seconds
        stages_s["transport"] += max(0.0, request.answered_s - request.sent_s - sum(inside_s))
    return stages_s


def _worker(now: WorkerStatus, then: WorkerStatus | None) -> WorkerFacts:
    started_anew = then is None or then.pid != now.pid
    before_s, before = (0.0, 0) if started_anew or then is None else (then.cpu_s or 0.0, then.batches)
    return WorkerFacts(
        id=now.id,
        batches=now.batches - before,
        seconds=(now.cpu_s or 0.0) - before_s,
        cores=len(now.cores),
        threads=now.threads,
        rss_bytes=now.rss_bytes or 0,
        uss_bytes=now.uss_bytes or 0,
    )


def _none_of(now: Numbers) -> Numbers:
    return msgspec.structs.replace(now, requests={}, stages_s={}, batch_sizes={}, workers=[])


def _waste(batches: Sequence[Sequence[int]]) -> float:
    """Of batches of several bodies: the share that is empty if each is padded to the longest."""
    several = [bodies for bodies in batches if len(bodies) > 1 and max(bodies)]
    room = sum(len(bodies) * max(bodies) for bodies in several)
    return 1 - sum(map(sum, several)) / room if room else 0.0
