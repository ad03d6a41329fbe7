"""What to do with the queue now: pure decisions, time is an argument. Called by gateway/batcher.

Default is work-conserving: an idle worker gets at once what there is, and what queues while all are busy is the next
batch. (Simulated and measured: a fixed delay only adds latency; docs/architecture.md.) With an objective, `slo_ms`:

- a batch may take at most half of it: s(B) <= (SLO - margin) / 2
- a request is refused where it could not be answered in time: its batch begins when those before it are done, and the
  batches that are in work now have only the rest of their time left
- one that waited too long to be answered in time, in the batch that it would be in, is given up before it costs work
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nbserve.config import ModelConfig
from nbserve.gateway.cost import Cost

__all__ = [
    "Budget",
    "Dispatch",
    "QueueView",
    "Reject",
    "ReturnLine",
    "Wait",
    "WaitUntil",
    "admit",
    "admit_in_time",
    "batch_cap",
    "count_expired",
    "decide",
]

AHEAD_S = 0.002
"""A busy worker gets its next batch ahead where one takes less than this: the way there and back, 60 to 100 us, would
be a good part of it. (Measured: docs/worker-protocol.md.)"""
RESERVE = 0.04
"""Of the objective, left at admission for what the gateway does not see or reckon: the way to the client and back, and
its own work between two batches. (Measured by the overload row of tests/faults, SLO 500 ms, batches of 50 ms: a client
in Python has sent a burst of 16 and read 8 answers 5 ms later than the gateway's clock says, 9 to 20 ms at the ninth
tenth and at the hundredth. With nothing left 5 to 10 % of the answers were late there, with 2 % as many on a slower
machine, all of them in time by the gateway's clock; with 4 % one in a
thousand.)"""
LONGEST_LINE_S = 5.0
"""Of seconds that the line adds to those until the queue is done: many who are refused never come back."""
TICK_S = 5e-4
"""Timers may fire this much early, as uvloop's count whole milliseconds: what is due within a tick is due, or the loop
would turn without rest until it is."""


class QueueView(NamedTuple):
    """The queue as the policy sees it. `oldest_s`: arrival of the oldest request; any number where it is empty."""

    items: int
    size_bytes: int
    oldest_s: float


class Dispatch(NamedTuple):
    """Send the oldest `size` requests to an idle worker."""

    size: int


class WaitUntil(NamedTuple):
    """Look again at this time, or when something happens before."""

    at_s: float


class Wait(NamedTuple):
    """Nothing to do until something happens."""


class Reject(NamedTuple):
    """Refuse it: 503 with this message; worth another try after so many seconds."""

    reason: str
    retry_after_s: float


class Budget:
    """A token bucket: `rate` a second, at most `most`; may go below zero once, and is spent until it is above again.

    For work that must not amplify: retries after a worker's death, the search for bad requests in a failed batch.
    """

    def __init__(self, rate: float, most: float) -> None:
        self._rate = rate
        self._most = most
        self._left = most
        self._at_s: float | None = None

    def spend(self, amount: float, now_s: float) -> None:
        """Take this much out."""
        self._refill(now_s)
        self._left -= amount

    def is_spent(self, now_s: float) -> bool:
        """Whether there is nothing left now."""
        self._refill(now_s)
        return self._left <= 0

    def _refill(self, now_s: float) -> None:
        if self._at_s is not None:
            self._left = min(self._most, self._left + self._rate * (now_s - self._at_s))
        self._at_s = now_s


class ReturnLine:
    """When those that are refused should come back: one after the other, as fast as requests are served.

    Told the same second they would all come at once, and nearly all be refused again: of 500 clients on a capacity of
    160/s, 420 did so every second, and their refusals cost 3 % of the goodput.
    """

    def __init__(self) -> None:
        self._end_s = 0.0

    def join(self, now_s: float, not_before_s: float, each_s: float) -> float:
        """Seconds from now until it is this one's turn. each_s: between two requests that are served."""
        from_s = now_s + not_before_s
        self._end_s = min(max(self._end_s, from_s) + each_s, from_s + LONGEST_LINE_S)
        return self._end_s - now_s


