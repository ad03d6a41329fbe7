"""JSON of GET /models/M/numbers: all that is counted of one version since it was loaded, and what happened of late.

Written by gateway/numbers, read by client.py for dashboards, which take the difference of two of them: the gateway
remembers nothing for who looks at it.
"""

from __future__ import annotations

import msgspec

from nbserve.wire.management import Event, VersionState, WorkerStatus

__all__ = ["MAX_EVENTS", "HandlerSeries", "Numbers"]


MAX_EVENTS = 200


class HandlerSeries(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One of the handler's own metrics under one combination of labels. `value`: a histogram's is the sum."""

    name: str
    kind: str
    """counter, gauge or histogram."""
    help: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    value: float = 0.0
    count: int = 0
    """Of a histogram's values."""


class Numbers(msgspec.Struct, kw_only=True):
    """Counters of one version. Differences of two tell what happened between them."""

    name: str
    version: str
    state: VersionState
    default: bool
    at: float
    """Unix time of the gateway."""
    requests: dict[str, int]
    """Answers by status: {"200": 7}."""
    latency_bounds_s: list[float]
    latency_counts: list[int]
    """Answers that took no longer than each bound and longer than the one before; the last: than all."""
    stages_s: dict[str, float]
    """Seconds that requests spent in each stage, added up."""
    batch_sizes: dict[str, int]
    queue_items: int
    queue_bytes: int
    workers: list[WorkerStatus]
    """Memory as of some seconds ago: reading it takes time."""
    handler: list[HandlerSeries]
    seq: int = 0
    """Of the last event that was looked at."""
    events: list[Event] = msgspec.field(default_factory=list)
    """Of this model since the one that was asked for, rates left out, oldest first; the last MAX_EVENTS."""
