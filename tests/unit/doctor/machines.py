"""Snapshots for the doctor's tests: a machine with nothing wrong, as a base for those with one thing wrong."""

from __future__ import annotations

from typing import Any

import msgspec

from nbserve.doctor.machine import Folder, Machine, Package
from nbserve.gateway.pool.topology import Core, Topology

GIB = 2**30


def topology(count: int = 8, *, nodes: int = 1, siblings: int = 1, quota: float | None = None) -> Topology:
    """`count` CPUs: the first siblings of all cores come first, as Linux numbers them."""
    physical = count // siblings
    return Topology(
        tuple(
            Core(cpu, cpu % physical, cpu // physical, 0, cpu % physical * nodes // physical) for cpu in range(count)
        ),
        quota,
    )


HEALTHY = Machine(
    system="Linux 6.1.0 x86_64",
    cpus_online=8,
    topology=topology(),
    load_1m=0.4,
    governor="schedutil",
    frequency_driver="acpi-cpufreq",
    clock_source="tsc",
    memory_total_bytes=32 * GIB,
    memory_available_bytes=24 * GIB,
    shm_bytes=16 * GIB,
    open_files=65_536,
    open_files_most=1_048_576,
    python="3.11.7",
    nbserve="0.1.0",
    torch="2.13.0+cpu",
    packages=[Package("tornado", ">=6.5", "6.5.2", True)],
    runtime_folder=Folder(path="/home/ada/jupyter/runtime", exists=True, writable=True, free_bytes=50 * GIB),
    temp_folder=Folder(path="/tmp", exists=True, writable=True, free_bytes=50 * GIB, mode=0o777, is_ours=False),
    home_folder=Folder(path="/home/ada/jupyter/nbserve", exists=True, writable=True, free_bytes=50 * GIB),
)


def machine(**changes: Any) -> Machine:
    """The healthy one with changes; those of folders as dicts."""
    for name in ("runtime_folder", "temp_folder", "home_folder"):
        if name in changes:
            changes[name] = msgspec.structs.replace(getattr(HEALTHY, name), **changes[name])
    return msgspec.structs.replace(HEALTHY, **changes)
