"""The bytes of a request -> its head and body, or the reason to refuse it. No sockets, no clock.

Fed by gateway/connection. llhttp, through httptools, reads heads and chunked bodies, and is strict; a body with a
length is no parser's business and goes into its own buffer. What is stricter here than in llhttp is what tornado's
connection refuses too: two readers that find different ends of a request are how requests are smuggled past a proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import httptools

from nbserve.errors import BadRequest
from nbserve.gateway.exchange import (
    MAX_TARGET_BYTES,
    Head,
    Limits,
    body_too_large,
    fault_in_framing,
    fault_in_head,
    headers_too_large,
    malformed,
    target_too_long,
)

__all__ = ["KnownHeads", "NotForUs", "RequestParser"]

END = b"\r\n\r\n"
"""Of a head, and of a chunked body."""
CARRIAGE_RETURN = 13
MAX_CHUNK_HEAD_BYTES = 66
"""Of a chunk's size line and the line end before it; tornado's limit for the line is 64."""
ROOM_BYTES = 256 * 1024
"""First room for a body: a client makes us hold this, or four times what it has sent."""

MAX_KNOWN, MAX_KNOWN_BYTES = 512, 2048
"""Heads that are kept, and the size of the largest: a megabyte in all."""

_HEAD, _BODY, _CHUNKS = range(3)
"""What is read now."""


class NotForUs(Exception):
    """An upgrade, or a method that llhttp does not know; the request begins at `at` of what was fed."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


class KnownHeads:
    """Heads by their bytes: a client sends the same one again and again, and to read it costs a third of a request.

    Only what was understood and found right is kept, and no chunked ones: their bodies are read by the same parser.
    """

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self.get = self._heads.get

    def whole(self, data: bytes) -> tuple[Head, bytes] | None:
        """Head and body of what was read, where that is one request with a known head, and nothing else."""
        at = data.find(END) + len(END)
        head = self._heads.get(data[:at])
        if head is None or head.length != len(data) - at:
            return None
        return head, data[at:]

    def add(self, raw: bytes, head: Head) -> None:
        """Keep it, unless it is large; all are forgotten when there are too many."""
        if len(raw) <= MAX_KNOWN_BYTES:
            if len(self._heads) >= MAX_KNOWN:
                self._heads.clear()
            self._heads[raw] = head


