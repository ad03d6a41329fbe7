"""The queue of one model version: admits requests, sends batches to its workers, sees that each request is completed.

Acts on what gateway/policy decides; completes by gateway/completion. It is the pool's listener
(gateway/pool/supervisor): workers come, go and answer here. Created by gateway/version, fed by gateway/inference.
All on the gateway's loop, no locks. Time is the monotonic clock, not the loop's: uvloop's stands still within a turn
and counts whole milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo, LoadError
from nbserve.gateway.batch import Batch, Probe, all_late, timing_suffix, work_s
from nbserve.gateway.completion import Completion
from nbserve.gateway.cost import Cost, CostModel
from nbserve.gateway.failures import Failures
from nbserve.gateway.metrics import VersionStats
from nbserve.gateway.policy import (
    Dispatch,
    QueueView,
    Reject,
    ReturnLine,
    WaitUntil,
    admit,
    admit_in_time,
    batch_cap,
    count_expired,
    decide,
)
from nbserve.gateway.pool.supervisor import Worker
from nbserve.gateway.request import Request, Where
from nbserve.gateway.rescue import BatchCap, Retries
from nbserve.gateway.roster import Roster
from nbserve.wire.frames import Buffer, Flag
from nbserve.wire.messages import AnswerMeta, RequestItem

__all__ = ["Batcher", "Probe", "QueueTotal"]

log = logging.getLogger("nbserve.batcher")


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
        failures: Failures | None = None,
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
        self._roster = Roster()
        self._batches: dict[int, Batch] = {}
        self._busy_s = 0.0
        self._scheduled = False
        self._enough = 0  # so many must wait before an arrival alone is a reason to look at the queue
        self._timer: asyncio.TimerHandle | None = None
        self._closing: str = ""
        self._hopeless: str = ""
        self._cap = BatchCap(config)
        self._line = ReturnLine()
        self._retries = Retries(config.retries, self._cap)
        self._completion = Completion(self.stats, self._retries, failures, clock)
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

    def in_hand(self, batch_id: int) -> Batch | None:
        """A batch that was sent and is not yet answered."""
        return self._batches.get(batch_id)

    def submit(self, request: Request) -> Reject | None:
        """Take a request, or say why not; `request.answered` is called once it was taken."""
        size = len(request.body)
        reject = self._why_not(size)
        if reject is not None:
            return self._refuse(reject)
        self._queue.append(request)
        self._items += 1
        self._count_bytes(size)
        if self._items >= self._enough:
            self._wake()
        return None

    def _why_not(self, size_bytes: int) -> Reject | None:
        """Why a request with so large a body is not taken."""
        if self._closing:
            return Reject(self._closing, 1.0)
        config, cost = self.config, self.cost_model.cost
        # Workers that are being restarted count: the request waits for them, it is not refused.
        workers = 0 if self._hopeless else len(self._roster.ready) or 1
        reject = admit(self._items, self._bytes, size_bytes, workers, cost, config)
        if reject is None and config.slo_ms is not None and cost is not None:
            reject = admit_in_time(self._items, self._free_in_s(cost), cost, config)
        if self._total.size_bytes + size_bytes > self._total.limit_bytes:
            reject = Reject(f"the queues of all models are full: {self._total.size_bytes} bytes", 1.0)
        return reject if reject is None or workers else Reject(self._hopeless, reject.retry_after_s)

    def abandon(self, request: Request) -> None:
        """The client has gone: out of the queue, or its answer is dropped."""
        if request.state is Where.DONE:
            return
        if request.state is Where.QUEUED:
            self._items -= 1
            self._count_bytes(-len(request.body))
        elif request.state is Where.AGAIN:
            self._retries.drop(request)
        self._wake()
        request.state = Where.DONE
        request.body = b""
        self.stats.count_request(499)

    def _count_bytes(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        self._total.size_bytes += size_bytes

    def _refuse(self, reject: Reject) -> Reject:
        self.stats.count_request(503)
        cost, workers = self.cost_model.cost, len(self._roster.ready)
        if cost is None or not workers:
            return reject
        largest = batch_cap(cost, self.config)
        each_s = cost.predict_s(largest) / (largest * workers)
        return reject._replace(retry_after_s=self._line.join(self._clock(), reject.retry_after_s, each_s))

    def _view(self) -> QueueView:
        return QueueView(self._items, self._bytes, self._queue[0].arrived_s if self._queue else 0.0)

    def _free_in_s(self, cost: Cost) -> list[float]:
        """Until each ready worker is done with what it has; one that is being restarted may be so in a batch's time."""
        now_s = self._clock()
        free_in_s = dict.fromkeys(self._roster.ready, 0.0)
        for batch in self._batches.values():
            if batch.worker in free_in_s:  # `sent_s` of one that was sent ahead lies too early: no more than AHEAD_S
                free_in_s[batch.worker] += max(0.0, batch.sent_s + cost.predict_s(len(batch.requests)) - now_s)
        return list(free_in_s.values()) or [cost.predict_s(batch_cap(cost, self.config))]

    # -- dispatch ----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Look at the queue once everything that arrived in this turn of the loop is in it."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        self._enough = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._send_retries()
        if not self._items:
            self._queue.clear()  # of those that were abandoned
        while self._items:
            self._drop_heads()
            now_s = self._clock()
            limits = self._cap.limits(now_s)
            idle, ahead = len(self._roster.idle), self._roster.may_get_ahead
            decision = decide(self._view(), now_s, idle, self.cost_model.cost, limits, ahead=ahead is not None)
            if isinstance(decision, Dispatch):
                requests = self._take(decision.size)
                if idle or ahead is None:
                    self._dispatch(requests, Flag.NONE)
                else:
                    self._send(Batch(ahead, requests, Flag.NONE, now_s, now_s))
                continue
            if self.config.slo_ms is None:  # else what a batch is thought to take counts, and may change meanwhile
                self._enough = limits.max_batch_size
            if isinstance(decision, WaitUntil):
                self._timer = self._loop.call_later(max(0.0, decision.at_s - self._clock()), self._wake)
            break
        self._check_empty()

    def _drop_heads(self) -> None:
        """Take the abandoned and the expired off the front."""
        queue = self._queue
        while queue and queue[0].state is Where.DONE:
            queue.popleft()
        if not queue or self.config.slo_ms is None:
            return
        waiting = (request.arrived_s for request in queue if request.state is Where.QUEUED)
        count = count_expired(waiting, self._items, self._clock(), self.cost_model.cost, self.config)
        for request in self._take(count):
            message = f"the deadline of {self.config.slo_ms:g} ms cannot be met any more"
            self._completion.fail(
                request, ErrorInfo(type="Unavailable", message=message, status=503), retry_after_s=1.0
            )

    def _take(self, count: int) -> list[Request]:
        """The oldest `count` requests, out of the queue; abandoned ones are passed over."""
        taken: list[Request] = []
        while len(taken) < count:
            request = self._queue.popleft()
            if request.state is Where.QUEUED:
                taken.append(request)
        self._items -= count
        self._count_bytes(-sum([len(request.body) for request in taken]))
        return taken

    def _dispatch(self, requests: list[Request], flags: Flag, future: asyncio.Future[Probe] | None = None) -> None:
        worker, since_s = next(iter(self._roster.idle.items()))
        self._send(Batch(worker, requests, flags, self._clock(), since_s, future))

    def _send(self, batch: Batch) -> None:
        worker, requests = batch.worker, batch.requests
        self._roster.sent(worker, batch.id, alone=batch.flags != Flag.NONE)
        self._batches[batch.id] = batch
        for request in requests:
            request.state = Where.SENT
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
            self._roster.leaves(worker)
            self._forget(batch)
            self._lose(batch, ErrorInfo(type=type(exc).__name__, message=f"the batch could not be sent: {exc}"))
            self._wake()
            worker.kill()  # nobody knows what it has got; the pool starts it anew

    # -- a batch whose worker died -----------------------------------------------------------------------------------

    def _lose(self, batch: Batch, info: ErrorInfo) -> None:
        """Its requests are tried again, each alone, or fail."""
        if batch.future is not None:
            if not batch.future.done():
                batch.future.set_exception(LoadError(info.message, info=info))
            return
        for request in self._retries.lost(batch.requests, info, self._clock()):
            self._completion.fail(request, info, batch=batch)

    def _put_back(self, batch: Batch) -> None:
        """It never began: its requests are the first of the queue again, as if they had not been sent."""
        waiting = [request for request in batch.requests if request.state is not Where.DONE]
        for request in waiting:
            request.state = Where.AGAIN if request.tries else Where.QUEUED
        self._retries.put_back([request for request in waiting if request.tries])
        fresh = [request for request in waiting if not request.tries]
        self._queue.extendleft(reversed(fresh))
        self._items += len(fresh)
        self._count_bytes(sum(len(request.body) for request in fresh))

    def _send_retries(self) -> None:
        while self._retries and self._roster.idle:
            self._dispatch([self._retries.pop()], Flag.RETRY)

    # -- the pool's listener -----------------------------------------------------------------------------------------

    def worker_ready(self, worker: Worker) -> None:
        """READY: freshly loaded, restarted, or resumed."""
        self._hopeless = ""
        self._roster.joins(worker, self._clock())
        self._wake()

    def worker_gone(self, worker: Worker, reason: str) -> None:
        """Paused, draining or dead: it gets nothing more."""
        self._roster.leaves(worker)

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
        if (late := all_late(batch, meta)) is not None:
            self._forget(batch)
            self._lose(batch, late)
            self._wake()
            return
        sends_next = False
        if meta.last:
            self._forget(batch)
            if sends_next := self._items >= self.config.max_batch_size and not meta.extra:
                self._pump()  # first: the worker need not wait until the answers are written, nor for another turn
        timings = meta.timings
        transport_s = max(0.0, now_s - batch.sent_s - work_s(timings))
        suffix = timing_suffix(timings, transport_s)
        clean = len(meta.items) == len(batch.requests)
        for answer, body in zip(meta.items, bodies, strict=False):
            clean = clean and answer.error is None
            self._completion.answer(batch, answer, body, suffix, now_s)
        if meta.metrics:
            self.stats.handler.take(worker.id, meta.metrics)
        if not meta.last:
            return
        for request in batch.requests:
            if request.state is not Where.DONE:
                info = ErrorInfo(type="HandlerError", message="the worker gave no answer for this request")
                self._completion.fail(request, info, batch=batch)
        size = len(batch.requests)
        self.stats.count_batch(size, timings, transport_s)
        if clean and not batch.flags:
            self.cost_model.observe(size, now_s - self._began_s(batch))
            self._cap.note_clean()
        if meta.extra:
            self.stats.isolation_s += float(meta.extra.get("isolation_s", 0.0))
            self._cap.note_trouble(meta.extra, now_s)
        if sends_next:
            return
        if self._items or self._retries:
            self._wake()
        else:
            self._check_empty()

    def _began_s(self, batch: Batch) -> float:
        """From when on a batch took its worker's time: where its requests had waited for the worker, the gateway's own
        work between two batches is part of what each of them costs (0.7 ms beside 53, measured under overload)."""
        waited = batch.requests[0].arrived_s <= batch.idle_since_s and not self.config.max_batch_delay_ms
        return batch.idle_since_s if waited else batch.sent_s

    def batch_lost(self, worker: Worker, batch_id: int, info: ErrorInfo, *, began: bool) -> None:
        """The worker died with this batch in hand. One that never began is no suspect, and costs it no try."""
        batch = self._batches.get(batch_id)
        if batch is None:
            return
        self._forget(batch)
        if began or batch.future is not None:
            self._lose(batch, info)
        else:
            self._put_back(batch)
        self._wake()

    def no_more_workers(self, info: ErrorInfo) -> None:
        """All workers have failed for good: what waits is answered."""
        self._hopeless = message = f"no worker is ready: {info.message}"
        self._fail_waiting(ErrorInfo(type="Unavailable", message=message, status=503, stage=info.stage))

    # -- warm-up -----------------------------------------------------------------------------------------------------

    async def probe(self, worker: Worker, items: list[RequestItem], bodies: Sequence[bytes], flags: Flag) -> Probe:
        """One batch past the queue, to this idle worker. Raises LoadError where the worker is gone or dies of it."""
        if worker.state != "READY" or self._roster.holds(worker):
            raise LoadError(f"worker {worker.id} is {worker.state}, it cannot be warmed up")
        future: asyncio.Future[Probe] = self._loop.create_future()
        requests = [Request(item, body, 0.0) for item, body in zip(items, bodies, strict=True)]
        self._send(Batch(worker, requests, flags, self._clock(), 0.0, future))
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
            if batch.future is None:
                for request in batch.requests:
                    self._completion.fail(request, info)
            elif not batch.future.done():
                batch.future.set_exception(LoadError(reason, info=info))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._check_empty()

    def _check_empty(self) -> None:
        done = not (self._items or self._retries or self._batches)
        if done and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _fail_waiting(self, info: ErrorInfo) -> None:
        waiting = [*self._retries.clear(), *self._take(self._items)]
        for request in waiting:
            self._completion.fail(request, info, retry_after_s=1.0)

    def _answer_probe(self, batch: Batch, meta: AnswerMeta, bodies: Sequence[Buffer]) -> None:
        if meta.last:
            now_s = self._clock()
            self._forget(batch)
            assert batch.future is not None
            if not batch.future.done():
                batch.future.set_result(Probe(meta, bodies, now_s - batch.sent_s))
            self._wake()

    def _forget(self, batch: Batch) -> None:
        """It is over. The one that its worker got ahead begins now: what it waited there counts as queueing."""
        if self._batches.pop(batch.id, None) is None:
            return
        self._enough = 0  # its worker may take what comes next
        now_s = self._clock()
        self._busy_s += now_s - batch.sent_s
        following = self._roster.done(batch.worker, batch.id, now_s)
        if following is not None:
            self._batches[following].sent_s = self._batches[following].idle_since_s = now_s
