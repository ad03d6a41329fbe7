"""The request parser alone: the corpus, and requests made up at random, torn at any places."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbserve.errors import NbserveError
from nbserve.gateway.exchange import Head, Limits
from nbserve.gateway.request_parser import MAX_KNOWN, ROOM_BYTES, KnownHeads, NotForUs, RequestParser
from tests.unit.gateway.http_corpus import BODY_LIMIT, CORPUS, HEADER_LIMIT

LIMITS = Limits(BODY_LIMIT, HEADER_LIMIT, 1.0)
STALE = b"\n\r\n\r\nGET / HTTP/1.1\r\n\r\n"
"""Lies in the buffer behind what has come: what an earlier read left there."""
REFUSED_BY_THE_PARSER = {400, 413, 414, 431}


def torn(message: bytes, cuts: list[int]) -> list[bytes]:
    """The message in pieces, cut at these places (modulo its length)."""
    places = sorted({0, len(message), *(cut % (len(message) + 1) for cut in cuts)})
    return [message[start:end] for start, end in pairwise(places)]


def read(
    pieces: list[bytes], *, wanted: bool = True, through_room: bool = False, known: KnownHeads | None = None
) -> list[Any]:
    """What a connection would see: requests, then perhaps a status to refuse with or "not for us", and the rest."""
    heads: list[Head] = []

    def on_head(head: Head) -> bool:
        heads.append(head)
        return wanted

    parser = RequestParser(LIMITS, on_head, known or KnownHeads())
    seen: list[Any] = []
    held = b""
    for number, piece in enumerate(pieces):
        if through_room and parser.room is not None:
            count = min(len(parser.room), len(piece))
            parser.room[:count] = piece[:count]
            parser.received(count)
            piece = piece[count:]
        held += piece
        try:
            while held or parser.is_whole:
                data = held + STALE
                used = 0 if parser.is_whole else parser.feed(data, memoryview(data), 0, len(held))
                held = held[used:]
                if not parser.is_whole:
                    break
                seen.append(request(heads.pop(), parser.body))
                assert not heads
                parser.restart()
        except NotForUs as exc:
            return [*seen, "not for us", (held + b"".join(pieces[number + 1 :]))[exc.at :]]
        except NbserveError as exc:
            return [*seen, exc.status]
    return [*seen, held]


def request(head: Head, body: bytes) -> dict[str, Any]:
    names = ("method", "path", "query", "fields", "http_10", "keeps_alive")
    return {name: getattr(head, name) for name in names} | {"body": bytes(body)}


@pytest.mark.parametrize("name", CORPUS)
def test_what_is_refused_is_refused_by_the_parser_unless_it_takes_a_judge(name: str) -> None:
    """The rest comes out as a request, or is left to tornado."""
    case = CORPUS[name]
    first = read([case.message])[0]
    if isinstance(first, int):
        assert first == case.status
    elif case.status in REFUSED_BY_THE_PARSER:
        assert first == "not for us" or "host" in name
    else:
        assert first == "not for us" or read([case.message])[1:] == [b""]


@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(sorted(CORPUS)),
    cuts=st.lists(st.integers(0, 1 << 20), max_size=12),
    wanted=st.booleans(),
    through_room=st.booleans(),
)
def test_it_does_not_matter_in_what_pieces_a_request_comes(
    name: str, cuts: list[int], wanted: bool, through_room: bool
) -> None:
    message = CORPUS[name].message
    assert read(torn(message, cuts), wanted=wanted, through_room=through_room) == read([message], wanted=wanted)


@pytest.mark.parametrize("name", CORPUS)
def test_byte_by_byte(name: str) -> None:
    message = CORPUS[name].message[:3000]
    assert read([message[i : i + 1] for i in range(len(message))]) == read([message])


TOKENS = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12).filter(
    lambda name: name.lower() not in ("content-length", "transfer-encoding", "connection", "upgrade", "te")
)
VALUES = st.binary(max_size=30).map(lambda value: bytes(byte for byte in value if byte > 31 and byte != 127).strip())


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]))
    target = draw(st.text("abc/%20?&=~", max_size=20).map(lambda text: f"/{text}".encode()))
    pairs = draw(
        st.lists(st.tuples(TOKENS.map(str.encode), VALUES), max_size=6, unique_by=lambda pair: pair[0].lower())
    )
    body = draw(st.binary(max_size=200) | st.just(b"\r\n\r\n" * 20))
    lines = [b"%b: %b" % pair for pair in pairs]
    if draw(st.booleans()):
        parts = torn(body, draw(st.lists(st.integers(0, 1000), max_size=5)))
        framing = b"Transfer-Encoding: chunked"
        sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
    else:
        framing, sent = b"Content-Length: %d" % len(body), body
    lines.insert(draw(st.integers(0, len(lines))), framing)
    raw = b"\r\n".join([method.encode() + b" " + target + b" HTTP/1.1", *lines, b"", sent])
    fields = {name.lower(): value for name, value in pairs}
    name, _, value = framing.partition(b": ")
    path, _, query = target.decode().partition("?")
    expected = {"method": method, "path": path, "query": query, "http_10": False, "keeps_alive": True, "body": body}
    return raw, expected | {"fields": fields | {name.lower(): value}}


@settings(max_examples=300, deadline=None)
@given(sent=st.lists(requests(), min_size=1, max_size=5), cuts=st.lists(st.integers(0, 5000), max_size=20))
def test_requests_one_after_another_come_out_as_they_went_in(sent: list[Any], cuts: list[int]) -> None:
    stream = b"".join(raw for raw, _ in sent)
    assert read(torn(stream, cuts)) == [*(expected for _, expected in sent), b""]
    assert read(torn(stream, cuts), through_room=True) == [*(expected for _, expected in sent), b""]


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(CORPUS)),
    place=st.integers(0, 1 << 20),
    change=st.binary(max_size=3),
    removed=st.integers(0, 3),
    cuts=st.lists(st.integers(0, 1 << 20), max_size=5),
)
def test_whatever_comes_is_a_request_a_refusal_or_unfinished(
    name: str, place: int, change: bytes, removed: int, cuts: list[int]
) -> None:
    """Never another exception; what it is may depend on the pieces only where there are two things wrong with it."""
    message = CORPUS[name].message
    place %= len(message) + 1
    message = message[:place] + change + message[place + removed :]
    whole, in_pieces = read([message]), read(torn(message, cuts))
    if in_pieces != whole:
        both = [[one for one in seen if isinstance(one, dict)] for seen in (whole, in_pieces)]
        assert both[0] == both[1]
        assert len(whole) > len(both[0]) or whole[-1] in REFUSED_BY_THE_PARSER
        assert REFUSED_BY_THE_PARSER & {whole[-1], in_pieces[-1]}


def test_a_body_that_is_not_wanted_is_not_kept() -> None:
    message = CORPUS["a body"].message
    parser = RequestParser(LIMITS, lambda _: False, KnownHeads())
    head = message.index(b"abc")
    assert parser.feed(message, memoryview(message), 0, head + 1) == head + 1
    assert parser.room is None
    parser.feed(message, memoryview(message), head + 1, len(message))
    assert parser.is_whole
    assert parser.body == b""


def test_a_body_takes_memory_as_it_comes() -> None:
    """A head alone makes us hold little, whatever length it announces; the body is whole in the end."""
    length = 6_000_000
    parser = RequestParser(Limits(length, HEADER_LIMIT, 1.0), lambda _: True, KnownHeads())
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % length
    assert parser.feed(head, memoryview(head), 0, len(head)) == len(head)
    body, sent = bytes(range(256)) * (length // 256 + 1), 0
    while not parser.is_whole:
        assert parser.room is not None
        assert sent + len(parser.room) <= max(ROOM_BYTES, 4 * sent, sent + 65536)
        count = min(len(parser.room), 65536)
        parser.room[:count] = body[sent : sent + count]
        parser.received(count)
        sent += count
    assert sent == length
    assert parser.body == body[:length]


@pytest.mark.parametrize("name", CORPUS)
def test_a_head_that_is_known_reads_as_it_did(name: str) -> None:
    known, message = KnownHeads(), CORPUS[name].message
    fresh = read([message])
    assert read([message], known=known) == fresh
    assert read([message], known=known) == fresh
    assert read([message[:-1], message[-1:]], known=known) == read([message[:-1], message[-1:]])


@settings(deadline=None)
@given(st.lists(requests(), min_size=1, max_size=3), st.lists(st.integers(0, 2000), max_size=4))
def test_known_heads_change_nothing(made_up: list[tuple[bytes, dict[str, Any]]], cuts: list[int]) -> None:
    known = KnownHeads()
    for _ in range(2):
        stream = b"".join(raw for raw, _ in made_up)
        assert read(torn(stream, cuts), known=known) == read(torn(stream, cuts))


def at_once(known: KnownHeads, message: bytes) -> dict[str, Any] | None:
    """What a connection finds that has read just this."""
    found = known.whole(message)
    return None if found is None else request(*found)


@settings(max_examples=300, deadline=None)
@given(requests(), st.integers(0, 2000), st.binary(min_size=1, max_size=5))
def test_a_whole_request_with_a_known_head_is_found_at_once(
    made_up: tuple[bytes, dict[str, Any]], cut: int, more: bytes
) -> None:
    """And nothing else is: not the first of its kind, nor a part of one, nor one with more behind it."""
    known, (message, expected) = KnownHeads(), made_up
    assert at_once(known, message) is None
    read([message], known=known)
    assert at_once(known, message) == (None if b"transfer-encoding" in expected["fields"] else expected)
    assert at_once(known, message[: cut % len(message)]) is None
    assert at_once(known, message + more) is None


@pytest.mark.parametrize("name", CORPUS)
def test_what_is_found_at_once_is_what_the_parser_reads(name: str) -> None:
    known, message = KnownHeads(), CORPUS[name].message
    seen = read([message], known=known)
    if (found := at_once(known, message)) is not None:
        assert [found, b""] == seen


def test_few_heads_are_kept_and_no_large_ones() -> None:
    known = KnownHeads()
    for number in range(2 * MAX_KNOWN):
        read([b"GET /%d HTTP/1.1\r\n\r\n" % number], known=known)
        assert len(known._heads) <= MAX_KNOWN
    assert known.get(b"GET /%d HTTP/1.1\r\n\r\n" % number) is not None
    large = b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % (b"x" * 2048)
    read([large], known=known)
    assert known.get(large) is None