def decide(
    queue: QueueView,
    now_s: float,
    idle_workers: int,
    cost: Cost | None,
    config: ModelConfig,
    *,
    ahead: bool = False,
) -> Dispatch | WaitUntil | Wait:
    """What to do next. Expired requests are taken to be out of the queue already (`count_expired`).

    ahead: whether a busy worker may get a second batch. Only a full one goes there: it cannot grow by waiting.
    """
    if queue.items == 0:
        return Wait()
    if idle_workers == 0:
        if ahead and cost is not None:
            largest = batch_cap(cost, config)
            if queue.items >= largest > 1 and cost.predict_s(largest) < AHEAD_S:
                return Dispatch(largest)
        return _next_expiry(queue, cost, config)
    largest = batch_cap(cost, config)
    due_s = queue.oldest_s + config.max_batch_delay_ms / 1e3
    if config.slo_ms is not None and cost is not None:
        due_s = min(due_s, queue.oldest_s + config.slo_ms / 1e3 - cost.margin_s - cost.predict_s(largest))
    if queue.items >= largest or due_s <= now_s + TICK_S:
        # Spread over the idle workers: they run side by side, and a smaller batch is done sooner.
        return Dispatch(min(largest, -(-queue.items // idle_workers)))
    return WaitUntil(due_s)


def batch_cap(cost: Cost | None, config: ModelConfig) -> int:
    """The largest batch to send: `max_batch_size`, or what takes at most half of the objective; at least 1."""
    if config.slo_ms is None or cost is None:
        return config.max_batch_size
    half_s = (config.slo_ms / 1e3 - cost.margin_s) / 2
    if cost.predict_s(config.max_batch_size) <= half_s:
        return config.max_batch_size
    if cost.c_s <= 0:
        return 1
    return max(1, min(config.max_batch_size, int((half_s - cost.a_s) / cost.c_s)))


def count_expired(arrivals_s: Iterable[float], items: int, now_s: float, cost: Cost | None, config: ModelConfig) -> int:
    """How many of the oldest requests can no longer be answered in time. `arrivals_s`: of all, oldest first."""
    if config.slo_ms is None or cost is None:
        return 0
    slo_s = config.slo_ms / 1e3
    if cost.predict_s(1) + cost.margin_s > slo_s:
        return 0  # not the waiting is at fault; admission lets such a one in only to keep the model learning
    largest = batch_cap(cost, config)
    expired = 0
    for arrived_s in arrivals_s:
        batch = min(items - expired, largest)
        if now_s + TICK_S + cost.predict_s(batch) + cost.margin_s <= arrived_s + slo_s:
            break
        expired += 1
    return expired


def admit(
    items: int, size_bytes: int, body_bytes: int, ready_workers: int, cost: Cost | None, config: ModelConfig
) -> Reject | None:
    """Why there is no room for a request behind those `items` of `size_bytes`. `ready_workers`: idle or busy."""
    if ready_workers == 0:
        return Reject("no worker is ready", 1.0)
    if items >= config.max_queue_size:
        return Reject(f"the queue is full: {items} requests", _drain_s(items, ready_workers, cost, config))
    if size_bytes + body_bytes > config.max_queue_bytes:
        return Reject(
            f"the queue is full: {size_bytes} bytes of {config.max_queue_bytes}",
            _drain_s(items, ready_workers, cost, config),
        )
    return None


def admit_in_time(items: int, free_in_s: Sequence[float], cost: Cost, config: ModelConfig) -> Reject | None:
    """Why the next request cannot be answered within `slo_ms`, with `items` before it in the queue.

    free_in_s: until each ready worker is done with what it has, at least one; 0 for an idle one.

    Full batches go to the workers as they become free: request n is in batch n // B, which begins when that many
    others have. (Little's law with two whole batches, the one in work and the request's own, refuses half a batch to
    one too many: 5 to 10 % of the goodput under bursts.)
    """
    if config.slo_ms is None:
        return None
    free = sorted(free_in_s)
    if not items and free[0] <= 0:
        return None  # an idle worker always gets one: a wrong estimate could not mend itself otherwise
    largest = batch_cap(cost, config)
    rounds, turn = divmod(items // largest, len(free))
    # Each of the batches may take its margin longer: what is admitted and then given up has waited in vain.
    ends_in_s = free[turn] + (rounds + 1) * (cost.predict_s(largest) + cost.margin_s)
    if ends_in_s <= (1 - RESERVE) * config.slo_ms / 1e3:
        return None
    return Reject(
        f"the deadline of {config.slo_ms:g} ms cannot be met: {items} requests wait",
        _drain_s(items, len(free), cost, config),
    )


def _next_expiry(queue: QueueView, cost: Cost | None, config: ModelConfig) -> WaitUntil | Wait:
    if config.slo_ms is None or cost is None:
        return Wait()
    patience_s = config.slo_ms / 1e3 - cost.margin_s - cost.predict_s(1)
    return WaitUntil(queue.oldest_s + patience_s) if patience_s > 0 else Wait()


def _drain_s(items: int, workers: int, cost: Cost | None, config: ModelConfig) -> float:
    """Seconds until what waits now is done; 1 where nothing is known."""
    if cost is None:
        return 1.0
    largest = batch_cap(cost, config)
    return max(items, 1) * cost.predict_s(largest) / (workers * largest)
