"""What the gateway answers becomes the right exception; real HTTP over a loopback socket."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore
import msgspec
import pytest

from nbserve import errors
from nbserve.client import Client
from nbserve.wire.management import ErrorBody, Event


class _Answers(BaseHTTPRequestHandler):
    """Answers every request with what the test put on the server, and notes what was asked."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        length = int(self.headers.get("Content-Length") or 0)
        server.asked.append((f"{self.command} {self.path}", dict(self.headers), self.rfile.read(length)))
        self.send_response(server.status)
        for name, value in server.headers_out.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        return


class _Server(ThreadingHTTPServer):
    status = 200
    body = b""
    headers_out: dict[str, str]
    asked: list[tuple[str, dict[str, str], bytes]]


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Answers) as running:
        running.headers_out, running.asked = {}, []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def client(server: _Server) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{server.server_port}", "the-token") as made:
        yield made


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (ErrorBody(404, "NotFound", "no model x"), errors.NotFound),
        (ErrorBody(500, "LoadError", "initialize raised"), errors.LoadError),
        (ErrorBody(409, "ProofError", "differs"), errors.ProofError),
        (ErrorBody(400, "UsageError", "wrong"), errors.UsageError),
        (ErrorBody(507, "OutOfMemoryError", "full"), errors.OutOfMemory),
        (ErrorBody(504, "ResponseTimeout", "slow"), errors.ResponseTimeout),
        (ErrorBody(500, "ZeroDivisionError", "division by zero"), errors.HandlerError),
        (ErrorBody(418, "Teapot", "no"), errors.RequestError),
    ],
)
def test_an_error_body_becomes_its_class(
    server: _Server, client: Client, body: ErrorBody, expected: type[errors.NbserveError]
) -> None:
    body.traceback, body.where, body.stage, body.hint = ["In[3], line 2, in f"], "In[3], line 2", "initialize", "mend"
    server.status, server.body = body.code, msgspec.json.encode(body)
    with pytest.raises(errors.NbserveError) as caught:
        client.predict("x", b"1")
    exc = caught.value
    assert type(exc) is expected
    assert body.message in exc.message
    assert exc.info is not None
    assert (exc.info.traceback, exc.info.where, exc.info.stage) == (body.traceback, body.where, body.stage)
    assert exc.hint == "mend"


def test_a_handler_error_names_the_exception_and_unavailable_says_when_to_come_back(
    server: _Server, client: Client
) -> None:
    server.status, server.body = 500, msgspec.json.encode(ErrorBody(500, "ZeroDivisionError", "division by zero"))
    with pytest.raises(errors.HandlerError, match=r"^ZeroDivisionError: division by zero$"):
        client.predict("x", b"1")
    server.status, server.body = 503, msgspec.json.encode(ErrorBody(503, "Unavailable", "queue full"))
    server.headers_out = {"Retry-After": "2"}
    with pytest.raises(errors.Unavailable) as caught:
        client.predict("x", b"1")
    assert caught.value.retry_after_s == 2.0


def test_something_else_on_the_port_is_said_so(server: _Server, client: Client) -> None:
    server.status, server.body = 502, b"<html>proxy</html>"
    with pytest.raises(errors.NbserveError, match="HTTP 502: <html>proxy"):
        client.status()
    server.status, server.body = 200, b"hello"
    with pytest.raises(errors.GatewayError, match="something else than GatewayStatus"):
        client.status()


def test_requests_carry_the_token_and_quote_the_name(
    server: _Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # left aside
    server.headers_out, server.body = {"Content-Type": "text/plain"}, b"yes"
    assert client.predict("a/b c", b"body", "text/plain", "1") == ("text/plain", b"yes")
    line, headers, body = server.asked[0]
    assert line == "POST /predictions/a%2Fb%20c/1"
    assert headers["Authorization"] == "Bearer the-token"
    assert (headers["Content-Type"], body) == ("text/plain", b"body")
    assert "the-token" not in repr(client)


def test_events_end_with_the_stream(server: _Server, client: Client) -> None:
    sent = [Event(seq=number, at=0.0, kind="log", model="x", text=f"{number}\n") for number in (1, 2)]
    server.body = b"\n".join(msgspec.json.encode(event) for event in sent) + b"\n\n"
    assert list(client.events()) == sent
    server.status, server.body = 401, msgspec.json.encode(ErrorBody(401, "Unauthorized", "no"))
    with pytest.raises(errors.Unauthorized):
        next(client.events())


def test_no_gateway_is_a_gateway_error_that_says_where() -> None:
    with Client("http://127.0.0.1:1", "t") as client:
        for ask in (client.status, lambda: next(client.events()), lambda: client.logs("x")):
            with pytest.raises(errors.GatewayError, match=r"cannot reach the gateway at http://127\.0\.0\.1:1"):
                ask()


@pytest.mark.timeout(30)
def test_ctrl_c_at_the_worst_moment_leaves_the_client_usable(
    server: _Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """httpcore has just taken the lock of its pool, and has not begun the block that gives it back."""
    server.body = b"1"
    lock: Any = httpcore._synchronization.ThreadLock  # type: ignore[attr-defined]
    enter, struck = lock.__enter__, threading.Event()

    def enter_and_strike(self: Any) -> Any:
        entered = enter(self)
        if not struck.is_set():
            struck.set()
            signal.raise_signal(signal.SIGINT)
        return entered

    monkeypatch.setattr(lock, "__enter__", enter_and_strike)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            client.predict("m", b"1", "application/json")
    finally:
        signal.signal(signal.SIGINT, before)
    assert client.predict("m", b"1", "application/json")[1] == b"1"
