"""Options and their defaults (design section 7), in one place: gateway, notebook and CLI all read these.

A `ModelConfig` travels as JSON in `POST /models`; a `GatewayConfig` is handed to the gateway on its standard input.
Both are frozen; unknown keys are errors, not silence.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

__all__ = ["PROFILES", "GatewayConfig", "HttpConnectionName", "ModelConfig", "ProfileName"]

_RANGE = re.compile(r"(\d+):(\d+)")

HttpConnectionName = Literal["auto", "httptools", "tornado"]
ProfileName = Literal["notebook", "server", "container"]

BODY_LIMIT_BYTES = 6_553_500
"""As TorchServe's max_request_size."""


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one model version is served. Times are in the unit of their suffix."""

    workers: int | str = 1
    """Kernels to run; "auto" = usable cores / threads; "1:4" = between these, following the time that requests wait."""
    threads: int | None = None
    """Compute threads a worker (intra-op); None = usable cores / workers."""
    max_batch_size: int = 32
    max_batch_delay_ms: float = 0.0
    """0 = work-conserving: never wait while a worker is idle. Counted from the oldest request's arrival."""
    slo_ms: float | None = None
    """Latency objective; None = no deadline-based admission."""
    response_timeout_s: float = 60.0
    startup_timeout_s: float = 120.0
    max_queue_size: int = 1000
    max_queue_bytes: int = 256 * 1024 * 1024
    device: str = "auto"
    """auto, cpu, cuda or cuda:i."""
    env: dict[str, str] = msgspec.field(default_factory=dict)
    start: Literal["auto", "fork", "spawn"] = "auto"
    """How workers come to be: forked from a process that has imported what they need, or each anew. auto = forked where
    that is possible, else spawned, and `status` says why; fork = an error where it is not."""
    swap: Literal["auto", "blue-green", "rolling", "stop-first"] = "auto"
    proof: Literal["on", "off"] = "on"
    isolate: Literal["on", "off"] = "on"
    """Whether a batch that failed is run again in parts, to find the requests at fault."""
    retries: int = 1
    """How often a request is tried again whose worker died while it ran; 0 for handlers with side effects. One that had
    not begun to run is sent again at no charge."""
    failures: int = 50
    """How many failed requests the gateway remembers, for `nbserve failures` and `replay`: the last ones, in memory, at
    most 32 MB; 0 (`--failures off`) = none."""
    redact: list[str] = msgspec.field(default_factory=list)
    """Names of JSON fields, at any depth, in any case, whose values are never handed out with a failed request."""
    max_requests: int | None = None
    """A worker is replaced by a fresh one after so many requests."""
    max_rss_bytes: int | None = None
    """A worker is replaced by a fresh one when its memory has grown over this; `--max-rss 2GB` in a cell or shell."""

    @property
    def worker_range(self) -> tuple[int, int] | None:
        """(least, most) where the number of workers follows the load, else None."""
        match = _RANGE.fullmatch(self.workers) if isinstance(self.workers, str) else None
        return (int(match[1]), int(match[2])) if match else None

    def __post_init__(self) -> None:
        if isinstance(self.workers, str) and self.workers.isdigit():  # as a query parameter has it
            msgspec.structs.force_setattr(self, "workers", int(self.workers))
        if isinstance(self.workers, str) and self.workers != "auto":
            bounds = self.worker_range
            if bounds is None or not 1 <= bounds[0] <= bounds[1]:
                raise ValueError(f"workers must be a number, auto or MIN:MAX, not {self.workers!r}")
        positive = {
            "max_batch_size": self.max_batch_size,
            "response_timeout_s": self.response_timeout_s,
            "startup_timeout_s": self.startup_timeout_s,
            "max_queue_size": self.max_queue_size,
            "max_queue_bytes": self.max_queue_bytes,
        }
        if isinstance(self.workers, int):
            positive["workers"] = self.workers
        if self.threads is not None:
            positive["threads"] = self.threads
        if self.slo_ms is not None:
            positive["slo_ms"] = self.slo_ms
        for name, value in positive.items():
            if value <= 0:
                raise ValueError(f"{name} must be positive, not {value}")
        for name, optional in {"max_requests": self.max_requests, "max_rss_bytes": self.max_rss_bytes}.items():
            if optional is not None and optional <= 0:
                raise ValueError(f"{name} must be positive, not {optional}")
        if self.failures < 0:
            raise ValueError(f"failures must not be negative, not {self.failures}")
        if self.retries < 0:
            raise ValueError(f"retries must not be negative, not {self.retries}")
        if self.max_batch_delay_ms < 0:
            raise ValueError(f"max_batch_delay_ms must not be negative, not {self.max_batch_delay_ms}")
        kind, _, index = self.device.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:i, not {self.device!r}")


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one gateway process listens and lives. Handed over as JSON on standard input, never in argv."""

    id: str
    """Names the runtime file and sockets; random hex."""
    profile: ProfileName = "notebook"
    name: str = ""
    """The notebook's path or the user's word for this gateway; shown by `nbserve list`."""
    host: str = "127.0.0.1"
    port: int = 0
    """Inference (and everything, where the two below are None). 0 = any free one."""
    preferred_port: int = 0
    """Tried first when port is 0 (the port of this notebook's last gateway); silently left if taken."""
    management_port: int | None = None
    metrics_port: int | None = None
    token: str = ""
    """Empty = no token asked (container profile only); management is then off."""
    owner_token: str = ""
    """Opens management to who started the gateway, where `token` is empty; it is given to nobody else."""
    owner_pid: int | None = None
    """The notebook kernel to live and die with; None = detached."""
    kernel_id: str = ""
    development: bool = False
    """True: error bodies carry the exception, message, cell and line. False: an error id that the log explains."""
    body_limit_bytes: int = BODY_LIMIT_BYTES
    max_queue_bytes: int = 1024 * 1024 * 1024
    """Bodies that wait, of all models together; each model has a bound of its own below it."""
    header_limit_bytes: int = 65536
    slow_request_timeout_s: float = 30.0
    shutdown_grace_s: float = 30.0
    http_connection: HttpConnectionName = "auto"
    """What reads HTTP: httptools, or tornado, which costs several times the CPU; auto = httptools where installed."""
    allow_hosts: list[str] = msgspec.field(default_factory=list)
    """Host header names accepted beside loopback names and `host`; "*" = any (container)."""


PROFILES: dict[ProfileName, dict[str, object]] = {
    "notebook": {"host": "127.0.0.1", "development": True},
    "server": {"host": "127.0.0.1", "port": 8080, "management_port": 8081, "metrics_port": 8082},
    # the clouds kill 30 s after SIGTERM
    "container": {"host": "0.0.0.0", "port": 8080, "allow_hosts": ["*"], "shutdown_grace_s": 25.0},
}
"""What each profile changes of GatewayConfig's defaults (design section 2)."""
