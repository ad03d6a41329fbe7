"""One loading of a bundle by a worker: what it is told, how long it may take, and how it ends.

Owned by worker.py, which makes a new one for each launch and tells it what comes from the worker.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping

from nbserve.errors import ErrorInfo, LoadError
from nbserve.gateway.pool.limits import INTERRUPT_GRACE_S
from nbserve.gateway.pool.placement import WorkerPlan
from nbserve.gateway.pool.spec import WorkerSpec
from nbserve.wire.messages import Load, Ready

__all__ = ["FIRST_LOAD_ID", "Loading", "load_message"]

FIRST_LOAD_ID = 1 << 63
"""Ids of LOADs, which can be cancelled like batches: never those of batches, which count up from 1."""


class Loading:
    """From launch to READY. `interrupt`: the user code of the LOAD with this id. `kill`: the process."""

    def __init__(self, timeout_s: float, interrupt: Callable[[int], None], kill: Callable[[], None]) -> None:
        self._timeout_s, self._interrupt, self._kill = timeout_s, interrupt, kill
        self._outcome: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._outcome.add_done_callback(lambda future: future.exception())  # retrieved, even if launch was cancelled
        self._id = 0

    def begin(self) -> int:
        """LOAD is about to be sent -> its id."""
        self._id = next(_load_ids)
        return self._id

    async def outcome(self, stage: Callable[[], str]) -> Ready:
        """READY. Raises LoadError naming the stage, also where the start-up time is over."""
        await asyncio.wait([self._outcome], timeout=self._timeout_s)
        if not self._outcome.done():
            await self._give_up(stage())
        return await self._outcome

    def ready(self, ready: Ready) -> None:
        """It has said READY."""
        if not self._outcome.done():
            self._outcome.set_result(ready)

    def failed(self, info: ErrorInfo) -> bool:
        """It has failed, or its process has ended -> whether it was still loading."""
        if self._outcome.done():
            return False
        self._outcome.set_exception(LoadError(info.message, info=info))
        return True

    @property
    def is_loaded(self) -> bool:
        """It has said READY, and was waited for until then."""
        return self._outcome.done() and self._outcome.exception() is None

    async def _give_up(self, stage: str) -> None:
        """The start-up time is over: ask user code to stop, so that its stack can be shown; then kill."""
        deaf = ""
        if self._id:  # before LOAD was sent there is no user code, and a SIGINT would only end the process
            self._interrupt(self._id)
            await asyncio.wait([self._outcome], timeout=INTERRUPT_GRACE_S)
            deaf = ", and did not stop when interrupted"
        hint = "raise --startup-timeout-s, or make this stage quicker"
        if not self._outcome.done():
            message = f"still in {stage} after {self._timeout_s:g} s{deaf}"
            self.failed(ErrorInfo(type="StartupTimeout", message=message, status=504, stage=stage, hint=hint))
            self._kill()
        elif (exc := self._outcome.exception()) is not None and isinstance(exc, LoadError) and exc.info is not None:
            exc.info.hint = exc.info.hint or hint


def load_message(
    spec: WorkerSpec,
    worker: int,
    plan: WorkerPlan,
    env: Mapping[str, str | None],
    weights: Mapping[str, str],
    *,
    is_first: bool,
) -> Load:
    """LOAD for this worker. `is_first`: of its version, it compares what it rebuilds. env, weights: as in Load."""
    return Load(
        bundle=str(spec.bundle_path),
        name=spec.name,
        version=spec.version,
        worker=worker,
        threads=plan.threads,
        cores=list(plan.cores),
        env=dict(env),
        weights=dict(weights),
        device=spec.config.device,
        isolate=spec.config.isolate == "on",
        redact=spec.config.redact,
        compare=is_first,
    )


_load_ids = itertools.count(FIRST_LOAD_ID)
