"""JSON of the management API and of the event stream: what the gateway says of itself, and what it is asked.

Written by gateway/management and gateway/events; read by client.py (notebook, CLI, dashboards).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo

__all__ = [
    "ErrorBody",
    "Event",
    "GatewayStatus",
    "ModelStatus",
    "RegisterRequest",
    "WorkerState",
    "WorkerStatus",
]

WorkerState = Literal["STARTING", "LOADING", "READY", "BUSY", "PAUSED", "DRAINING", "STOPPED", "FAILED"]
VersionState = Literal["LOADING", "READY", "DRAINING", "FAILED"]


class RegisterRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /models as a JSON body (each of the first four may also be a query parameter)."""

    url: str
    """Path of a bundle folder."""
    model_name: str = ""
    """Empty = the bundle's own name."""
    version: str = ""
    """Empty = one more than the highest there is, from 1."""
    synchronous: bool = True
    """True: answered when the version serves or has failed. False: 202 at once."""
    config: ModelConfig = msgspec.field(default_factory=ModelConfig)


class WorkerStatus(msgspec.Struct, kw_only=True):
    """One worker of a version."""

    id: int
    state: WorkerState
    pid: int | None
    cores: list[int]
    threads: int
    device: str = "cpu"
    started_at: float = 0.0
    """Unix time."""
    start: str = ""
    """How: "forked", "spawned", or "spawned: REASON"."""
    held: bool = False
    """Somebody looks inside (`attach`): it gets no requests, or ones without a time limit."""
    restarts: int = 0
    batches: int = 0
    rss_bytes: int | None = None
    pss_bytes: int | None = None
    """Memory where pages that several processes share count in parts."""
    uss_bytes: int | None = None
    """Memory that no other process has: what its end would free."""
    private_dirty_bytes: int | None = None
    """Of that, what is data of its own, not a file's."""
    weights_written_bytes: int | None = None
    """What it has written over of the weights that workers share; looked at every few seconds while status is asked."""
    cpu_s: float | None = None
    device_total_bytes: int | None = None
    """Memory of its GPU, up to some seconds ago; None on a CPU, and where torch does not use the GPU yet."""
    device_free_bytes: int | None = None
    """Of that, what no process has taken."""
    device_own_bytes: int | None = None
    """The most that its own tensors have taken up at once."""
    device_busy: float | None = None
    """Share of time (0 to 1) in which its GPU had work, whoever's; None where NVML cannot be asked."""
    connection_file: str = ""
    error: ErrorInfo | None = None


class ModelStatus(msgspec.Struct, kw_only=True):
    """One version of one model."""

    name: str
    version: str
    state: VersionState
    default: bool
    url: str
    """Full URL of its predictions, e.g. http://127.0.0.1:8080/predictions/digits"""
    bundle: str
    digest: str
    config: ModelConfig
    workers: list[WorkerStatus]
    queue_items: int = 0
    queue_bytes: int = 0
    requests: dict[str, int] = msgspec.field(default_factory=dict)
    """By status class: "2xx", "4xx", "5xx"."""
    batch_sizes: dict[str, int] = msgspec.field(default_factory=dict)
    """Batch size -> how many batches."""
    cost: dict[str, float] = msgspec.field(default_factory=dict)
    """s(b) = a_s + c_s * b."""
    stages_s: dict[str, float] = msgspec.field(default_factory=dict)
    """Seconds each stage of becoming ready took."""
    weights_copies: dict[str, int] = msgspec.field(default_factory=dict)
    """NUMA node -> bytes of weights that were copied there for its workers; empty on machines with one."""
    kept: list[str] = msgspec.field(default_factory=list)
    """Replaced versions that can be rolled back to, the last one first."""
    kept_bundles: list[str] = msgspec.field(default_factory=list)
    """Their bundles, in the same order."""
    proof: dict[str, Any] = msgspec.field(default_factory=dict)
    """{"checked": bool, "max_difference": float, ...}"""
    warnings: list[str] = msgspec.field(default_factory=list)
    """What works, but not as it should."""
    error: ErrorInfo | None = None


class GatewayStatus(msgspec.Struct, kw_only=True):
    """GET /status."""

    id: str
    name: str
    pid: int
    url: str
    profile: str
    uptime_s: float
    owner_pid: int | None
    models: list[ModelStatus]
    placement: dict[str, Any] = msgspec.field(default_factory=dict)
    """How cores are shared out: {"usable": [...], "reserved": [...], "note": str}"""
    memory: dict[str, int] = msgspec.field(default_factory=dict)
    """{"available_bytes", "total_bytes"} under the cgroup's limit."""


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line (newline-delimited JSON) of GET /events."""

    seq: int
    at: float
    """Unix time."""
    kind: Literal["stage", "state", "log", "error", "rates", "gateway"]
    model: str = ""
    version: str = ""
    worker: int | None = None
    stage: str = ""
    """kind "stage": start, import, values, initialize, warmup, proof, ready, failed, drained."""
    state: str = ""
    text: str = ""
    """kind "log": what the handler printed; one or more whole lines."""
    stream: str = ""
    """stdout or stderr."""
    batch_id: int | None = None
    request_ids: list[str] = msgspec.field(default_factory=list)
    trace_id: str = ""
    """kind "error": the trace of the request, where its client sent a `traceparent`."""
    error: ErrorInfo | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """Body of every answer with status >= 400 (TorchServe's three keys, then ours)."""

    code: int
    type: str
    message: str
    error_id: str = ""
    trace_id: str = ""
    where: str = ""
    traceback: list[str] = msgspec.field(default_factory=list)
    hint: str = ""
    stage: str = ""
    details: dict[str, Any] = msgspec.field(default_factory=dict)
