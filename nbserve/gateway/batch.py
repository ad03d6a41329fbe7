"""One batch on its way to a worker and back, and what its times say. Made and completed by gateway/batcher."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from nbserve.errors import ErrorInfo
from nbserve.gateway.pool.supervisor import Worker
from nbserve.gateway.request import Request
from nbserve.wire.frames import Buffer, Flag
from nbserve.wire.messages import AnswerMeta, Timings

__all__ = ["Batch", "Probe", "all_late", "timing_suffix", "work_s"]

_SUFFIX = "".join(
    f", {stage};dur=%.3f" for stage in ("decode", "preprocess", "inference", "postprocess", "encode", "transport")
)

_ids = itertools.count(1)


class Probe(NamedTuple):
    """A warm-up batch's answer; `seconds` from dispatch to answer."""

    meta: AnswerMeta
    bodies: Sequence[Buffer]
    seconds: float


class Batch:
    """Requests that were sent to a worker together. future: of a warm-up batch, else None."""

    __slots__ = ("flags", "future", "id", "idle_since_s", "requests", "sent_s", "worker")

    def __init__(
        self,
        worker: Worker,
        requests: list[Request],
        flags: Flag,
        sent_s: float,
        idle_since_s: float,
        future: asyncio.Future[Probe] | None = None,
    ) -> None:
        self.id = next(_ids)
        self.worker = worker
        self.requests = requests
        self.flags = flags
        self.sent_s = sent_s
        self.idle_since_s = idle_since_s
        self.future = future


def all_late(batch: Batch, meta: AnswerMeta) -> ErrorInfo | None:
    """The error of a batch that was interrupted as a whole at the time limit, else None."""
    if not meta.last or len(meta.items) != len(batch.requests) or not meta.items or meta.items[0].error is None:
        return None
    errors = [item.error for item in meta.items if item.error is not None and item.error.status == 504]
    return errors[0] if errors and len(errors) == len(batch.requests) else None


def work_s(timings: Timings) -> float:
    """Of a batch, in its worker."""
    return timings.decode_s + timings.preprocess_s + timings.inference_s + timings.postprocess_s + timings.encode_s


def timing_suffix(timings: Timings, transport_s: float) -> str:
    """The part of Server-Timing that all requests of a batch share, in milliseconds."""
    return _SUFFIX % (
        timings.decode_s * 1e3,
        timings.preprocess_s * 1e3,
        timings.inference_s * 1e3,
        timings.postprocess_s * 1e3,
        timings.encode_s * 1e3,
        transport_s * 1e3,
    )
