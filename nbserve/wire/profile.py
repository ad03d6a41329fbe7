"""Profiles: what is asked of the gateway and of a worker, and what comes of it.

The frames PROFILE and PROFILED (docs/worker-protocol.md) between gateway/profiles and worker/profiler, and the bodies
of the management API for client.py. Field order of the array-like ones is the wire order: only append.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from nbserve.wire.messages import Timings

__all__ = [
    "BATCHES",
    "MAX_BATCHES",
    "MAX_EVENTS",
    "MAX_SECONDS",
    "MAX_TRACE_BYTES",
    "SECONDS",
    "BatchSpan",
    "ClockPair",
    "Profile",
    "ProfileRecord",
    "ProfileRequest",
    "ProfileState",
    "ProfileStatus",
    "Profiled",
    "RequestSpan",
    "StageSpan",
    "WorkerShare",
]

BATCHES = 20
"""Batches of a profile where nothing is said: enough for a median, and at most some ten thousand operators."""
SECONDS = 30.0
"""How long a profile waits for them."""
MAX_BATCHES = 10_000
MAX_SECONDS = 300.0
MAX_EVENTS = 500_000
"""What the trace view is built for; about 185 MB of a torch trace's JSON, 10 to 20 MB once packed."""
MAX_TRACE_BYTES = 200_000_000

ProfileState = Literal["running", "done", "failed"]


class ClockPair(msgspec.Struct, array_like=True, frozen=True):
    """One moment by a process's monotonic clock and by the machine's Unix time; what puts two clocks onto one."""

    monotonic_s: float
    unix_s: float


class StageSpan(msgspec.Struct, array_like=True, frozen=True):
    """One stage of a batch: `began_s` by the worker's monotonic clock."""

    name: str
    began_s: float
    seconds: float


class BatchSpan(msgspec.Struct, array_like=True):
    """One batch as the worker saw it."""

    batch_id: int
    began_s: float
    seconds: float
    items: int
    stages: list[StageSpan]
    request_bytes: int = 0
    answer_bytes: int = 0


class Profile(msgspec.Struct):
    """PROFILE: profile the batches from now on, until one of the bounds is reached. `stop`: end it now.

    request_id: only the one batch that holds this request. file: where the worker writes the packed trace.
    """

    id: str
    file: str = ""
    batches: int = BATCHES
    seconds: float = SECONDS
    request_id: str = ""
    memory: bool = False
    shapes: bool = False
    stacks: bool = False
    max_events: int = MAX_EVENTS
    max_bytes: int = MAX_TRACE_BYTES
    log_table: bool = False
    stop: bool = False


class Profiled(msgspec.Struct):
    """PROFILED: a profile has ended. `profiler`: "torch 2.x", or empty where there are the spans of stages alone.

    truncated: which bound cut it short, in words. note: what else a reader must know. error: why there is none.
    """

    id: str
    clock: ClockPair
    batches: list[BatchSpan] = msgspec.field(default_factory=list)
    profiler: str = ""
    device: str = "cpu"
    threads: int = 0
    events: int = 0
    trace_bytes: int = 0
    truncated: str = ""
    note: str = ""
    error: str = ""


class ProfileRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """POST /models/NAME/profile. Bounds: batches 1 to 10,000, seconds above 0 to 300."""

    batches: int = BATCHES
    seconds: float = SECONDS
    worker: int | None = None
    """None: the one that has had the most batches."""
    memory: bool = False
    shapes: bool = False
    stacks: bool = False


class RequestSpan(msgspec.Struct, array_like=True):
    """One request as the gateway saw it, by its monotonic clock."""

    request_id: str
    batch_id: int
    arrived_s: float
    idle_since_s: float
    """When its worker became free: what it waited before is queueing, what it waited after, waiting for its batch."""
    sent_s: float
    answered_s: float
    body_bytes: int
    status: int


class WorkerShare(msgspec.Struct, array_like=True):
    """What one worker of the version did while the profile went on. `seconds`: of its stages, over its batches."""

    worker: int
    batches: int = 0
    requests: int = 0
    seconds: float = 0.0


class ProfileStatus(msgspec.Struct, kw_only=True):
    """One profile, while it goes on and after."""

    id: str
    name: str
    version: str
    worker: int | None
    state: ProfileState
    batches: int
    """Seen so far."""
    asked_batches: int
    seconds: float
    asked_seconds: float
    request_id: str = ""
    events: int = 0
    trace_bytes: int = 0
    has_trace: bool = False
    """Whether there is a torch trace to take; else there are the spans of stages alone."""
    truncated: str = ""
    note: str = ""
    error: str = ""


class ProfileRecord(msgspec.Struct, kw_only=True):
    """GET /models/NAME/profiles/ID: all of a profile but the raw trace."""

    status: ProfileStatus
    began_at: float
    """Unix time."""
    clock: ClockPair
    """The gateway's."""
    requests: list[RequestSpan]
    timings: dict[int, Timings]
    """By batch: what the worker said of it in its answer."""
    worker: Profiled
    shares: list[WorkerShare] = msgspec.field(default_factory=list)
    """Of all workers, to compare the profiled one with."""
    bundle: str = ""
    digest: str = ""
