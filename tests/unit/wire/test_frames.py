"""Frames: what is packed comes out again, however the bytes are cut; what is no frame is a named error."""

from __future__ import annotations

import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.errors import EndOfFile, ErrorInfo, GarbageFrame, OversizedFrame, ShortRead, UnsupportedVersion
from nbserve.wire.frames import HEADER, Flag, Frame, FrameReader, Kind, decode_meta, encode_meta, pack
from nbserve.wire.messages import AnswerItem, AnswerMeta, RequestItem, Timings
from nbserve.worker.stream import DataStream

frames = st.builds(
    Frame,
    kind=st.sampled_from(Kind),
    flags=st.integers(0, 7).map(Flag),
    batch_id=st.integers(0, 2**64 - 1),
    meta=st.binary(max_size=100),
    bodies=st.lists(st.binary(max_size=50), max_size=8),
    arena_at=st.just(-1),
)


def plain(frame: Frame) -> tuple[object, ...]:
    return (frame.kind, frame.flags, frame.batch_id, bytes(frame.meta), [bytes(body) for body in frame.bodies])


@given(st.lists(frames, max_size=5), st.lists(st.integers(1, 60), min_size=1))
def test_any_frames_survive_any_cut(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(bytes(part) for frame in sent for part in pack(frame))
    reader, got, at, turn = FrameReader(), [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        got += [plain(frame) for frame in reader.feed(stream[at : at + size])]
        at, turn = at + size, turn + 1
    assert got == [plain(frame) for frame in sent]
    with pytest.raises(EndOfFile):
        reader.eof()


@given(frames, st.integers(1, 31))
def test_end_inside_a_frame_is_a_short_read(frame: Frame, keep: int) -> None:
    reader = FrameReader()
    stream = b"".join(bytes(part) for part in pack(frame))
    assert list(reader.feed(stream[: min(keep, len(stream) - 1)])) == []
    with pytest.raises(ShortRead, match="peer closed after"):
        reader.eof()


@given(st.binary(min_size=32, max_size=200).filter(lambda data: data[:2] != b"nb"))
def test_garbage_is_refused_at_the_header(data: bytes) -> None:
    with pytest.raises(GarbageFrame, match="bad magic"):
        list(FrameReader().feed(data))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"version": 2}, UnsupportedVersion),
        ({"kind": 99}, GarbageFrame),
        ({"count": 65_537}, OversizedFrame),
        ({"meta_bytes": 2**31}, OversizedFrame),
        ({"body_bytes": 2**40}, OversizedFrame),
    ],
)
def test_headers_that_break_a_rule(fields: dict[str, int], error: type[Exception]) -> None:
    values = {"version": 1, "kind": 4, "count": 0, "meta_bytes": 0, "body_bytes": 0} | fields
    header = HEADER.pack(
        b"nb", values["version"], values["kind"], 0, 0, 1, values["count"], values["meta_bytes"], values["body_bytes"]
    )
    with pytest.raises(error):
        list(FrameReader().feed(header))


def test_lengths_must_add_up() -> None:
    header = HEADER.pack(b"nb", 1, 4, 0, 0, 1, 2, 0, 6)
    with pytest.raises(GarbageFrame, match="sum to 5"):
        list(FrameReader().feed(header + struct.pack("<2I", 2, 3) + b"abcdef"))


def test_blocking_ends_carry_large_batches() -> None:
    ours, theirs = socket.socketpair()
    frame = Frame(Kind.BATCH, Flag.RETRY, 7, b"m" * 100, [bytes([i % 256]) * 9000 for i in range(1500)])
    with ours, theirs:
        writer = threading.Thread(target=DataStream(ours).write, args=(frame,))
        writer.start()
        reader = DataStream(theirs)
        assert plain(reader.read()) == plain(frame)
        writer.join()
        ours.close()
        with pytest.raises(EndOfFile):
            reader.read()


def test_blocking_reader_names_a_short_read() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(b"".join(bytes(part) for part in pack(Frame(Kind.BATCH, bodies=[b"abc"])))[:-1])
        with pytest.raises(ShortRead):
            DataStream(theirs).read()


@given(st.lists(frames, min_size=1, max_size=5), st.lists(st.integers(1, 60), min_size=1))
def test_the_blocking_reader_survives_any_cut(sent: list[Frame], cuts: list[int]) -> None:
    ours, theirs = socket.socketpair()
    stream = b"".join(bytes(part) for frame in sent for part in pack(frame))

    def write() -> None:
        at, turn = 0, 0
        with ours:
            while at < len(stream):
                size = cuts[turn % len(cuts)]
                ours.sendall(stream[at : at + size])
                at, turn = at + size, turn + 1

    with theirs:
        writer = threading.Thread(target=write)
        writer.start()
        reader = DataStream(theirs)
        assert [plain(reader.read()) for _ in sent] == [plain(frame) for frame in sent]
        assert not reader.holds_frame
        with pytest.raises(EndOfFile):
            reader.read()
        writer.join()


def test_frames_read_ahead_are_held() -> None:
    ours, theirs = socket.socketpair()
    first, second = Frame(Kind.BATCH, bodies=[b"one"]), Frame(Kind.DRAIN)
    with ours, theirs:
        ours.sendall(b"".join(bytes(part) for frame in (first, second) for part in pack(frame)))
        reader = DataStream(theirs)
        assert plain(reader.read()) == plain(first)
        assert reader.holds_frame
        assert plain(reader.read()) == plain(second)
        assert not reader.holds_frame


def test_who_waits_a_while_gets_nothing_or_a_whole_frame() -> None:
    ours, theirs = socket.socketpair()
    frame = Frame(Kind.BATCH, bodies=[b"some", b"bodies"])
    raw = b"".join(bytes(part) for part in pack(frame))
    with ours, theirs:
        reader = DataStream(theirs)
        assert reader.poll(1) is None
        ours.sendall(raw[:40])
        slow = threading.Timer(0.05, ours.sendall, [raw[40:]])  # longer than the patience: one that has begun is read
        slow.start()
        found = reader.poll(1)
        slow.join()
        assert found is not None
        assert plain(found) == plain(frame)
        assert reader.poll(1) is None
        ours.close()
        with pytest.raises(EndOfFile):
            reader.poll(1)


def test_meta_of_another_type_is_garbage() -> None:
    with pytest.raises(GarbageFrame, match="AnswerMeta"):
        decode_meta(encode_meta(["no"]), AnswerMeta)


def test_messages_round_trip() -> None:
    items = [RequestItem("application/json", "r1"), RequestItem("", "r2", "explain", {"a": "b"})]
    assert decode_meta(encode_meta(items), list[RequestItem]) == items
    error = ErrorInfo(type="ValueError", message="no", where="In[1], line 2", traceback=["x"])
    meta = AnswerMeta([AnswerItem(0, "error", 500, "", error)], Timings(1.0, 2.0, 3.0, 4.0, 5.0))
    assert decode_meta(encode_meta(meta), AnswerMeta) == meta
