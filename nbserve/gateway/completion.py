"""The end of a request: its answer or its error goes to whoever waits, once, and is counted.

Used by gateway/batcher, which knows when. All on the gateway's loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from nbserve.errors import ErrorInfo
from nbserve.gateway.batch import Batch
from nbserve.gateway.failures import Failures
from nbserve.gateway.metrics import VersionStats
from nbserve.gateway.request import Answered, Request, Where
from nbserve.gateway.rescue import Retries
from nbserve.wire.frames import Buffer
from nbserve.wire.messages import AnswerItem

__all__ = ["Completion"]

log = logging.getLogger("nbserve.batcher")


class Completion:
    """Completes the requests of one version. A request that is DONE already is left alone."""

    def __init__(
        self, stats: VersionStats, retries: Retries, failures: Failures | None, clock: Callable[[], float]
    ) -> None:
        self._stats, self._retries, self._failures, self._clock = stats, retries, failures, clock

    def answer(self, batch: Batch, answer: AnswerItem, body: Buffer, suffix: str, now_s: float) -> None:
        """What the worker said of one request of a batch; parts are gathered. suffix: `timing_suffix` of the batch."""
        place, kind, status, error = answer.item, answer.kind, answer.status, answer.error
        if not 0 <= place < len(batch.requests):
            log.warning("batch %d has no item %d", batch.id, place)
            return
        request = batch.requests[place]
        if request.state is Where.DONE:
            return
        if kind == "more" or request.parts is not None:
            request.parts = [*(request.parts or []), body]
            if kind == "more":
                return
            body = b"".join(request.parts)
        if error is None and (kind == "error" or not 200 <= status <= 599):
            error = ErrorInfo(type="HandlerError", message=f"the worker answered with status {status}")
        wait_s = batch.sent_s - request.arrived_s
        batch_wait_s = batch.sent_s - batch.idle_since_s
        if batch_wait_s > wait_s:  # min and max would cost a quarter of what timing a request does
            batch_wait_s = wait_s
        queue_s = wait_s - batch_wait_s
        self._stats.time_answer(queue_s, batch_wait_s, now_s - request.arrived_s)
        timing = f"queue;dur={queue_s * 1e3:.3f}, batch;dur={batch_wait_s * 1e3:.3f}{suffix}"
        if error is not None:
            status = error.status
            self._note_failure(batch, request, error, lost=False)
        worker_id = batch.worker.id
        self._complete(request, Answered(status, answer.content_type, body, error, timing, None, batch.id, worker_id))

    def fail(
        self, request: Request, info: ErrorInfo, *, batch: Batch | None = None, retry_after_s: float | None = None
    ) -> None:
        """It ends with this error. batch: which it was lost with, where it was sent."""
        if request.state is Where.DONE:
            return
        wait_s = (batch.sent_s if batch else self._clock()) - request.arrived_s
        timing = f"queue;dur={wait_s * 1e3:.3f}"
        batch_id, worker_id = (batch.id, batch.worker.id) if batch else (None, None)
        if batch is not None:
            self._note_failure(batch, request, info, lost=True)
        self._complete(request, Answered(info.status, "", b"", info, timing, retry_after_s, batch_id, worker_id))

    def _note_failure(self, batch: Batch, request: Request, error: ErrorInfo, *, lost: bool) -> None:
        if self._failures is not None:
            self._failures.take(request, batch.requests, batch.id, batch.worker.id, error, lost=lost)

    def _complete(self, request: Request, answered: Answered) -> None:
        request.state = Where.DONE
        request.body = b""
        if request.group is not None:
            self._retries.completed(request.group)
        self._stats.count_request(answered.status)
        try:
            request.answered(answered)
        except Exception:  # one client's connection must not stop the others' answers
            log.exception("request %s could not be answered", request.item.request_id)
