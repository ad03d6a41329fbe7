"""How a version is replaced: what fits into the host's memory and into the GPUs', and the reason in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nbserve.gateway.pool.memory import Usage
from nbserve.gateway.swap import CUDA_CONTEXT_BYTES, Headroom, choose_swap, headrooms
from nbserve.wire.messages import DeviceMemory

GB = 10**9


@pytest.mark.parametrize(
    ("asked", "old", "free", "mode"),
    [
        ("auto", [100, 100], 1000, "blue-green"),
        ("auto", [100, 100], 221, "blue-green"),
        ("auto", [100, 100], 219, "rolling"),
        ("auto", [100], 105, "stop-first"),
        ("auto", [100, 100], 50, "stop-first"),
        ("auto", [], 0, "blue-green"),
        ("rolling", [1], 10**12, "rolling"),
        ("blue-green", [10**12], 1, "blue-green"),
    ],
)
def test_one_memory(asked: str, old: list[int], free: int, mode: str) -> None:
    chosen, why = choose_swap(asked, [Headroom("of the host's memory", old, free)])
    assert chosen == mode
    assert why


@pytest.mark.parametrize(
    ("host_free", "device_free", "mode", "short"),
    [
        (40, 80, "blue-green", ["host", "cuda:0"]),
        (40, 20, "rolling", ["cuda:0"]),
        (40, 8, "stop-first", ["cuda:0"]),
        (4, 80, "rolling", ["host"]),
        (2, 80, "stop-first", ["host"]),
        (4, 8, "stop-first", ["cuda:0"]),
        (2, 8, "stop-first", ["host", "cuda:0"]),
    ],
)
def test_host_and_device_the_shorter_one_decides_and_is_named(
    host_free: int, device_free: int, mode: str, short: list[str]
) -> None:
    """Two workers with 3 GB of the host and 16 GB of the GPU each, as a 7B model in bfloat16 has."""
    host = Headroom("of the host's memory", [3 * GB, 3 * GB], host_free * GB)
    device = Headroom("of cuda:0", [16 * GB, 16 * GB], device_free * GB)
    chosen, why = choose_swap("auto", [host, device])
    assert chosen == mode
    assert [name for name in ("host", "cuda:0") if name in why] == short
    assert f"{(host_free if 'host' in short else device_free):.1f} GB" in why


def worker(device: str, pss_bytes: int | None, memory: DeviceMemory | None) -> Any:
    usage = Usage(2 * GB, pss_bytes, 1.0)
    return SimpleNamespace(device=device, device_memory=memory, usage=lambda: usage)


def test_what_workers_report_becomes_one_headroom_for_each_memory() -> None:
    workers = [
        worker("cuda:0", GB, DeviceMemory(30 * GB, 80 * GB, 10 * GB)),
        worker("cuda:0", None, DeviceMemory(28 * GB, 80 * GB, 12 * GB)),
        worker("cuda:1", GB, DeviceMemory(70 * GB, 80 * GB, 5 * GB)),
    ]
    host, first, second = headrooms(workers, 64 * GB)
    assert host == Headroom("of the host's memory", [GB, 2 * GB, GB], 64 * GB)
    assert first == Headroom("of cuda:0", [10 * GB + CUDA_CONTEXT_BYTES, 12 * GB + CUDA_CONTEXT_BYTES], 28 * GB)
    assert second.where == "of cuda:1"
    assert choose_swap("auto", [host, first, second])[0] == "blue-green"


def test_on_a_cpu_only_the_host_counts() -> None:
    assert headrooms([worker("cpu", GB, None)], 2 * GB) == [Headroom("of the host's memory", [GB], 2 * GB)]
