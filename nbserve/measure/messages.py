"""What `bench` and its load processes say to each other: one JSON object a line. Used by `crew.py`, `load.py`.

Instants (`start_at_s`) are those of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import msgspec

from nbserve.measure.result import Arrivals

__all__ = ["NOT_SENT", "TOO_LATE", "FromLoad", "Plan", "Ready", "Report", "Tick", "WindowCount"]


NOT_SENT = "not sent"
"""Class of the errors of requests that were due when so many were unanswered that no more could be sent."""


TOO_LATE = "not sent: the load process was too late"
"""The one of them that is the load process's own fault."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as one load process is told: its share of it. On standard input, for it holds the token."""

    host: str
    port: int
    tls: bool
    server_name: str
    requests: list[bytes]
    """Whole HTTP/1.1 requests, sent in turn."""
    clients: int
    """Closed loop: how many of them this process plays; may be none."""
    rate: float
    """Open loop: requests a second over all processes; 0 = closed loop."""
    arrivals: Arrivals
    seed: int
    share: int
    """Which one of `shares` processes this is."""
    shares: int
    offsets_s: list[float] = []
    """Recorded arrivals: when each of `requests` is due, from the start; else empty."""
    start_at_s: float
    warmup_s: float
    duration_s: float
    window_s: float
    timeout_s: float
    cores: list[int]
    """To be pinned to; empty = not."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The process has started and waits for a plan."""


class Tick(msgspec.Struct, frozen=True, tag="tick"):
    """While it runs, twice a second: answers and failures so far, warm-up included."""

    answered: int
    failed: int


class WindowCount(msgspec.Struct, kw_only=True):
    """Answers that came in one window, and the latencies of those that were not due before the warm-up's end."""

    answered: int
    failed: int
    histogram: str


class Report(msgspec.Struct, kw_only=True, tag="report"):
    """One run as one process saw it."""

    due: int
    """Requests that were due in the measured time (closed loop: that were sent)."""
    sent: int
    errors: dict[str, int]
    windows: list[WindowCount]
    """Those of the measured time, then one more: what came after it."""
    lag: str
    """HdrHistogram: how late requests were sent (closed loop: a clock of 100 ticks a second was) in microseconds."""
    stages: list[dict[str, float]]
    """Server-Timing of a sample of answers, in milliseconds; with "network", what is left of the latency."""
    wall_s: float
    cpu_s: float
    waited_s: float
    """Time that the process was ready to run and had no CPU; 0 where the system does not say."""


FromLoad = Ready | Tick | Report
