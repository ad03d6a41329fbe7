"""A machine as `nbserve doctor` sees it: a snapshot of plain facts. Filled by reader.py, judged by the rules.

As JSON (`nbserve doctor --json`) it can be kept, sent and judged again elsewhere. Nothing in it is secret.
"""

from __future__ import annotations

import msgspec

from nbserve.gateway.pool.topology import Topology

__all__ = ["Folder", "Gpu", "Machine", "Package", "RunningGateway"]


class Gpu(msgspec.Struct, frozen=True):
    """One NVIDIA GPU."""

    name: str
    total_bytes: int
    used_bytes: int


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that nbserve writes to; where it does not exist yet, what its nearest parent says of it."""

    path: str
    exists: bool
    writable: bool
    free_bytes: int
    mode: int = 0o700
    is_ours: bool = True
    """Whether this user owns it."""


class Package(msgspec.Struct, frozen=True):
    """A distribution that nbserve needs: `wanted` is what its metadata asks for, `found` empty where it is missing."""

    name: str
    wanted: str
    found: str
    is_met: bool


class RunningGateway(msgspec.Struct, frozen=True):
    """A gateway whose process lives. `answers`: within a second."""

    id: str
    name: str
    pid: int
    url: str
    version: str
    answers: bool


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot. Empty texts and None mean: not known here, or there is none."""

    system: str
    """Name and release, "Linux 6.1.0 x86_64"."""
    container: str = ""
    """docker, podman, kubernetes, container; empty = none was seen."""
    cpus_online: int
    topology: Topology
    """What this process may use: `cores` as [cpu, physical core, sibling, L3, NUMA node, tier], `quota` in CPUs."""
    can_pin: bool = True
    load_1m: float = 0.0
    """Of the whole machine."""
    periods: int = 0
    throttled_periods: int = 0
    """CFS periods of the control group, and in how many the quota was used up."""
    governor: str = ""
    frequency_driver: str = ""
    clock_source: str = ""
    memory_total_bytes: int
    """Under the control group's limit."""
    memory_available_bytes: int
    swap_used_bytes: int = 0
    oom_kills: int = 0
    shm_bytes: int | None = None
    open_files: int
    """The soft limit; `open_files_most` is the hard one, to which it may be raised."""
    open_files_most: int
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    """Variables that the rules know; of proxies only that they are set."""
    gpus: list[Gpu] = msgspec.field(default_factory=list)
    gpu_driver: str = ""
    gpu_driver_cuda: str = ""
    """Newest CUDA that the driver runs, "12.4"."""
    gpu_error: str = ""
    """Why the GPUs that have device files cannot be asked."""
    python: str
    nbserve: str
    torch: str = ""
    torch_cuda: str = ""
    """CUDA that torch was built for, "12.8"; empty = none."""
    packages: list[Package] = msgspec.field(default_factory=list)
    runtime_folder: Folder
    """Jupyter's runtime directory: records of gateways."""
    temp_folder: Folder
    """Sockets of workers."""
    home_folder: Folder
    """Bundles."""
    taken_ports: list[int] = msgspec.field(default_factory=list)
    """Of the default ports of `nbserve serve`."""
    gateways: list[RunningGateway] = msgspec.field(default_factory=list)
    stale_records: int = 0
    """Files of gateways that ended without removing them; reading removed them."""
