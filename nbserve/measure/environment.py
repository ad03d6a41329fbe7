"""What figures depend on, written with them: machine, versions, placement, what was asked. Called by `bench.py`."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from nbserve.measure.target import Target

__all__ = ["describe", "usable_cores"]


def usable_cores() -> list[int]:
    """Cores that this process may use; [] where the system does not say (then nothing is pinned)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def describe(target: Target, asked: dict[str, Any], seed: int) -> dict[str, Any]:
    """As plain data; `asked`: the load. Values of environment variables are left out: they may be secrets."""
    bodies = target.bodies
    request = {
        "gateway": target.gateway.name if target.gateway else "",
        "method": target.method,
        "bodies": len(bodies),
        "body_bytes": sum(len(body.content) for body in bodies),
        "body_sha256": hashlib.sha256(b"\0".join(body.content for body in bodies)).hexdigest(),
        "content_type": bodies[0].content_type,
    }
    found = {"asked": asked | request, "seed": seed, "machine": _machine(), "versions": _installed()}
    if target.model is not None:
        config = msgspec.to_builtins(target.model.config)
        config["env"] = sorted(config.get("env", {}))
        found["config"] = config
        found["workers"] = [
            {"id": w.id, "cores": w.cores, "threads": w.threads, "device": w.device} for w in target.model.workers
        ]
    if target.gateway is not None:
        found |= {"placement": target.gateway.placement, "profile": target.gateway.profile}
    return found


def _machine() -> dict[str, Any]:
    import psutil

    return {
        "cpu": _cpu_name() or platform.processor() or platform.machine(),
        "cores": len(usable_cores()) or os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
    }


def _cpu_name() -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return ""


def _installed() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("jupyter-nbserve", "tornado", "msgspec", "httptools", "torch", "numpy"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
