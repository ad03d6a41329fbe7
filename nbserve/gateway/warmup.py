"""A worker's first batches: it must answer the sample as the notebook did; then batches of copies of it, to warm up.

Used by gateway/version. What sizes are worth a batch is gateway/sweep's to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from nbserve.bundle import Sample, compare
from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo, LoadError, ProofError
from nbserve.gateway.batcher import Batcher, Probe
from nbserve.gateway.pool.supervisor import Worker
from nbserve.gateway.sweep import Known, Observation, next_size
from nbserve.wire.frames import Flag
from nbserve.wire.messages import WARMUP_REQUEST, AnswerItem, RequestItem

__all__ = ["WarmUp"]


class WarmUp:
    """Sends a version's sample past its queue."""

    def __init__(self, batcher: Batcher, sample: Sample, config: ModelConfig) -> None:
        self._batcher, self._sample, self._config = batcher, sample, config

    async def prove(self, worker: Worker) -> tuple[float, dict[str, Any]]:
        """Its first answer must be the notebook's -> seconds that it took, what status shows. Raises ProofError."""
        sample = self._sample
        probe = await self._probe(worker, 1, Flag.WARMUP | Flag.SEEDED)
        answer = probe.meta.items[0]
        if answer.error is not None:
            raise _sample_failed(answer)
        if self._config.proof == "off":
            return probe.seconds, {"checked": False}
        difference = await asyncio.to_thread(compare, sample, answer.content_type, bytes(probe.bodies[0]))
        if not difference.equal:
            info = ErrorInfo(
                type="ProofError",
                message=f"the worker's answer to the sample differs from the notebook's {difference.text}",
                status=ProofError.status,
                stage="proof",
                hint="a handler that is random by design, or depends on time, is served with --proof off",
                details={"path": difference.path},
            )
            raise ProofError(info.message, info=info)
        return probe.seconds, {"checked": True, "max_difference": difference.max_difference}

    async def sweep(self, worker: Worker, seen: Sequence[Observation], known: Known | None) -> list[Observation]:
        """Batches of copies of the sample, after these -> size and seconds of each. Raises LoadError."""
        observations = list(seen)
        while (size := next_size(observations, self._config.max_batch_size, known)) is not None:
            probe = await self._probe(worker, size, Flag.WARMUP)
            error = next((item.error for item in probe.meta.items if item.error is not None), None)
            if error is not None:
                raise _failed_when_warmed(error, size)
            observations.append((size, probe.seconds))
        return observations

    async def warm(self, worker: Worker, largest: int) -> None:
        """A further worker: the smallest batch and the largest. Raises LoadError."""
        await self.once(worker)
        await self._probe(worker, largest, Flag.WARMUP)

    async def once(self, worker: Worker) -> None:
        """The sample alone, whatever the answer. Raises LoadError."""
        await self._probe(worker, 1, Flag.WARMUP)

    async def _probe(self, worker: Worker, size: int, flags: Flag) -> Probe:
        sample = self._sample
        item = RequestItem(sample.content_type, WARMUP_REQUEST, sample.route)
        probe = await self._batcher.probe(worker, [item] * size, [sample.body] * size, flags)
        if len(probe.meta.items) != size:
            raise LoadError(f"worker {worker.id} gave {len(probe.meta.items)} answers to {size} samples")
        return probe


def _failed_when_warmed(error: ErrorInfo, size: int) -> LoadError:
    info = msgspec.structs.replace(
        error, stage="warmup", hint=error.hint or "the handler must take batches of any size"
    )
    message = f"the worker fails on a batch of {size} copies of the sample: {error.type}: {error.message}"
    info.message = message
    return LoadError(message, info=info)


def _sample_failed(answer: AnswerItem) -> ProofError:
    error = answer.error
    assert error is not None
    info = ErrorInfo(
        type="ProofError",
        message=f"the worker fails on the sample, the notebook did not: {error.type}: {error.message}",
        status=ProofError.status,
        where=error.where,
        stage="proof",
        traceback=error.traceback,
        hint=error.hint,
        details=error.details,
    )
    return ProofError(info.message, info=info)
