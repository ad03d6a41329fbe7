"""The two kinds of HTTP connection are one to a client: a corpus of requests, good and evil, and what floods bring.

A real gateway with a real worker for each kind, over raw sockets. tests/unit/gateway/test_http_parser.py has the same
corpus on the parser alone, test_http_site.py what only a server in the same process can bring about.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from itertools import pairwise

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.gateway.http_corpus import BODY_LIMIT, CORPUS, HEADER_LIMIT
from tests.unit.gateway.running import Connection, Reply, Running, make_bundle, running, until

CLOSING = {400, 408, 413, 414, 431}
KEPT_400 = {"no host", "no host in HTTP/1.0", "two hosts", "two names of one host"}
"""Refused for what they say, not for how they say it: the connection goes on."""

CHUNKED_JSON = ["Transfer-Encoding: chunked", "Content-Type: application/json"]


@pytest.fixture(scope="module", params=["httptools", "tornado"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Its log must not know of a single error in the end."""
    folder = tmp_path_factory.mktemp("gateway")
    log = folder / "gateway.log"
    with running(
        body_limit_bytes=BODY_LIMIT,
        header_limit_bytes=HEADER_LIMIT,
        slow_request_timeout_s=5.0,
        http_connection=request.param,
        log=log,
    ) as gateway:
        gateway.client.register(str(make_bundle(folder)))
        yield gateway
    assert "ERROR" not in log.read_text()
    assert "Traceback" not in log.read_text()


def kind_of(gateway: Running) -> str:
    return gateway.process.config.http_connection


def expected(gateway: Running, name: str) -> int:
    case = CORPUS[name]
    return case.tornado[0] if case.tornado is not None and kind_of(gateway) == "tornado" else case.status


def goes_on(gateway: Running, name: str) -> bool:
    """Whether the connection can take another request after this one."""
    return name != "HTTP/1.0" and (expected(gateway, name) not in CLOSING or name in KEPT_400 - {"no host in HTTP/1.0"})


def send(connection: Connection, data: bytes) -> None:
    """Send; a gateway that has heard enough may have closed."""
    with contextlib.suppress(ConnectionError):
        connection.send(data)


def replies(connection: Connection, *, head: bool) -> list[Reply]:
    """All replies up to the end of the connection."""
    seen = []
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            seen.append(connection.reply(head=head and not seen))
    return seen


# -- the corpus --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus(gateway: Running, name: str) -> None:
    """Each message has its status. Then another request: answered, or, after a refusal, never even read."""
    message = CORPUS[name].message
    last = gateway.head("GET /status", "Connection: close", token=False)
    with gateway.connect() as connection:
        send(connection, message + last)
        seen = replies(connection, head=message.startswith(b"HEAD"))
    assert seen[0].status == expected(gateway, name)
    assert [reply.status for reply in seen[1:]] == ([401] if goes_on(gateway, name) else [])
    if seen[0].status >= 400:
        assert seen[0].json()["code"] == seen[0].status
        assert seen[0].headers["content-type"] == "application/json"
    if "HTTP/1.0" not in name:  # where no word means the same
        assert seen[-1].headers["connection"] == "close"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(CORPUS)), cuts=st.lists(st.integers(0, 1 << 20), min_size=1, max_size=6))
def test_the_corpus_in_pieces(gateway: Running, name: str, cuts: list[int]) -> None:
    message = CORPUS[name].message
    places = sorted({0, len(message), *(cut % len(message) for cut in cuts)})
    with gateway.connect() as connection:
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in pairwise(places):
            send(connection, message[start:end])
        assert connection.reply(head=message.startswith(b"HEAD")).status == expected(gateway, name)


def test_different_answers_have_reasons() -> None:
    for case in CORPUS.values():
        assert case.tornado is None or (case.tornado[0] != case.status and len(case.tornado[1]) > 20)


# -- many at once ------------------------------------------------------------------------------------------------------


