"""The meta of each frame kind, as typed data (msgpack). The field order is the wire order: only append.

Shared by gateway/pool and worker; documented in docs/worker-protocol.md.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from nbserve.errors import ErrorInfo

__all__ = [
    "WARMUP_REQUEST",
    "AnswerItem",
    "AnswerMeta",
    "DeviceMemory",
    "Hello",
    "Load",
    "MetricDelta",
    "Notice",
    "Place",
    "Ready",
    "RequestItem",
    "Timings",
]


WARMUP_REQUEST = "warmup"
"""Request id of the copies of the sample in the proof and the warm-up sweep."""


class Hello(msgspec.Struct):
    """HELLO, first frame of the worker; the gateway answers with its own.

    memfd: it can read the arena. profile: it takes PROFILE.
    """

    versions: list[int]
    software: str = ""
    pid: int = 0
    memfd: bool = False
    profile: bool = False


class Load(msgspec.Struct):
    """LOAD: which bundle, and how the worker may use the machine."""

    bundle: str
    name: str
    version: str
    worker: int
    threads: int
    cores: list[int]
    device: str = "cpu"
    isolate: bool = True
    compare: bool = False
    """Compare the values that it rebuilds with what they were in the notebook."""
    redact: list[str] = msgspec.field(default_factory=list)
    """Fields of bodies whose values must stand in no error."""
    env: dict[str, str | None] = msgspec.field(default_factory=dict)
    """Variables to set first, with None to remove: what was not known when the process began."""
    weights: dict[str, str] = msgspec.field(default_factory=dict)
    """File of the bundle -> a file with the same bytes in the memory of the worker's NUMA node."""


class Place(msgspec.Struct):
    """PLACE: where the worker runs from now on; sent when endpoints come or go and cores are shared out anew."""

    cores: list[int]
    threads: int


class DeviceMemory(msgspec.Struct, array_like=True):
    """A worker's GPU as it sees it. `used_bytes`: the most that this worker's tensors have taken up at once.

    busy: the share of the last moments (0 to 1) in which the GPU had work, whoever's; None where nothing measures it.
    """

    free_bytes: int
    total_bytes: int
    used_bytes: int
    busy: float | None = None


class Ready(msgspec.Struct):
    """READY: what the worker found itself to be, seen from inside."""

    pid: int
    cores: list[int]
    threads: int
    torch_threads: int | None = None
    load_s: float = 0.0
    stages_s: dict[str, float] = msgspec.field(default_factory=dict)
    device: str = "cpu"
    device_memory: DeviceMemory | None = None
    """None on a CPU."""


class Notice(msgspec.Struct):
    """NOTICE: something that the worker found out about the handler while it serves, in a sentence."""

    text: str


class RequestItem(msgspec.Struct, array_like=True):
    """One item of a BATCH. `route` is "predict" or the part of the path after the model."""

    content_type: str
    request_id: str
    route: str = "predict"
    headers: dict[str, str] = msgspec.field(default_factory=dict)


AnswerKind = Literal["whole", "more", "last", "error"]


class AnswerItem(msgspec.Struct, array_like=True):
    """One item of an ANSWER: `item` is its place in the batch; an error carries ErrorInfo and an empty body."""

    item: int
    kind: AnswerKind
    status: int
    content_type: str
    error: ErrorInfo | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)


class Timings(msgspec.Struct, array_like=True):
    """Seconds that a batch spent in each stage of the worker."""

    decode_s: float = 0.0
    preprocess_s: float = 0.0
    inference_s: float = 0.0
    postprocess_s: float = 0.0
    encode_s: float = 0.0


class MetricDelta(msgspec.Struct, array_like=True):
    """What a handler's own metric gained since the last answer.

    kind: counter (value = increment), gauge (value = level), histogram (values = observations).
    """

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    unit: str
    values: list[float]
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    buckets: list[float] = msgspec.field(default_factory=list)


class AnswerMeta(msgspec.Struct):
    """ANSWER: items of one batch that are done; `last` closes the batch. `device_memory`: now and then, from a GPU."""

    items: list[AnswerItem]
    timings: Timings
    metrics: list[MetricDelta] = msgspec.field(default_factory=list)
    last: bool = True
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    device_memory: DeviceMemory | None = None
