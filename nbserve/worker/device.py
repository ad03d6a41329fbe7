"""Memory and load of this worker's GPU, for READY and, now and then, for answers: the gateway has no torch to ask.

Used by worker/session and worker/loop. A CPU, or a device that nothing has touched yet, has nothing to say; asking must
not be what creates the CUDA context.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from nbserve.wire.messages import DeviceMemory

__all__ = ["DeviceMeter", "device_memory"]

log = logging.getLogger("nbserve.worker")

EVERY_S = 5.0
"""How old the gateway's figures may be on a worker that answers."""


def device_memory(device: str) -> DeviceMemory | None:
    """Free, total and own peak bytes of a CUDA device, and its load; None where torch does not use it."""
    torch = sys.modules.get("torch")
    if not device.startswith("cuda") or torch is None or not torch.cuda.is_initialized():
        return None
    with contextlib.suppress(RuntimeError):  # a lost device says nothing any more
        free_bytes, total_bytes = torch.cuda.mem_get_info(device)
        return DeviceMemory(free_bytes, total_bytes, torch.cuda.max_memory_reserved(device), _busy(torch, device))
    return None


def _busy(torch: Any, device: str) -> float | None:
    """By NVML, where its bindings are installed (nvidia-ml-py) and the driver lets itself be asked."""
    try:
        return float(torch.cuda.utilization(device)) / 100
    except Exception as exc:  # a missing module, or an error class of theirs
        log.debug("no utilization of %s: %r", device, exc)
        return None


class DeviceMeter:
    """`device_memory` every `EVERY_S` at most."""

    def __init__(self, device: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._device = device
        self._clock = clock
        self._next_s = clock() + EVERY_S  # READY has just said it

    def due(self) -> DeviceMemory | None:
        """The figures where it is time to tell them, else None."""
        if not self._device.startswith("cuda") or self._clock() < self._next_s:
            return None
        self._next_s = self._clock() + EVERY_S
        return device_memory(self._device)
