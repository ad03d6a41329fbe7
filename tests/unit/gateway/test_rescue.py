"""What becomes of the requests of a lost batch: queued again, tried again alone, or failed; and of the batch cap."""

from __future__ import annotations

from typing import Any

from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo
from nbserve.gateway.batcher import Batcher
from nbserve.gateway.request import Where
from nbserve.gateway.rescue import CLEAN_BATCHES, RETRIES_AT_ONCE, BatchCap, Retries
from nbserve.wire.frames import Flag
from nbserve.wire.messages import AnswerItem, AnswerMeta, RequestItem, Timings
from tests.unit.gateway.simulation import SimLoop, SimRequest

KILLED = ErrorInfo(type="WorkerDied", message="the worker was killed by SIGKILL")
LATE = ErrorInfo(type="ResponseTimeout", message="too long", status=504)
MEMORY = ErrorInfo(type="OutOfMemory", message="out of memory", status=507)


class Stopped:
    """A worker that takes batches and does nothing: the test says what becomes of them."""

    state = "READY"

    def __init__(self, number: int) -> None:
        self.id = number
        self.sent: list[tuple[int, list[str], Flag]] = []

    def send(self, batch_id: int, items: list[RequestItem], _bodies: Any, flags: Flag, _timeout_s: Any) -> None:
        self.sent.append((batch_id, [item.request_id for item in items], flags))


class Bench:
    """A batcher with one such worker."""

    def __init__(self, **config: Any) -> None:
        self.loop: Any = SimLoop()
        self.batcher = Batcher(ModelConfig(**config), loop=self.loop, clock=self.loop.time)
        self.worker: Any = Stopped(0)
        self.requests = [SimRequest(number, self.loop) for number in range(6)]

    def dispatched(self) -> tuple[int, list[str], Flag]:
        """The batch that goes out now."""
        self.batcher.worker_ready(self.worker)
        self.loop.run()
        return self.worker.sent[-1]

    def lost(self, batch_id: int, *, began: bool, info: ErrorInfo = KILLED) -> None:
        self.batcher.worker_gone(self.worker, info.message)
        self.batcher.batch_lost(self.worker, batch_id, info, began=began)
        self.loop.run()


def test_a_batch_that_never_began_is_first_in_the_queue_again_and_pays_nothing() -> None:
    bench = Bench(max_batch_size=4, retries=0)
    for request in bench.requests:
        assert bench.batcher.submit(request) is None
    for _ in range(3):  # any number of times
        batch_id, names, flags = bench.dispatched()
        assert names == ["0", "1", "2", "3"]
        assert not flags & Flag.RETRY
        assert bench.batcher.queue_items == 2
        bench.lost(batch_id, began=False)
        assert bench.batcher.queue_items == 6
        assert bench.batcher.queue_bytes == 6
    batch_id, _, _ = bench.dispatched()
    bench.lost(batch_id, began=True)
    assert [request.answer.status if request.answer else None for request in bench.requests] == [500] * 4 + [None] * 2


def test_who_hangs_up_while_a_batch_that_never_began_is_lost_is_not_queued_again() -> None:
    bench = Bench(max_batch_size=4)
    for request in bench.requests[:3]:
        bench.batcher.submit(request)
    batch_id, _, _ = bench.dispatched()
    bench.batcher.abandon(bench.requests[1])
    bench.lost(batch_id, began=False)
    assert bench.dispatched()[1] == ["0", "2"]
    assert bench.batcher.queue_bytes == 0


def test_a_second_try_that_never_began_is_still_a_second_try() -> None:
    """It goes alone and before the others, and the death in between did not count as its second."""
    bench = Bench(max_batch_size=4, retries=1)
    for request in bench.requests[:2]:
        bench.batcher.submit(request)
    batch_id, names, _ = bench.dispatched()
    assert names == ["0", "1"]
    bench.lost(batch_id, began=True)
    for _ in range(2):
        batch_id, names, flags = bench.dispatched()
        assert (names, flags) == (["0"], Flag.RETRY)
        assert bench.requests[0].tries == 1
        bench.lost(batch_id, began=False)
    batch_id, names, _ = bench.dispatched()
    answer = AnswerMeta([AnswerItem(0, "whole", 200, "text/plain")], Timings())
    bench.batcher.batch_answered(bench.worker, batch_id, answer, [b"ok"])
    assert bench.requests[0].answer is not None
    assert bench.requests[0].answer.status == 200
    bench.loop.run()
    assert bench.worker.sent[-1][1] == ["1"]


def requests(count: int) -> list[SimRequest]:
    loop = SimLoop()
    return [SimRequest(number, loop) for number in range(count)]


def retries(config: ModelConfig | None = None) -> tuple[Retries, BatchCap]:
    cap = BatchCap(config or ModelConfig())
    return Retries(1, cap), cap


def test_suspects_of_a_batch_out_of_memory_that_all_pass_alone_lower_the_cap() -> None:
    waiting, cap = retries()
    suspects = requests(8)
    assert waiting.lost(suspects, MEMORY, 0.0) == []
    for request in suspects:
        assert waiting.pop() is request
        assert cap.limits(0.0).max_batch_size == 32
        waiting.completed(request.group)
    assert cap.limits(0.0).max_batch_size == 4
    for _ in range(CLEAN_BATCHES):
        cap.note_clean()
    assert cap.limits(0.0).max_batch_size == 8


def test_one_that_dies_alone_was_at_fault_and_the_cap_stays() -> None:
    waiting, cap = retries()
    suspects = requests(8)
    waiting.lost(suspects, MEMORY, 0.0)
    for request in suspects:
        assert waiting.pop() is request
        if request is suspects[3]:
            assert waiting.lost([request], MEMORY, 1.0) == [request]
        waiting.completed(request.group)
    assert cap.limits(2.0).max_batch_size == 32


def test_two_of_a_late_batch_that_are_late_alone_take_the_others_with_them() -> None:
    waiting, _ = retries()
    suspects = requests(5)
    assert waiting.lost(suspects, LATE, 0.0) == []
    assert waiting.lost([waiting.pop()], LATE, 1.0) == [suspects[0]]
    assert waiting.lost([waiting.pop()], LATE, 2.0) == suspects[1:]
    assert len(waiting) == 0


def test_a_late_one_that_was_alone_from_the_start_is_not_tried_again() -> None:
    waiting, _ = retries()
    [request] = requests(1)
    assert waiting.lost([request], LATE, 0.0) == [request]


def test_the_budget_bounds_what_is_tried_again() -> None:
    waiting, _ = retries()
    many = requests(int(RETRIES_AT_ONCE) + 10)
    assert waiting.lost(many, KILLED, 0.0) == many[-10:]
    late_comers = requests(30)
    assert len(waiting.lost(late_comers, KILLED, 1.0)) == 20, "10 a second come back"


def test_who_is_done_with_is_neither_tried_again_nor_failed() -> None:
    waiting, _ = retries()
    both = requests(2)
    both[0].state = Where.DONE
    assert waiting.lost(both, KILLED, 0.0) == []
    assert waiting.pop() is both[1]
    assert len(waiting) == 0


def test_isolation_that_takes_too_long_makes_batches_of_one_for_a_while() -> None:
    cap = BatchCap(ModelConfig(max_batch_size=16))
    cap.note_trouble({"isolation_s": 1.5}, 0.0)
    assert cap.limits(0.0).max_batch_size == 1
    assert cap.limits(10.0).max_batch_size == 16
    cap.note_trouble({"memory_fits": 5}, 10.0)
    assert cap.limits(10.0).max_batch_size == 5
