"""What a worker says of its GPU, with a torch that answers as recorded: no test machine need have one."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from nbserve.wire.messages import DeviceMemory
from nbserve.worker.device import EVERY_S, DeviceMeter, device_memory

FREE, TOTAL, PEAK = 60_129_542_144, 84_987_740_160, 18_253_611_008


class RecordedCuda:
    """The part of torch.cuda that is asked."""

    def __init__(self, *, initialized: bool = True, lost: bool = False, nvml: int | None = 37) -> None:
        self._initialized = initialized
        self._nvml = nvml
        self._lost = lost

    def is_initialized(self) -> bool:
        return self._initialized

    def mem_get_info(self, device: str) -> tuple[int, int]:
        assert self._initialized, "asking would have created a CUDA context"
        if self._lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return FREE, TOTAL

    def max_memory_reserved(self, device: str) -> int:
        return PEAK

    def utilization(self, device: str) -> int:
        if self._nvml is None:
            raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed or it can't be imported.")
        return self._nvml


def use(monkeypatch: pytest.MonkeyPatch, cuda: RecordedCuda) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))


def test_a_gpu_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, RecordedCuda())
    assert device_memory("cuda:0") == DeviceMemory(FREE, TOTAL, PEAK, 0.37)


def test_a_gpu_whose_load_nothing_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, RecordedCuda(nvml=None))
    assert device_memory("cuda:0") == DeviceMemory(FREE, TOTAL, PEAK, None)


def test_nothing_is_said_of_a_cpu_an_untouched_device_or_a_lost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, RecordedCuda())
    assert device_memory("cpu") is None
    use(monkeypatch, RecordedCuda(initialized=False))
    assert device_memory("cuda:0") is None
    use(monkeypatch, RecordedCuda(lost=True))
    assert device_memory("cuda:0") is None
    monkeypatch.delitem(sys.modules, "torch")
    assert device_memory("cuda:0") is None


def test_answers_carry_it_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, RecordedCuda())
    now_s = 100.0
    meter = DeviceMeter("cuda:0", lambda: now_s)
    told = []
    for _ in range(31):
        told.append(meter.due() is not None)
        now_s += EVERY_S / 10
    assert sum(told) == 3
    assert not told[0]
    assert DeviceMeter("cpu", lambda: now_s + 1e9).due() is None
