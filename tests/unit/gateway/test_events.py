"""The event bus: numbered, remembered in bounded memory, never held up by a reader."""

from __future__ import annotations

import asyncio

import msgspec

from nbserve.errors import ErrorInfo
from nbserve.gateway.events import RING_BYTES, SUBSCRIBER_BYTES, TEXT_LIMIT_CHARS, EventBus, Rates, Subscriber
from nbserve.wire.management import Event


def event(text: str = "", kind: str = "log", model: str = "m") -> Event:
    return msgspec.convert({"seq": 0, "at": 0.0, "kind": kind, "model": model, "text": text}, Event)


def lines(data: bytes) -> list[Event]:
    return [msgspec.json.decode(line, type=Event) for line in data.splitlines()]


def test_events_are_numbered_stamped_and_remembered() -> None:
    bus = EventBus(clock=lambda: 12.5)
    for text in "abc":
        bus.emit(event(text))
    bus.emit(event("r", kind="rates"))
    seen = lines(bus.since(1))
    assert [(one.seq, one.at, one.text) for one in seen] == [(2, 12.5, "b"), (3, 12.5, "c")]


def test_memory_is_bounded_and_a_print_is_cut() -> None:
    bus = EventBus()
    for _ in range(200):
        bus.emit(event("x" * (TEXT_LIMIT_CHARS + 5)))
    assert len(bus.since(0)) <= RING_BYTES
    assert lines(bus.since(199))[0].text.endswith("... (5 characters cut)\n")


def test_logs_are_the_last_prints_and_errors_of_one_model() -> None:
    bus = EventBus()
    bus.emit(event("1"))
    bus.emit(event("other", model="other"))
    bus.emit(event("", kind="state"))
    failed = event("", kind="error")
    failed.error = ErrorInfo(type="ValueError", message="no")
    bus.emit(failed)
    bus.emit(event("2"))
    assert [one.text or one.kind for one in bus.logs("m", 10)] == ["1", "error", "2"]
    assert [one.text or one.kind for one in bus.logs("m", 2)] == ["error", "2"]
    assert bus.logs("m", 0) == []
    assert bus.logs("m", 10, version="9") == []


def test_a_reader_gets_what_was_and_what_comes() -> None:
    async def run() -> None:
        bus = EventBus()
        bus.emit(event("was"))
        subscriber = bus.subscribe(0)
        assert [one.text for one in lines(await subscriber.next())] == ["was"]
        bus.emit(event("comes"))
        assert [one.text for one in lines(await subscriber.next())] == ["comes"]
        bus.close("the end")
        assert [one.text for one in lines(await subscriber.next())] == ["the end"]
        assert await subscriber.next() == b""
        assert await bus.subscribe(99).next() == b""

    asyncio.run(run())


def test_a_reader_that_falls_behind_is_cut_off_and_can_go_on_from_there() -> None:
    async def run() -> None:
        bus = EventBus()
        slow, quick = bus.subscribe(0), bus.subscribe(0)
        text = "x" * 60_000
        count = SUBSCRIBER_BYTES // len(text) + 5
        got = 0
        for _ in range(count):
            bus.emit(event(text))
            got += len(lines(await quick.next()))
        assert got == count, "nobody else is harmed"
        seen = lines(await slow.next())
        assert slow.ended
        assert "too slow" in seen[-1].text
        assert seen[-1].seq == seen[-2].seq == len(seen) - 1
        bus.emit(event("later"))
        missed = lines(bus.since(seen[-1].seq))
        assert [one.seq for one in missed] == list(range(seen[-1].seq + 1, count + 2)), "the ring still has the rest"

    asyncio.run(run())


def test_rates_are_asked_for_only_while_somebody_listens() -> None:
    async def run() -> None:
        bus = EventBus()
        asked: list[float] = []

        def sample(seconds: float) -> list[Event]:
            asked.append(seconds)
            return [event("", kind="rates")] if seconds else []

        Rates(bus, sample)
        await asyncio.sleep(0)
        assert asked == []
        subscriber = bus.subscribe(0)
        async with asyncio.timeout(5):
            assert lines(await subscriber.next())[0].kind == "rates"
        assert asked[0] == 0.0, "rates count from when somebody began to listen"
        assert 0.9 < asked[1] < 3
        bus.unsubscribe(subscriber)
        bus.unsubscribe(subscriber)
        assert isinstance(subscriber, Subscriber)
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert others == []

    asyncio.run(run())
