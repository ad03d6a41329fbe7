"""The queue of one model version: admits requests, sends batches to its workers, completes each request exactly once.

Acts on what gateway/policy decides. It is the pool's listener (gateway/pool/supervisor): workers come, go and answer
here. Created by gateway/version, fed by gateway/inference. All on the gateway's loop, no locks. Time is the monotonic
clock, not the loop's: uvloop's stands still within a turn and counts whole milliseconds.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo, LoadError
from nbserve.gateway.cost import CostModel
from nbserve.gateway.metrics import VersionStats
from nbserve.gateway.policy import Budget, Dispatch, QueueView, Reject, WaitUntil, admit, count_expired, decide
from nbserve.gateway.pool.supervisor import Worker
from nbserve.wire.frames import Buffer, Flag
from nbserve.wire.messages import AnswerItem, AnswerMeta, RequestItem, Timings

__all__ = ["Answered", "Batcher", "Probe", "QueueTotal", "Request"]

log = logging.getLogger("nbserve.batcher")

_batch_ids = itertools.count(1)

_QUEUED, _SENT, _DONE = range(3)

RETRIES_PER_S, RETRIES_AT_ONCE = 10.0, 200.0
"""Requests whose worker died may be tried again at this rate (10/s is the floor of Finagle's retry budget)."""
ISOLATION_SHARE, ISOLATION_AT_ONCE_S = 0.25, 1.0
"""Seconds a second for finding bad requests in failed batches; when spent, requests go one by one for a while."""
CLEAN_BATCHES = 50
"""So many batches in a row that went well double a lowered batch cap."""


class Answered(NamedTuple):
    """What became of a request. `error` is set where `status` says so. `server_timing`: the header's value."""

    status: int
    content_type: str
    body: Buffer
    error: ErrorInfo | None = None
    server_timing: str = ""
    retry_after_s: float | None = None
    batch_id: int | None = None
    worker_id: int | None = None


class Request:
    """One request on its way. The owner says in a subclass what to do with the answer."""

    __slots__ = ("arrived_s", "body", "group", "item", "parts", "state", "tries")

    def __init__(self, item: RequestItem, body: bytes, arrived_s: float) -> None:
        self.item = item
        self.body = body
        self.arrived_s = arrived_s
        self.tries = 0
        self.group: _Suspects | None = None
        self.state = _QUEUED
        self.parts: list[Buffer] | None = None

    def answered(self, answer: Answered) -> None:
        """Called exactly once for an admitted request, unless it was abandoned."""
        raise NotImplementedError


class Probe(NamedTuple):
    """A warm-up batch's answer; `seconds` from dispatch to answer."""

    meta: AnswerMeta
    bodies: Sequence[Buffer]
    seconds: float


class _Batch:
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
        self.id = next(_batch_ids)
        self.worker = worker
        self.requests = requests
        self.flags = flags
        self.sent_s = sent_s
        self.idle_since_s = idle_since_s
        self.future = future


class _Suspects:
    """The requests of a batch that was lost, now tried one by one: was it one of them, or were they too many?

    Lost to the time limit it is always one of them (`guilty`); when two have run into it alone, it is the handler.
    """

    __slots__ = ("guilty", "left", "size", "timeouts")

    def __init__(self, size: int, *, guilty: bool) -> None:
        self.size = size
        self.left = size
        self.guilty = guilty
        self.timeouts = 0


class QueueTotal:
    """Bytes that wait in all queues of a gateway, and how many may."""

    __slots__ = ("limit_bytes", "size_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0


class Batcher:
    """Queue, idle workers and batches in flight of one version."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        loop: asyncio.AbstractEventLoop,
        cost_model: CostModel | None = None,
        stats: VersionStats | None = None,
        clock: Callable[[], float] = time.monotonic,
        total: QueueTotal | None = None,
    ) -> None:
        self.config = config
        self.cost_model = cost_model or CostModel()
        self.stats = stats or VersionStats()
        self._loop = loop
        self._clock = clock
        self._queue: deque[Request] = deque()
        self._items = 0
        self._bytes = 0
        self._total = total or QueueTotal(config.max_queue_bytes)
        self._retries: deque[Request] = deque()
        self._ready: set[Worker] = set()
        self._idle: dict[Worker, float] = {}  # -> idle since; longest idle first
        self._busy: dict[Worker, int] = {}
        self._batches: dict[int, _Batch] = {}
        self._busy_s = 0.0
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing: str = ""
        self._hopeless: str = ""
        self._cap = config.max_batch_size
        self._clean_batches = 0
        self._retry_budget = Budget(RETRIES_PER_S, RETRIES_AT_ONCE)
        self._isolation_budget = Budget(ISOLATION_SHARE * _workers_asked(config), ISOLATION_AT_ONCE_S)
        self._emptied: asyncio.Future[None] | None = None

    # -- requests ----------------------------------------------------------------------------------------------------

    @property
    def queue_items(self) -> int:
        """Requests that wait for a worker."""
        return self._items + len(self._retries)

    @property
    def queue_bytes(self) -> int:
        """Bytes of the bodies that wait."""
        return self._bytes

    @property
    def oldest_wait_s(self) -> float:
        """How long the oldest request has waited for a worker."""
        return self._clock() - self._queue[0].arrived_s if self._items else 0.0

    @property
    def busy_s(self) -> float:
        """Worker-seconds of work since the start, batches in flight included."""
        now_s = self._clock()
        return self._busy_s + sum(now_s - batch.sent_s for batch in self._batches.values())

    def submit(self, request: Request) -> Reject | None:
        """Take a request, or say why not; `request.answered` is called once it was taken."""
        if self._closing:
            return self._refuse(Reject(self._closing, 1.0))
        size = len(request.body)
        cost = self.cost_model.cost
        # Workers that are being restarted count: the request waits for them, it is not refused.
        workers = 0 if self._hopeless else max(1, len(self._ready))
        decision = admit(self._view(), size, workers, len(self._idle), cost, self.config)
        if self._total.size_bytes + size > self._total.limit_bytes:
            decision = Reject(f"the queues of all models are full: {self._total.size_bytes} bytes", 1.0)
        if isinstance(decision, Reject):
            return self._refuse(decision if workers else Reject(self._hopeless, decision.retry_after_s))
        self._queue.append(request)
        self._items += 1
        self._count_bytes(size)
        self._wake()
        return None

    def abandon(self, request: Request) -> None:
        """The client has gone: out of the queue, or its answer is dropped."""
        if request.state == _DONE:
            return
        if request.state == _QUEUED and not request.tries:
            self._items -= 1
            self._count_bytes(-len(request.body))
        elif request.state == _QUEUED:
            self._retries = deque(other for other in self._retries if other is not request)
        self._wake()
        request.state = _DONE
        request.body = b""
        self.stats.count_request(499)

    def _count_bytes(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        self._total.size_bytes += size_bytes

    def _refuse(self, reject: Reject) -> Reject:
        self.stats.count_request(503)
        return reject

    def _view(self) -> QueueView:
        return QueueView(self._items, self._bytes, self._queue[0].arrived_s if self._queue else 0.0)

    # -- dispatch ----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Look at the queue once everything that arrived in this turn of the loop is in it."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._send_retries()
        while True:
            self._drop_heads()
            now_s = self._clock()
            limits = self._limits(now_s)
            decision = decide(self._view(), now_s, len(self._idle), self.cost_model.cost, limits)
            if isinstance(decision, Dispatch):
                self._dispatch(self._take(decision.size), Flag.NONE)
                continue
            if isinstance(decision, WaitUntil):
                self._timer = self._loop.call_later(max(0.0, decision.at_s - self._clock()), self._wake)
            break
        self._check_empty()

    def _limits(self, now_s: float) -> ModelConfig:
        """The configuration, with a smaller batch where memory ran out or isolation has used up its time."""
        cap = 1 if self._isolation_budget.is_spent(now_s) else self._cap
        if cap == self.config.max_batch_size:
            return self.config
        return msgspec.structs.replace(self.config, max_batch_size=cap)

    def _drop_heads(self) -> None:
        """Take the abandoned and the expired off the front."""
        queue = self._queue
        while queue and queue[0].state == _DONE:
            queue.popleft()
        if not queue or self.config.slo_ms is None:
            return
        waiting = (request.arrived_s for request in queue if request.state == _QUEUED)
        count = count_expired(waiting, self._items, self._clock(), self.cost_model.cost, self.config)
        for request in self._take(count):
            message = f"the deadline of {self.config.slo_ms:g} ms cannot be met any more"
            self._fail(request, ErrorInfo(type="Unavailable", message=message, status=503), retry_after_s=1.0)

    def _take(self, count: int) -> list[Request]:
        """The oldest `count` requests, out of the queue; abandoned ones are passed over."""
        taken: list[Request] = []
        while len(taken) < count:
            request = self._queue.popleft()
            if request.state == _QUEUED:
                taken.append(request)
                self._count_bytes(-len(request.body))
        self._items -= len(taken)
        return taken

    def _dispatch(self, requests: list[Request], flags: Flag, future: asyncio.Future[Probe] | None = None) -> None:
        worker = next(iter(self._idle))
        self._send(_Batch(worker, requests, flags, self._clock(), self._idle[worker], future))

    def _send(self, batch: _Batch) -> None:
        worker, requests = batch.worker, batch.requests
        self._idle.pop(worker, None)  # one that is warmed up is not there yet
        self._busy[worker] = batch.id
        self._batches[batch.id] = batch
        for request in requests:
            request.state = _SENT
        try:
            worker.send(
                batch.id,
                [request.item for request in requests],
                [request.body for request in requests],
                batch.flags,
                self.config.response_timeout_s,
            )
        except Exception as exc:  # nothing may be lost, whatever it was
            log.exception("batch %d could not be sent to worker %d", batch.id, worker.id)
            self._ready.discard(worker)
            self._forget(batch)
            self._lose(batch, ErrorInfo(type=type(exc).__name__, message=f"the batch could not be sent: {exc}"))
            self._wake()
            worker.kill()  # nobody knows what it has got; the pool starts it anew

    # -- retries: a batch whose worker died --------------------------------------------------------------------------

    def _lose(self, batch: _Batch, info: ErrorInfo) -> None:
        """Its requests are tried again, each alone; those that had their tries, or ran into the time limit, fail."""
        if batch.future is not None:
            if not batch.future.done():
                batch.future.set_exception(LoadError(info.message, info=info))
            return
        now_s = self._clock()
        waiting = [request for request in batch.requests if request.state != _DONE]
        timed_out = info.status == 504
        suspects = None
        if len(waiting) > 1 and (timed_out or info.status == 507):
            suspects = _Suspects(len(waiting), guilty=timed_out)
        for request in waiting:
            if request.group is not None:  # it was alone, and its worker died again
                request.group.guilty = True
                request.group.timeouts += timed_out
            alone = timed_out and len(batch.requests) == 1
            if request.tries >= self.config.retries or alone or self._retry_budget.is_spent(now_s):
                self._fail(request, info, batch=batch)
                continue
            self._retry_budget.spend(1, now_s)
            request.tries += 1
            request.group = request.group or suspects
            request.state, request.parts = _QUEUED, None
            self._retries.append(request)
        self._give_up_slow_groups(info)

    def _give_up_slow_groups(self, info: ErrorInfo) -> None:
        """Two of a group have run into the time limit alone: the others would too, and hold up everybody."""
        slow = [request for request in self._retries if request.group is not None and request.group.timeouts >= 2]
        if slow:
            self._retries = deque(request for request in self._retries if request not in slow)
            for request in slow:
                self._fail(request, info)

    def _cleared(self, suspects: _Suspects) -> None:
        """One of a lost batch has gone through alone. If all do, it was not one of them: they were too many at once."""
        suspects.left -= 1
        if suspects.left == 0 and not suspects.guilty:
            self._lower_cap(suspects.size // 2)

    def _lower_cap(self, size: int) -> None:
        self._cap = max(1, min(self._cap, size))
        self._clean_batches = 0
        log.warning("batches are at most %d for now: a larger one ran out of memory or killed its worker", self._cap)

    def _raise_cap(self) -> None:
        self._clean_batches += 1
        if self._cap < self.config.max_batch_size and self._clean_batches >= CLEAN_BATCHES:
            self._cap = min(self.config.max_batch_size, 2 * self._cap)
            self._clean_batches = 0

    def _send_retries(self) -> None:
        while self._retries and self._idle:
            self._dispatch([self._retries.popleft()], Flag.RETRY)

    # -- the pool's listener -----------------------------------------------------------------------------------------

    def worker_ready(self, worker: Worker) -> None:
        """READY: freshly loaded, restarted, or resumed."""
        self._ready.add(worker)
        self._hopeless = ""
        if worker not in self._busy:
            self._idle[worker] = self._clock()
            self._wake()

    def worker_gone(self, worker: Worker, reason: str) -> None:
        """Paused, draining or dead: it gets nothing more."""
        self._ready.discard(worker)
        self._idle.pop(worker, None)

    def batch_answered(self, worker: Worker, batch_id: int, meta: AnswerMeta, bodies: Sequence[Buffer]) -> None:
        """Some or all answers of a batch; `meta.last` closes it."""
        batch = self._batches.get(batch_id)
        if batch is None:
            log.debug("worker %d answered batch %d, which nobody waits for", worker.id, batch_id)
            return
        if batch.future is not None:
            self._answer_probe(batch, meta, bodies)
            return
        now_s = self._clock()
        if (late := _all_late(batch, meta)) is not None:
            self._close(batch, now_s)
            self._lose(batch, late)
            self._wake()
            return
        round_trip_s = now_s - batch.sent_s
        timings = meta.timings
        transport_s = max(0.0, round_trip_s - sum(_stages(timings)))
        suffix = _timing_suffix(timings, transport_s)
        clean = len(meta.items) == len(batch.requests)
        for answer, body in zip(meta.items, bodies, strict=False):
            clean = clean and answer.error is None
            self._answer(batch, answer, body, suffix, now_s)
        if meta.metrics:
            self.stats.handler.take(worker.id, meta.metrics)
        if not meta.last:
            return
        self._close(batch, now_s)
        for request in batch.requests:
            if request.state != _DONE:
                info = ErrorInfo(type="HandlerError", message="the worker gave no answer for this request")
                self._fail(request, info, batch=batch)
        size = len(batch.requests)
        self.stats.count_batch(size, timings, transport_s)
        if clean and not batch.flags:
            self.cost_model.observe(size, round_trip_s)
            self._raise_cap()
        if meta.extra:
            self._note_trouble(meta.extra, now_s)
        self._wake()

    def _note_trouble(self, extra: dict[str, Any], now_s: float) -> None:
        """The worker had to run parts of the batch again: for a bad request, or for want of memory."""
        isolation_s = float(extra.get("isolation_s", 0.0))
        self.stats.isolation_s += isolation_s
        self._isolation_budget.spend(isolation_s, now_s)
        if fits := int(extra.get("memory_fits", 0)):
            self._lower_cap(fits)

    def batch_lost(self, worker: Worker, batch_id: int, info: ErrorInfo) -> None:
        """The worker died with this batch in hand."""
        batch = self._batches.get(batch_id)
        if batch is not None:
            self._forget(batch)
            self._lose(batch, info)
            self._wake()

    def no_more_workers(self, info: ErrorInfo) -> None:
        """All workers have failed for good: what waits is answered."""
        self._hopeless = message = f"no worker is ready: {info.message}"
        self._fail_waiting(ErrorInfo(type="Unavailable", message=message, status=503, stage=info.stage))

    # -- warm-up -----------------------------------------------------------------------------------------------------

    async def probe(self, worker: Worker, items: list[RequestItem], bodies: Sequence[bytes], flags: Flag) -> Probe:
        """One batch past the queue, to this idle worker. Raises LoadError where the worker is gone or dies of it."""
        if worker.state != "READY" or worker in self._busy:
            raise LoadError(f"worker {worker.id} is {worker.state}, it cannot be warmed up")
        future: asyncio.Future[Probe] = self._loop.create_future()
        requests = [Request(item, body, 0.0) for item, body in zip(items, bodies, strict=True)]
        self._send(_Batch(worker, requests, flags, self._clock(), 0.0, future))
        return await future

    # -- end ---------------------------------------------------------------------------------------------------------

    async def close(self, grace_s: float, reason: str) -> None:
        """Refuse new requests for this reason, finish what is there for at most `grace_s`, then answer 503."""
        self._closing = reason
        if self._emptied is None:
            self._emptied = self._loop.create_future()
        self._check_empty()
        await asyncio.wait([self._emptied], timeout=grace_s)
        info = ErrorInfo(type="Unavailable", message=reason, status=503)
        self._fail_waiting(info)
        for batch in list(self._batches.values()):
            self._forget(batch)
            if batch.future is not None and not batch.future.done():
                batch.future.set_exception(LoadError(reason, info=info))
            for request in batch.requests:
                self._fail(request, info)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._check_empty()

    def _check_empty(self) -> None:
        done = not (self._items or self._retries or self._batches)
        if done and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _fail_waiting(self, info: ErrorInfo) -> None:
        waiting = [*self._retries, *self._take(self._items)]
        self._retries.clear()
        for request in waiting:
            self._fail(request, info, retry_after_s=1.0)

    # -- completing --------------------------------------------------------------------------------------------------

    def _answer(self, batch: _Batch, answer: AnswerItem, body: Buffer, suffix: str, now_s: float) -> None:
        if not 0 <= answer.item < len(batch.requests):
            log.warning("batch %d has no item %d", batch.id, answer.item)
            return
        request = batch.requests[answer.item]
        if request.state == _DONE:
            return
        if answer.kind == "more" or request.parts is not None:
            request.parts = [*(request.parts or []), body]
            if answer.kind == "more":
                return
            body = b"".join(request.parts)
        error = answer.error
        if error is None and (answer.kind == "error" or not 200 <= answer.status <= 599):
            error = ErrorInfo(type="HandlerError", message=f"the worker answered with status {answer.status}")
        wait_s = batch.sent_s - request.arrived_s
        batch_wait_s = max(0.0, min(wait_s, batch.sent_s - batch.idle_since_s))
        queue_s = wait_s - batch_wait_s
        stages = self.stats.stages
        stages["queue"].add(queue_s)
        stages["batch"].add(batch_wait_s)
        self.stats.latency.add(now_s - request.arrived_s)
        timing = f"queue;dur={queue_s * 1e3:.3f}, batch;dur={batch_wait_s * 1e3:.3f}{suffix}"
        status = answer.status if error is None else error.status
        worker_id = batch.worker.id
        self._complete(
            request, Answered(status, answer.content_type, body, error, timing, batch_id=batch.id, worker_id=worker_id)
        )

    def _fail(
        self, request: Request, info: ErrorInfo, *, batch: _Batch | None = None, retry_after_s: float | None = None
    ) -> None:
        if request.state == _DONE:
            return
        wait_s = (batch.sent_s if batch else self._clock()) - request.arrived_s
        timing = f"queue;dur={wait_s * 1e3:.3f}"
        batch_id, worker_id = (batch.id, batch.worker.id) if batch else (None, None)
        self._complete(request, Answered(info.status, "", b"", info, timing, retry_after_s, batch_id, worker_id))

    def _complete(self, request: Request, answered: Answered) -> None:
        request.state = _DONE
        request.body = b""
        if request.group is not None:
            self._cleared(request.group)
        self.stats.count_request(answered.status)
        try:
            request.answered(answered)
        except Exception:  # one client's connection must not stop the others' answers
            log.exception("request %s could not be answered", request.item.request_id)

    def _answer_probe(self, batch: _Batch, meta: AnswerMeta, bodies: Sequence[Buffer]) -> None:
        if meta.last:
            now_s = self._clock()
            self._close(batch, now_s)
            assert batch.future is not None
            if not batch.future.done():
                batch.future.set_result(Probe(meta, bodies, now_s - batch.sent_s))
            self._wake()

    def _close(self, batch: _Batch, now_s: float) -> None:
        self._forget(batch)
        if batch.worker in self._ready:
            self._idle[batch.worker] = now_s

    def _forget(self, batch: _Batch) -> None:
        if self._batches.pop(batch.id, None) is not None:
            self._busy_s += self._clock() - batch.sent_s
        self._busy.pop(batch.worker, None)


def _workers_asked(config: ModelConfig) -> int:
    """Workers asked for; 1 where that is not a number."""
    return config.workers if isinstance(config.workers, int) else 1


def _all_late(batch: _Batch, meta: AnswerMeta) -> ErrorInfo | None:
    """The error of a batch that was interrupted as a whole at the time limit, else None."""
    if not meta.last or len(meta.items) != len(batch.requests):
        return None
    errors = [item.error for item in meta.items if item.error is not None and item.error.status == 504]
    return errors[0] if errors and len(errors) == len(batch.requests) else None


def _stages(timings: Timings) -> Iterator[float]:
    yield timings.decode_s
    yield timings.preprocess_s
    yield timings.inference_s
    yield timings.postprocess_s
    yield timings.encode_s


def _timing_suffix(timings: Timings, transport_s: float) -> str:
    """The part of Server-Timing that all requests of a batch share, in milliseconds."""
    return (
        f", decode;dur={timings.decode_s * 1e3:.3f}"
        f", preprocess;dur={timings.preprocess_s * 1e3:.3f}"
        f", inference;dur={timings.inference_s * 1e3:.3f}"
        f", postprocess;dur={timings.postprocess_s * 1e3:.3f}"
        f", encode;dur={timings.encode_s * 1e3:.3f}"
        f", transport;dur={transport_s * 1e3:.3f}"
    )
