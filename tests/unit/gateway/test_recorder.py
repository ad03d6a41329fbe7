"""What a recorder keeps, where it stops, and that nothing of a redacted field is in what it writes."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.errors import BadRequest, Conflict, NotFound, UsageError
from nbserve.gateway import recorder as recorder_module
from nbserve.gateway.recorder import OVERHEAD_BYTES, Recorder, Recording, pieces
from nbserve.redaction import redacted
from nbserve.wire.recording import RecordedRequest, RecordingHeader, RecordRequest, read_recording

JSON = "application/json"
PATH = "/predictions/m"


def recording(draw: Callable[[], float] = lambda: 0.5, **asked: Any) -> Recording:
    return Recording("m", RecordRequest(**asked), 100.0, 1_700_000_000.0, draw)


def written(one: Recording) -> tuple[RecordingHeader, list[RecordedRequest], bytes]:
    """The file of a recording: header, requests, bytes."""

    async def read() -> bytes:
        return b"".join([piece async for piece in pieces(one)])

    data = asyncio.run(read())
    header, requests = read_recording(data.splitlines())
    return header, list(requests), data


def test_requests_come_out_as_they_went_in() -> None:
    one = recording()
    bodies = [b"[1, 2]", b"", b"\xff\x00 raw", "grün\n".encode(), b'{"b":  1.50}']
    for number, body in enumerate(bodies):
        assert one.take(PATH, JSON if number else "", body, 100.0 + number / 8)
    one.end("time", 101.0)
    header, requests, _ = written(one)
    assert (header.model, header.seen, header.kept, header.seconds) == ("m", 5, 5, 1.0)
    assert (header.began_at, header.ended) == (1_700_000_000.0, "time")
    assert [request.content for request in requests] == bodies
    assert [request.at_s for request in requests] == [0.0, 0.125, 0.25, 0.375, 0.5]
    assert [request.content_type for request in requests] == ["", JSON, JSON, JSON, JSON]
    assert requests[0].path == PATH


def test_it_ends_with_the_first_request_that_does_not_fit() -> None:
    one = recording(max_bytes=3 * (OVERHEAD_BYTES + 10))
    assert [one.take(PATH, JSON, b"0123456789", 100.0 + n) for n in range(4)] == [True, True, True, False]
    assert (one.seen, len(one.kept), one.body_bytes) == (3, 3, 30)


def test_empty_bodies_take_memory_too() -> None:
    one = recording(max_bytes=100 * OVERHEAD_BYTES)
    taken = list(itertools.takewhile(bool, (one.take(PATH, "", b"", 100.0) for _ in range(1000))))
    assert len(taken) == len(one.kept) == 100


def test_a_sample_is_drawn_request_by_request() -> None:
    draws = iter([0.05, 0.1, 0.099, 0.9])
    one = recording(lambda: next(draws), sample=0.1)
    for number in range(4):
        assert one.take(PATH, JSON, b"%d" % number, 100.0)
    assert [kept.body for kept in one.kept] == [b"0", b"2"]
    assert one.status(103.0).seen == 4


def test_many_pieces_are_one_file() -> None:
    one = recording()
    for number in range(2000):
        one.take(PATH, JSON, b"[%d]" % number, 100.0 + number)
    one.end("stopped", 3000.0)
    _, requests, _ = written(one)
    assert [request.content for request in requests] == [b"[%d]" % number for number in range(2000)]


# -- redaction ---------------------------------------------------------------------------------------------------------


def test_a_redacted_field_keeps_its_kind_and_loses_its_value() -> None:
    body = {"Password": "hunter2", "in": [{"pin": 1234, "ok": 1.5}], "pin": [[1, 2.5], True, None, {"a@b.c": 1}]}
    cleaned = redacted(json.dumps(body).encode(), {"password", "pin"})
    assert cleaned is not None
    expected = {"Password": "REDACTED", "in": [{"pin": 0, "ok": 1.5}], "pin": [[0, 0.0], False, None, {}]}
    assert json.loads(cleaned) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"pin": "hunter2", "pin": "other"}',
        b'{"a": {"pin": "hunter2"}, "a": 1}',
        b'{"p\\u0069n": "hunter2"}',
        b'{"PIN": ["hunter2"]}',
        b'[[[{"x": {"pin": {"hunter2": "hunter2"}}}]]]',
    ],
)
def test_ways_to_hide_a_field(body: bytes) -> None:
    cleaned = redacted(body, {"pin"})
    assert cleaned is not None
    assert b"hunter2" not in cleaned


@pytest.mark.parametrize("body", [b"", b"pin=hunter2", b'{"pin": "hunter2"', b"\xff", b"[" * 100_000, b"NaN"])
def test_what_cannot_be_read_is_withheld(body: bytes) -> None:
    assert redacted(body, {"pin"}) is None
    one = recording(redact=["pin"])
    one.take(PATH, JSON, body, 100.0)
    one.end("time", 101.0)
    _, [request], data = written(one)
    assert (request.content, request.withheld_bytes) == (None, len(body))
    assert b"hunter2" not in data


SECRET = "hunter2hunter2"
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)
_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        | st.dictionaries(st.sampled_from(["secret", "Secret", "SECRET"]), _values, max_size=3)
    ),
)


@given(_plain)
def test_nothing_of_a_redacted_field_is_in_the_file(body: Any) -> None:
    one = recording(redact=["sEcret"])
    one.take(PATH, JSON, json.dumps(body).encode(), 100.0)
    one.end("time", 101.0)
    assert SECRET.encode() not in written(one)[2]


# -- the recorder of a gateway -----------------------------------------------------------------------------------------


def test_off_nothing_is_kept() -> None:
    recorder = Recorder(lambda: 100.0)
    assert not recorder.running, "inference looks no further"
    recorder.take("m", PATH, JSON, b"1", 100.0)
    with pytest.raises(NotFound, match="m is not being recorded"):
        recorder.status("m")


def test_one_recording_of_an_endpoint_at_a_time() -> None:
    async def scenario() -> None:
        recorder = Recorder(lambda: 100.0)
        recorder.start("m", RecordRequest())
        with pytest.raises(Conflict, match="recorded already"):
            recorder.start("m", RecordRequest())
        recorder.start("other", RecordRequest())
        recorder.take("m", PATH, JSON, b"1", 100.0)
        assert (recorder.status("m").kept, recorder.status("other").kept) == (1, 0)
        first = recorder.stop("m")
        assert (first.ended, recorder.stop("m")) == ("stopped", first)
        recorder.take("m", PATH, JSON, b"2", 100.0)
        assert len(first.kept) == 1
        recorder.start("m", RecordRequest())
        assert recorder.status("m").kept == 0, "the one before is forgotten"
        recorder.drop(first)
        assert recorder.status("m").running

    asyncio.run(scenario())


def test_full_is_the_end() -> None:
    async def scenario() -> None:
        recorder = Recorder(lambda: 100.0)
        recorder.start("m", RecordRequest(max_bytes=OVERHEAD_BYTES + 5))
        for _ in range(3):
            recorder.take("m", PATH, JSON, b"12345", 100.0)
        status = recorder.status("m")
        assert (status.running, status.ended, status.kept, status.seen) == (False, "full", 1, 1)
        assert not recorder.running

    asyncio.run(scenario())


def test_it_ends_by_the_clock_and_is_dropped_where_nobody_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "HELD_S", 0.02)

    class Watched(Recorder):
        def drop(self, recording: Recording) -> None:
            super().drop(recording)
            dropped.append(recording.ended)
            done.set()

    dropped: list[str] = []
    done = asyncio.Event()

    async def scenario() -> None:
        recorder = Watched(asyncio.get_running_loop().time)
        recorder.start("m", RecordRequest(seconds=0.02))
        assert recorder.status("m").running
        await asyncio.wait_for(done.wait(), 20)
        assert dropped == ["time"]
        with pytest.raises(NotFound):
            recorder.status("m")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "asked",
    [{"sample": 0.0}, {"sample": 1.1}, {"seconds": 0.0}, {"seconds": 1e9}, {"max_bytes": 0}, {"max_bytes": 10**12}],
)
def test_what_cannot_be_asked(asked: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=next(iter(asked))):
        Recorder().start("m", RecordRequest(**asked))


# -- the file ----------------------------------------------------------------------------------------------------------


def test_other_files_are_refused_by_name_and_line() -> None:
    one = recording()
    one.take(PATH, JSON, b"1", 100.0)
    one.take(PATH, JSON, b"2", 100.0)
    one.end("time", 101.0)
    lines = written(one)[2].splitlines()
    with pytest.raises(UsageError, match="x is no recording"):
        read_recording([], "x")
    with pytest.raises(UsageError, match="x is no recording"):
        read_recording([b"[1]"], "x")
    with pytest.raises(UsageError, match="version 9, not"):
        read_recording([lines[0].replace(b'"version":1', b'"version":9')], "x")
    with pytest.raises(UsageError, match="x is cut off: it has 1 of 2 requests"):
        list(read_recording(lines[:2], "x")[1])
    with pytest.raises(UsageError, match="x, line 3: this is no request"):
        list(read_recording([*lines[:2], lines[2][:-3]], "x")[1])