class RequestParser:
    """Reads one request after another; `restart` goes on to the next. Also httptools' protocol.

    on_head: called with each head that has been read; answers whether the body is wanted (it is read either way).
    known: heads that were read before, by this parser or others of the same limits.
    """

    body: bytes
    is_whole: bool
    """The request has been read to its end."""
    room: memoryview | None
    """Where the rest of the body goes; who writes there says so with `received`."""
    wants_continue: bool
    """The client waits to be told that it may send the body."""

    def __init__(self, limits: Limits, on_head: Callable[[Head], bool], known: KnownHeads) -> None:
        self._limits = limits
        self._on_head = on_head
        self._known = known
        self.restart()

    def restart(self) -> None:
        """On to the next request."""
        self._llhttp: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)  # 0.2 us; no memory
        self._part = _HEAD
        self._fed = 0  # bytes of the head that llhttp has had
        self._pairs: list[tuple[bytes, bytes]] = []
        self._complete = self._keeps_alive = self._expects = False
        self._buffer: bytearray | None = None
        self._target = self.body = b""
        self.is_whole = self.wants_continue = False
        self.room = None

    def close(self) -> None:
        """No more requests."""
        self._llhttp = self._buffer = self.room = None  # llhttp's refers to us

    def feed(self, data: bytes, view: memoryview, at: int, end: int) -> int:
        """Read on from `at`; returns where it stopped: at the request's end, or where more bytes are needed.

        An unfinished head is not used up: it comes again, with more. Raises NbserveError with what to answer on a
        connection that cannot go on, and NotForUs.
        """
        if self._part == _HEAD:
            at = self._feed_head(data, view, at, end)
        while self._part != _HEAD and at < end and not self.is_whole:
            at = self._feed_body(view, at, end) if self._part == _BODY else self._feed_chunks(data, view, at, end)
        return at

    def received(self, count: int) -> None:
        """So many bytes have been written to `room`."""
        assert self.room is not None
        self._left -= count
        if not self._left:
            self._finish()
        elif count == len(self.room):
            self._grow()
        else:
            self.room = self.room[count:]

    # -- head --------------------------------------------------------------------------------------------------------

    def _feed_head(self, data: bytes, view: memoryview, at: int, end: int) -> int:
        stop = data.find(END, at + max(self._fed - 3, 0), end)
        head_end = stop + len(END) if stop >= 0 else end
        if head_end - at > self._limits.header_bytes:
            raise headers_too_large() if b"\r\n" in view[at : at + MAX_TARGET_BYTES].tobytes() else target_too_long()
        if stop >= 0 and not self._fed:
            raw = bytes(view[at:head_end])
            head = self._known.get(raw)
            if head is None:
                return self._read_head(data, view, at, head_end, end, raw)
            self._take(head)
            return self._begin_body(head, view, head_end, end)
        return self._read_head(data, view, at, head_end, end, b"" if stop >= 0 else None)

    def _read_head(self, data: bytes, view: memoryview, at: int, head_end: int, end: int, raw: bytes | None) -> int:
        """By llhttp. raw: the head, where it came in one piece; None = it is not whole yet."""
        assert self._llhttp is not None
        try:
            self._llhttp.feed_data(view[at + self._fed : head_end])
        except (httptools.HttpParserUpgrade, httptools.HttpParserInvalidMethodError):
            raise NotForUs(at) from None
        except httptools.HttpParserError as exc:
            self._explain(exc)
        if raw is None:
            self._fed = head_end - at
            return at
        head = self._head(data, at)
        self._take(head)
        if head.length is None:
            self._begin_chunks()
            return head_end
        if raw:
            self._known.add(raw, head)
        return self._begin_body(head, view, head_end, end)

    def _take(self, head: Head) -> None:
        self._expects = not head.http_10 and head.fields.get(b"expect", b"").lower() == b"100-continue"
        self._wanted = self._on_head(head)

    def _head(self, data: bytes, at: int) -> Head:
        """The head is whole: is it right?"""
        assert self._llhttp is not None
        method, target, pairs = self._llhttp.get_method(), self._target, self._pairs
        fields = dict(pairs)
        if len(fields) < len(pairs):
            fields = _joined(pairs)
        # llhttp is generous with blanks, and knows other protocols
        line_end = at + len(method) + len(target) + (3 if data[at] == CARRIAGE_RETURN else 1)
        version = data[line_end : line_end + 11]
        http_10 = version == b" HTTP/1.0\r\n"
        if not (http_10 or version == b" HTTP/1.1\r\n"):
            raise malformed()
        length, encoding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
        fault = fault_in_head(len(target), len(pairs)) or fault_in_framing(
            None if length is None else length.decode("latin-1"),
            None if encoding is None else encoding.decode("latin-1"),
            http_10=http_10,
            body_limit_bytes=self._limits.body_bytes,
        )
        if fault is not None:
            raise fault

        def field(name: str) -> str | None:
            value = fields.get(name.encode())
            return None if value is None else value.decode("latin-1")

        return Head(
            method.decode("latin-1"),
            target.decode("latin-1"),
            field,
            http_10=http_10,
            keeps_alive=self._keeps_alive,
            length=None if encoding is not None else int(length or b"0"),
            fields=fields,
        )

    # -- body --------------------------------------------------------------------------------------------------------

    def _begin_body(self, head: Head, view: memoryview, at: int, end: int) -> int:
        length = head.length or 0
        if end - at >= length:
            if length and self._wanted:
                self.body = bytes(view[at : at + length])
            self.is_whole = True
            return at + length
        self._part = _BODY
        self._left = length
        self.wants_continue = at == end and self._expects
        if self._wanted:
            self._buffer = bytearray()
            self._grow()
        return at

    def _feed_body(self, view: memoryview, at: int, end: int) -> int:
        """What is there of a body with a length."""
        count = min(self._left, end - at)
        if self.room is None:
            self._left -= count
            self.is_whole = not self._left
        else:
            count = min(count, len(self.room))
            self.room[:count] = view[at : at + count]
            self.received(count)
        return at + count

    def _grow(self) -> None:
        """More room: all of it at once would let a head alone take the memory that its body may need."""
        assert self._buffer is not None
        filled = len(self._buffer)
        buffer = bytearray(min(filled + self._left, max(ROOM_BYTES, 4 * filled)))
        buffer[:filled] = self._buffer
        self._buffer, self.room = buffer, memoryview(buffer)[filled:]

    def _begin_chunks(self) -> None:
        self._part = _CHUNKS
        self._pairs = []  # from here on those of the trailer
        self._buffer = bytearray() if self._wanted else None
        self._size = self._between = 0
        self._tail = b""
        self.wants_continue = self._expects

    def _feed_chunks(self, data: bytes, view: memoryview, at: int, end: int) -> int:
        """Chunks, up to the next END: a chunked body can only end with one, so that llhttp gets no byte of the next
        request. `_tail`, the last of what it has had, may hold the beginning of an END.
        """
        self.wants_continue = False
        seam = (self._tail + view[at : min(at + 3, end)]).find(END)
        if seam >= 0:
            cut = at + seam + len(END) - len(self._tail)
        else:
            stop = data.find(END, at, end)
            cut = stop + len(END) if stop >= 0 else end
        part, size_before = view[at:cut], self._size
        self._tail = (self._tail + part[-3:])[-3:]
        assert self._llhttp is not None
        try:
            self._llhttp.feed_data(part)
        except httptools.HttpParserError as exc:
            self._explain(exc)
        self._between = 0 if self._size > size_before else self._between + len(part)
        if self._size > self._limits.body_bytes:
            raise body_too_large(self._limits.body_bytes)
        if self._pairs:
            raise BadRequest("there must be no trailer after the body")
        if self._complete:
            self._finish()
        elif self._between > MAX_CHUNK_HEAD_BYTES:
            raise malformed()
        return cut

    def _finish(self) -> None:
        if self._buffer is not None:
            # nobody changes it any more: as good as bytes, without another copy
            self.body, self._buffer, self.room = cast(bytes, self._buffer), None, None
        self.is_whole = True

    def _explain(self, exc: httptools.HttpParserError) -> None:
        if str(exc) == "Content-Length overflow":
            raise body_too_large(self._limits.body_bytes) from None
        raise malformed() from None

    # -- httptools' protocol -----------------------------------------------------------------------------------------

    def on_url(self, part: bytes) -> None:
        """A part of the target, mostly all of it."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailer of a chunked body; llhttp leaves the blanks behind it."""
        self._pairs.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head was understood."""
        assert self._llhttp is not None
        self._keeps_alive = self._llhttp.should_keep_alive()

    def on_body(self, part: bytes) -> None:
        """A part of a chunked body."""
        self._size += len(part)
        if self._buffer is not None:
            self._buffer += part

    def on_message_complete(self) -> None:
        """The end of a chunked body, or of a head without a body."""
        self._complete = True


def _joined(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Fields that came more than once as lists (RFC 9110, section 5.3)."""
    joined: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        joined.setdefault(name, []).append(value)
    return {name: b",".join(values) for name, values in joined.items()}
