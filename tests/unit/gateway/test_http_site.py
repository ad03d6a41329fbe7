"""One port in this process, on real sockets and both kinds of connection: what a client can hardly bring about."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from tornado.httpclient import HTTPRequest
from tornado.iostream import StreamClosedError
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

from nbserve.gateway.access import Access
from nbserve.gateway.exchange import IDLE_TIMEOUT_S, LINGER_S, Exchange, Limits
from nbserve.gateway.http import HttpServer, Site

KINDS = ["httptools", "tornado"]
LOOPS = [None, "uvloop"]
SLOW_S = 600.0
"""Long: the tests move the clock."""


class Answer(RequestHandler):
    """Answers as the path says; `ends` gets what became of its reply."""

    def initialize(self, ends: list[str]) -> None:
        self.ends = ends

    async def get(self, how: str) -> None:
        if how == "parts":
            self.write("one,")
            await self.flush()
            self.write("two")
            await self.flush()
        elif how == "204":
            self.set_status(204)
        elif how == "less":
            self.set_header("Content-Length", "10")
            self.write("abc")
        elif how == "endless":
            try:
                while True:
                    self.write(b"x" * 65536)
                    await self.flush()
            except StreamClosedError:
                self.ends.append("closed")
        elif how == "never":
            await asyncio.Event().wait()

    head = get

    def on_connection_close(self) -> None:
        self.ends.append("gone")


class Echo(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(f"you said {message!r}")


class Port:
    """A served site; `exchanges` are those that came to inference, in order."""

    def __init__(self, kind: str, **options: Any) -> None:
        self.exchanges: list[Exchange] = []
        self.arrived = asyncio.Event()
        self.ends: list[str] = []
        self.refused: list[int] = []
        self.stopping = False
        app = Application(
            cast(Any, [(r"/answer/(.+)", Answer, {"ends": self.ends}), ("/echo", Echo)]),
            log_function=lambda handler: None,
        )
        settings: dict[str, Any] = {
            "access": Access(host="127.0.0.1", token="t"),
            "limits": Limits(1_000_000, 8192, SLOW_S),
            "inference": self._take,
            "inference_open": True,
            "app": app,
            "open_paths": frozenset({"/echo", *(f"/answer/{how}" for how in ("parts", "204", "less", "endless"))}),
            "count_refused": self.refused.append,
            "is_stopping": lambda: self.stopping,
        }
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        self.number = listening.getsockname()[1]
        self.server = HttpServer(Site(**settings | options), [listening], cast(Any, kind))

    def _take(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self.arrived.set()

    async def exchange(self) -> Exchange:
        """The next one that comes to inference."""
        await asyncio.wait_for(self.arrived.wait(), 10)
        self.arrived.clear()
        return self.exchanges.pop(0)

    def sweep(self, seconds: float) -> None:
        """Look at the clients as if so much time had passed."""
        for listener in self.server._listeners:
            listener.sweep(time.monotonic() + seconds)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, start: str, *lines: str, body: bytes = b"") -> None:
        head = "\r\n".join([f"{start} HTTP/1.1" if " HTTP/" not in start else start, "Host: localhost", *lines, "", ""])
        self.writer.write(head.encode() + body)

    def predict(self, *lines: str, body: bytes = b"x") -> None:
        self.send("POST /predictions/m", f"Content-Length: {len(body)}", *lines, body=body)

    async def head(self) -> tuple[int, dict[str, str]]:
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        first, *lines = raw.decode().rstrip("\r\n").split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in lines)

    async def reply(self) -> tuple[int, bytes]:
        status, headers = await self.head()
        return status, await self.reader.readexactly(int(headers["Content-Length"]))

    async def rest(self) -> bytes:
        """All that still comes before the end."""
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.wait_for(self.reader.read(-1), 10)
        return b""


@pytest.fixture(params=[(kind, loop) for kind in KINDS for loop in LOOPS], ids=lambda param: f"{param[0]}-{param[1]}")
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[Port], Awaitable[None]]], None]:
    """run(test): with a port, on both loops; everything is closed in the end."""
    kind, loop = request.param

    def run(test: Callable[[Port], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            port = Port(kind, **options)
            try:
                await test(port)
            finally:
                await port.server.close()

        factory = pytest.importorskip("uvloop").new_event_loop if loop else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(main(), 60))

    return run


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


# -- one request, one reply --------------------------------------------------------------------------------------------


def test_a_reply_is_sent_once_and_to_the_right_request(run: Any) -> None:
    async def test(port: Port) -> None:
        async with port.client() as client:
            client.predict("Content-Type: a/b", "X-Request-Id: r1", body=b"abc")
            first = await port.exchange()
            assert (first.head.method, first.head.path, first.head.query) == ("POST", "/predictions/m", "")
            assert (first.head.content_type, first.head.request_id, bytes(first.body)) == ("a/b", "r1", b"abc")
            first.respond(200, "text/plain", memoryview(b"one"), "X-More: m\r\n")
            first.respond(500, "text/plain", b"never seen")
            status, headers = await client.head()
            assert (status, headers) == (200, {"Content-Type": "text/plain", "Content-Length": "3", "X-More": "m"})
            assert await client.reader.readexactly(3) == b"one"
            client.predict()
            second = await port.exchange()
            first.respond(500, "text/plain", b"never seen")
            second.respond(299, "text/plain", b"two")
            assert await client.reply() == (299, b"two")
            assert second.head.request_id is None

    run(test)


def test_who_waits_for_a_reply_is_told_when_the_client_goes(run: Any) -> None:
    async def test(port: Port) -> None:
        async with port.client() as client:
            client.predict()
            exchange = await port.exchange()
            gone: list[int] = []
            exchange.watch(lambda: gone.append(1))
        await until(lambda: gone)
        exchange.respond(200, "text/plain", b"nobody is there")
        assert gone == [1]

    run(test)


def test_nobody_is_told_of_a_client_that_goes_after_the_reply(run: Any) -> None:
    async def test(port: Port) -> None:
        gone: list[int] = []
        async with port.client() as client:
            client.predict()
            exchange = await port.exchange()
            exchange.watch(lambda: gone.append(1))
            exchange.respond(200, "text/plain", b"")
            assert await client.reply() == (200, b"")
        async with port.client() as client:  # the first one's end has been seen by now
            client.predict()
            (await port.exchange()).respond(200, "text/plain", b"")
            await client.reply()
        assert not gone

    run(test)


def test_a_client_that_goes_in_the_middle_of_its_request(run: Any) -> None:
    async def test(port: Port) -> None:
        for sent in (
            b"POST /pred",
            b"POST /predictions/m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
        ):
            async with port.client() as client:
                client.writer.write(sent)
                await client.writer.drain()
        async with port.client() as client:
            client.predict()
            (await port.exchange()).respond(200, "text/plain", b"fine")
            assert await client.reply() == (200, b"fine")
        assert not port.exchanges

    run(test)


def test_what_inference_raises_is_answered(run: Any) -> None:
    def broken(exchange: Exchange) -> None:
        raise RuntimeError("secret")

    async def test(port: Port) -> None:
        async with port.client() as client:
            for _ in range(2):
                client.predict()
                status, body = await client.reply()
                assert status == 500
                assert b"error_id" in body
                assert b"secret" not in body

    run(test, inference=broken)


# -- what the app answers ----------------------------------------------------------------------------------------------


def test_a_reply_of_unknown_length_comes_in_chunks_or_ends_with_the_connection(run: Any) -> None:
    async def test(port: Port) -> None:
        async with port.client() as client:
            client.send("GET /answer/parts")
            status, headers = await client.head()
            assert (status, headers["Transfer-Encoding"]) == (200, "chunked")
            assert await client.reader.readuntil(b"0\r\n\r\n") == b"4\r\none,\r\n3\r\ntwo\r\n0\r\n\r\n"
            client.send("HEAD /answer/parts")
            status, headers = await client.head()
            assert status == 200
            assert "Transfer-Encoding" not in headers
            client.send("GET /answer/204")
            assert (await client.head())[0] == 204
            client.send("GET /answer/parts HTTP/1.0")
            status, headers = await client.head()
            assert "Transfer-Encoding" not in headers
            assert await client.rest() == b"one,two"

    run(test)


def test_a_reply_shorter_than_it_said_does_not_pass_for_whole(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(port: Port) -> None:
        async with port.client() as client:
            client.send("GET /answer/less")
            client.send("GET /answer/204")
            assert len(await client.rest()) < 400

    run(test)


def test_the_app_waits_for_a_reader_and_hears_of_its_end(run: Any) -> None:
    async def test(port: Port) -> None:
        async with port.client() as client:
            client.send("GET /answer/endless")
            await client.head()
            await client.reader.readexactly(1_000_000)
            assert not port.ends
        await until(lambda: port.ends)
        assert set(port.ends) <= {"closed", "gone"}, "which of the two first, and whether both, is tornado's business"

    run(test)


def test_a_websocket_is_tornados(run: Any) -> None:
    """Also after another request on the same connection, and with frames sent at once."""

    async def test(port: Port) -> None:
        headers = {"Host": "localhost", "Origin": "http://localhost"}
        request = HTTPRequest(f"ws://127.0.0.1:{port.number}/echo", headers=headers)
        connection = await asyncio.wait_for(websocket_connect(request), 10)
        for said in ("one", "two"):
            await connection.write_message(said)
            assert await asyncio.wait_for(connection.read_message(), 10) == f"you said {said!r}"
        connection.close()
        async with port.client() as client:
            client.predict()
            key = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"]
            frame = bytes([0x81, 0x83, 0, 0, 0, 0]) + b"abc"
            client.send("GET /echo", *key, body=frame)
            exchange = await port.exchange()
            exchange.respond(200, "text/plain", b"x" * 5_000_000)
            assert await client.reply() == (200, b"x" * 5_000_000)
            assert (await client.head())[0] == 101
            said = b"you said 'abc'"
            assert await client.reader.readexactly(2 + len(said)) == bytes([0x81, len(said)]) + said

    run(test)


def test_a_websocket_needs_what_other_requests_need(run: Any) -> None:
    async def test(port: Port) -> None:
        key = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"]
        for start, lines, status in [
            ("GET /echo", ["Origin: http://evil.example"], 403),
            ("GET /other", [], 401),
            ("GET /other", ["Authorization: Bearer t"], 404),
        ]:
            async with port.client() as client:
                client.send(start, *key, *lines)
                assert (await client.head())[0] == status

    run(test)


# -- what is sent ahead, and not read ----------------------------------------------------------------------------------


def test_what_is_sent_ahead_is_bounded_and_waits_its_turn(run: Any) -> None:
    """A client sends 12 MB of requests while the first one is answered: little of it is taken in; all are answered."""

    async def test(port: Port) -> None:
        count, body = 120, b"y" * 100_000
        async with port.client() as client:
            for number in range(count):
                client.predict(f"X-Request-Id: {number}", body=body)
            first = await port.exchange()
            unsent = client.writer.transport.get_write_buffer_size
            await until(lambda: unsent() > 0)
            before = -1
            while before != unsent():  # until it is stuck
                before = unsent()
                await asyncio.sleep(0.2)
            assert before > 4e6
            assert not port.exchanges, "one at a time"
            first.respond(200, "text/plain", b"0")
            assert await client.reply() == (200, b"0")
            for number in range(1, count):
                exchange = await port.exchange()
                assert exchange.head.request_id == str(number)
                assert len(exchange.body) == len(body)
                exchange.respond(200, "text/plain", str(number).encode())
                assert await client.reply() == (200, str(number).encode())

    run(test)


def test_a_client_that_takes_no_replies_gets_no_further_ones_and_is_cut_off(run: Any) -> None:
    async def test(port: Port) -> None:
        async with port.client() as client:
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(3):
                client.predict()
            (await port.exchange()).respond(200, "text/plain", b"z" * 30_000_000)
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert not port.exchanges, "the next request waits for the reader"
            port.sweep(1.0)
            port.sweep(SLOW_S - 1)
            await asyncio.sleep(0.02)
            port.sweep(SLOW_S + 2)
            client.reader._transport.resume_reading()  # type: ignore[attr-defined]
            assert len(await client.rest()) < 30_000_000

    run(test)


# -- the clock ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent", [b"G", b"GET / HTTP/1.1\r\nX: ", b"POST /predictions/m HTTP/1.1\r\nHost: localhost\r\n"]
)
def test_a_request_that_does_not_arrive(run: Any, sent: bytes) -> None:
    async def test(port: Port) -> None:
        async with port.client() as client:
            client.writer.write(sent)
            await client.writer.drain()
            await asyncio.sleep(0.02)
            port.sweep(SLOW_S - 1)
            client.writer.write(b"")
            port.sweep(SLOW_S + 1)
            status, headers = await client.head()
            assert (status, headers["Connection"]) == (408, "close")
            assert port.refused == [408]
            await client.rest()

    run(test)


def test_who_says_nothing_is_disconnected_and_who_waits_for_an_answer_is_not(run: Any) -> None:
    async def test(port: Port) -> None:
        async with port.client() as silent, port.client() as waiting:
            waiting.predict()
            exchange = await port.exchange()
            port.sweep(IDLE_TIMEOUT_S - 2)
            port.sweep(IDLE_TIMEOUT_S + 5)
            port.sweep(2 * IDLE_TIMEOUT_S + 10)
            assert await silent.rest() == b""
            exchange.respond(200, "text/plain", b"at last")
            assert await waiting.reply() == (200, b"at last")

    run(test)


def test_a_refused_client_that_does_not_go_is_disconnected(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbserve.gateway.tornado_connection.LINGER_S", 0.1)  # there it is a timeout

    async def test(port: Port) -> None:
        async with port.client() as client:
            client.writer.write(b"GET / HTTP/1.1\r\nnonsense\r\n\r\n")
            assert (await client.reply())[0] == 400
            port.sweep(LINGER_S + 1)
            began = time.monotonic()
            while time.monotonic() - began < 10:  # what is sent now meets a reset, soon
                try:
                    client.writer.write(b"more")
                    await client.writer.drain()
                except OSError:
                    break
                await asyncio.sleep(0.01)
            else:
                raise AssertionError("still connected")

    run(test)


# -- the end -----------------------------------------------------------------------------------------------------------


def test_the_last_replies_end_their_connections(run: Any) -> None:
    async def test(port: Port) -> None:
        async with port.client() as client, port.client() as kept:
            kept.predict()
            (await port.exchange()).respond(200, "text/plain", b"")
            assert await kept.reply() == (200, b"")
            client.predict()
            exchange = await port.exchange()
            port.stopping = True
            port.server.stop()
            with pytest.raises(OSError, match=r".*"):
                await asyncio.open_connection("127.0.0.1", port.number)
            kept.predict()
            status, headers = await kept.head()
            assert (status, headers["Connection"]) == (503, "close")
            assert b"shutting down" in await kept.rest()
            exchange.respond(200, "text/plain", b"done")
            assert await client.reply() == (200, b"done")

    run(test)


def test_closing_ends_everything(run: Any) -> None:
    async def test(port: Port) -> None:
        async with port.client() as silent, port.client() as waiting, port.client() as half:
            waiting.predict()
            half.writer.write(b"POST /predictions/m HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
            exchange = await port.exchange()
            gone: list[int] = []
            exchange.watch(lambda: gone.append(1))
            await asyncio.wait_for(port.server.close(), 10)
            for client in (silent, waiting, half):
                assert await client.rest() == b""
            assert gone == [1]

    run(test)


@pytest.mark.parametrize("installed", [True, False])
def test_tornado_serves_where_httptools_is_missing(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "httptools", None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        monkeypatch.delitem(sys.modules, "nbserve.gateway.connection", raising=False)
        monkeypatch.delitem(sys.modules, "nbserve.gateway.request_parser", raising=False)

    async def main() -> None:
        port = Port("auto")
        async with port.client() as client:
            client.predict()
            exchange = await port.exchange()
            assert ("tornado" in type(exchange).__module__) != installed
            exchange.respond(200, "text/plain", b"served")
            assert await client.reply() == (200, b"served")
        await port.server.close()

    asyncio.run(main())


def test_a_server_that_is_stopped_at_once() -> None:
    async def main(kind: str) -> None:
        port = Port(kind)
        port.server.stop()
        await port.server.close()
        with pytest.raises(OSError, match=r".*"):
            await asyncio.open_connection("127.0.0.1", port.number)

    for kind in KINDS:
        asyncio.run(main(kind))
