"""How a version is replaced: side by side, worker by worker, or one after the other; chosen by memory, and said. Pure.

Called by gateway/registry before it loads the new version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from nbserve.gateway.pool.worker import Worker

__all__ = ["Headroom", "Swap", "choose_swap", "headrooms"]

Swap = Literal["blue-green", "rolling", "stop-first"]

SPARE = 1.1
"""The new version is taken to need what the old one has, and a tenth more."""
CUDA_CONTEXT_BYTES = 600 * 10**6
"""What a process takes up on a GPU beside its tensors (context, kernels, library workspaces), which PyTorch's counters
leave out. An estimate on the safe side: 0.3 to 0.5 GB are usual, by driver and card."""


class Headroom(NamedTuple):
    """One memory: what each worker of the old version has of it, and what is free."""

    where: str
    workers_bytes: Sequence[int]
    free_bytes: int


def choose_swap(asked: str, rooms: Sequence[Headroom]) -> tuple[Swap, str]:
    """How to replace a version, and why: as asked, else the least disturbing way that fits into every memory."""
    if asked in ("blue-green", "rolling", "stop-first"):
        return asked, "as asked"  # type: ignore[return-value]
    for swap, says in (
        ("stop-first", "not enough for one more worker"),
        ("rolling", "one more worker fits but not all"),
    ):
        if short := [room for room in rooms if _fitting(room) == swap]:
            return swap, f"{says}: {' and '.join(map(_figures, short))}"  # type: ignore[return-value]
    return "blue-green", f"both versions fit side by side: {' and '.join(map(_figures, rooms))}"


def headrooms(workers: Sequence[Worker], available_bytes: int) -> list[Headroom]:
    """The memories that these workers use: the host's, of which so much is available, and those of their GPUs."""
    usages = [worker.usage() for worker in workers]
    host = [(usage.pss_bytes or usage.rss_bytes) if usage else 0 for usage in usages]
    rooms = [Headroom("of the host's memory", host, available_bytes)]
    on_device = [(worker.device, memory) for worker in workers if (memory := worker.device_memory) is not None]
    for device in sorted({device for device, _ in on_device}):
        there = [memory for name, memory in on_device if name == device]
        used = [memory.used_bytes + CUDA_CONTEXT_BYTES for memory in there]
        rooms.append(Headroom(f"of {device}", used, min(memory.free_bytes for memory in there)))
    return rooms


def _fitting(room: Headroom) -> Swap:
    if SPARE * sum(room.workers_bytes) <= room.free_bytes:
        return "blue-green"
    one_more = SPARE * max(room.workers_bytes, default=0) <= room.free_bytes
    return "rolling" if one_more and len(room.workers_bytes) > 1 else "stop-first"


def _figures(room: Headroom) -> str:
    needed, free = SPARE * sum(room.workers_bytes), room.free_bytes
    return f"{free / 1e9:.1f} GB {room.where} are free, {needed / 1e9:.1f} GB are needed"