def test_a_thousand_requests_in_one_go(gateway: Running) -> None:
    """Of the gateway, of the worker, of nobody: answered in their order."""
    body = b'{"data": 1}'
    turns = [
        (gateway.head("GET /ping"), 200),
        (gateway.head("POST /predictions/obedient", f"Content-Length: {len(body)}", "Content-Type: a/b") + body, 200),
        (gateway.head("GET /nowhere", f"Content-Length: {len(body)}") + body, 404),
        (gateway.head("POST /predictions/nobody", "Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n\r\n", 404),
        (gateway.head("BREW /ping"), 405),  # from here on, all of it is tornado's
    ]
    turns = turns[:4] * 250 + turns
    with gateway.connect() as connection:
        send(connection, b"".join(message for message, _ in turns))
        assert [connection.reply().status for _ in turns] == [status for _, status in turns]


def test_http_10_may_keep_its_connection(gateway: Running) -> None:
    with gateway.connect() as connection:
        for _ in range(2):
            connection.send(gateway.head("GET /ping", "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"))
            reply = connection.reply()
            assert (reply.status, reply.headers["connection"].lower()) == (200, "keep-alive")
        connection.send(gateway.head("GET /ping").replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert connection.reply().status == 200
        assert connection.is_closed()


def test_nobody_is_asked_to_go_on_with_what_is_too_large(gateway: Running) -> None:
    with gateway.connect() as connection:
        connection.send(
            gateway.head("POST /predictions/obedient", f"Content-Length: {BODY_LIMIT + 1}", "Expect: 100-continue")
        )
        assert connection.reply().status == 413
    with gateway.connect() as connection:
        connection.send(gateway.head("POST /predictions/obedient", *CHUNKED_JSON, "Expect: 100-continue"))
        assert connection.reply().status == 100
        connection.send(b"1\r\n7\r\n0\r\n\r\n")
        assert connection.reply().json() == {"echo": 7}


def test_an_absolute_target_is_served(gateway: Running) -> None:
    target = f"http://127.0.0.1:{gateway.port}/predictions/obedient"
    assert gateway.ask(f"POST {target}", b"1", "Content-Type: application/json").json() == {"echo": 1}


def test_the_stream_of_events_ends_with_its_reader(gateway: Running) -> None:
    with gateway.connect() as connection:
        connection.send(gateway.head("GET /events"))
        until(lambda: b"\r\n\r\n" in connection.sock.recv(65536, socket.MSG_PEEK), "the head is there")
        assert b"transfer-encoding: chunked" in connection.sock.recv(65536).lower()
    assert gateway.ask("GET /ping").status == 200


@pytest.mark.parametrize("may", [True, False])
def test_heads_alone_take_little_memory(may: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """200 clients announce 6.5 MB each and send little of it: not 1.3 GB."""
    with running() as gateway:
        process = psutil.Process(gateway.process.pid)
        before = process.memory_info().rss
        connections = [gateway.connect() for _ in range(200)]
        try:
            for connection in connections:
                connection.send(gateway.head("POST /predictions/m", "Content-Length: 6500000", token=may) + b"x" * 1000)
            until(lambda: len(process.net_connections(kind="tcp")) > 200, "all are there")
            assert gateway.ask("GET /ping").status == 200
            assert process.memory_info().rss - before < 100e6
        finally:
            for connection in connections:
                connection.sock.close()


def test_bodies_of_who_may_not_ask_are_not_kept(gateway: Running) -> None:
    """They are read all the same, and the connection goes on."""
    with gateway.connect() as connection:
        for _ in range(3):
            body = json.dumps("x" * (BODY_LIMIT - 2)).encode()
            head = gateway.head("POST /predictions/obedient", f"Content-Length: {len(body)}", token=False)
            connection.send(head + body)
            assert connection.reply().status == 401
        connection.send(gateway.head("POST /predictions/obedient", "Content-Length: 1") + b"1")
        assert connection.reply().status == 200
