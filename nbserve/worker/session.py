"""Loading a bundle in a worker: threads, import, values, initialize; then the pipeline that serves it.

Called by worker/loop.py on a LOAD frame. Stages are reported as they begin, so that a hang or a death names its stage.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nbserve.bundle import Bundle, nearby
from nbserve.bundle.rebuilt import check_rebuilt
from nbserve.handler import Context
from nbserve.pipeline import Pipeline
from nbserve.wire.codec import decode_row, shape_of
from nbserve.wire.messages import Load, Ready
from nbserve.worker.device import device_memory
from nbserve.worker.drift import Drift

__all__ = ["Session", "move_threads", "seed_everything", "set_environment", "set_threads"]


class Session:
    """One loaded handler and the facts about its surroundings."""

    def __init__(self, load: Load, on_stage: Callable[[str], None]) -> None:
        self._load = load
        self._stages_s: dict[str, float] = {}
        self._on_stage = on_stage
        self._stage = ""
        self._began = self._stage_began = time.perf_counter()
        self.bundle = Bundle.open(load.bundle)
        self.locate = self.bundle.locate
        self.compared = 0
        """How many things were found to be as they were in the notebook."""

    def load(self) -> Awaitable[Any] | None:
        """Import the handler, read its values, run its `initialize`; a coroutine of that is returned to be awaited."""
        load = self._load
        self._enter("import")
        set_environment(load.env)
        move_threads(load.cores)
        set_threads(load.threads)
        nearby.use(self.bundle.path, load.weights)
        loaded = self.bundle.load(on_stage=self._enter, device=expected_device(load.device))
        if load.compare:
            self.compared = check_rebuilt(self.bundle.path, vars(loaded.module))
        set_threads(load.threads)  # again: importing torch or numpy may have come only now
        context = Context(
            name=load.name,
            version=load.version,
            device=resolve_device(load.device),
            threads=load.threads,
            worker=load.worker,
            model_dir=str(self.bundle.path),
        )
        self.drift = Drift(self.bundle, loaded.module)
        self.pipeline = Pipeline(
            loaded.handler,
            context,
            locate=self.locate,
            sample_shape=self._sample_shape(),
            on_stage=self._on_stage,
            isolate=load.isolate,
        )
        self._enter("initialize")
        if self.bundle.sample is not None:
            seed_everything(0)  # as the notebook did before its run of the sample
        result = self.pipeline.initialize()
        return result if isinstance(result, Awaitable) else None

    def ready(self) -> Ready:
        """What this worker found itself to be, for the gateway to check against its plan."""
        self._enter("")
        if self.bundle.sample is not None:
            seed_everything(None)
        torch = sys.modules.get("torch")
        return Ready(
            pid=os.getpid(),
            cores=sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
            threads=self._load.threads,
            torch_threads=torch.get_num_threads() if torch is not None else None,
            load_s=time.perf_counter() - self._began,
            stages_s=self._stages_s,
            device=self.pipeline.context.device,
            device_memory=device_memory(self.pipeline.context.device),
        )

    def _enter(self, stage: str) -> None:
        now = time.perf_counter()
        if self._stage:
            self._stages_s[self._stage] = self._stages_s.get(self._stage, 0.0) + now - self._stage_began
        self._stage, self._stage_began = stage, now
        if stage:
            self._on_stage(stage)

    def _sample_shape(self) -> tuple[int, ...] | None:
        sample = self.bundle.sample
        if sample is None:
            return None
        return shape_of(decode_row(sample.content_type, sample.body).payload)


def set_environment(changes: Mapping[str, str | None]) -> None:
    """Set these variables; None = not there. What was written since the process began is found by imports."""
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    importlib.invalidate_caches()


def set_threads(threads: int) -> None:
    """Intra-op threads of the libraries that are loaded; the environment has told those that load later.

    In a forked worker numpy's BLAS was loaded with one thread, whatever the environment says now.
    """
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)  # lasts; only its use as a context manager would put back what was
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
        with contextlib.suppress(RuntimeError):  # may be set once only, and not after parallel work began
            torch.set_num_interop_threads(1)


def move_threads(cores: list[int]) -> None:
    """All threads of this process run on these cores from now on; ones that are started later inherit it."""
    if hasattr(os, "sched_setaffinity"):
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.sched_setaffinity(int(task), cores)


def expected_device(device: str) -> str:
    """Where tensors go that were on a GPU in the notebook. auto is decided without loading torch: is there a driver?"""
    if device != "auto":
        return device
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    return "cuda:0" if os.path.exists("/dev/nvidiactl") and not hidden else "cpu"


def resolve_device(device: str) -> str:
    """auto -> cuda:0 where torch sees one, else cpu. torch is asked only if the handler has loaded it."""
    if device != "auto":
        return device
    torch = sys.modules.get("torch")
    return "cuda:0" if torch is not None and torch.cuda.is_available() else "cpu"


def seed_everything(seed: int | None) -> None:
    """Seeds of random, numpy and torch, as far as they are loaded; None = from the system's entropy.

    0 for the proof of random handlers; entropy after it, or all workers would draw the same numbers.
    """
    value = int.from_bytes(os.urandom(4), "little") if seed is None else seed
    random.seed(value)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(value)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(value)
