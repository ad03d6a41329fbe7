"""HTTP as clients, good and bad, see it: a real gateway with a real worker, over raw sockets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.gateway.running import Connection, Running, make_bundle, running, until

BODY_LIMIT = 100_000
HEADER_LIMIT = 8192
SLOW_S = 0.6


@pytest.fixture(scope="module", params=["httptools", "tornado"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(
        body_limit_bytes=BODY_LIMIT,
        header_limit_bytes=HEADER_LIMIT,
        slow_request_timeout_s=SLOW_S,
        http_connection=request.param,
    ) as gateway:
        gateway.client.register(str(make_bundle(tmp_path_factory.mktemp("bundles"))))
        yield gateway


def assert_alive(gateway: Running) -> None:
    """Other clients are unharmed."""
    assert gateway.predict("still here").json() == {"echo": "still here"}


def predict_head(gateway: Running, *lines: str) -> bytes:
    return gateway.head("POST /predictions/obedient", "Content-Type: application/json", *lines)


# -- what is right -----------------------------------------------------------------------------------------------------


def test_a_prediction(gateway: Running) -> None:
    reply = gateway.predict([1, 2])
    assert reply.status == 200
    assert reply.json() == {"echo": [1, 2]}
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    timing = dict(part.split(";dur=") for part in reply.headers["server-timing"].split(", "))
    assert list(timing) == [
        *("queue", "batch", "decode", "preprocess", "inference", "postprocess", "encode", "transport"),
    ]
    assert all(0 <= float(value) < 10_000 for value in timing.values())
    assert float(timing["transport"]) > 0


def test_the_version_may_be_named(gateway: Running) -> None:
    assert gateway.ask("POST /predictions/obedient/1", b"1", "Content-Type: application/json").json() == {"echo": 1}
    assert gateway.ask("POST /predictions/obedi%65nt", b"1", "Content-Type: application/json").json() == {"echo": 1}


@pytest.mark.parametrize("given", ["abc-123", "f" * 128, "urn:uuid:1/2+3=4@5"])
def test_the_clients_request_id_comes_back(gateway: Running, given: str) -> None:
    assert gateway.predict(1, "obedient", f"X-Request-Id: {given}").headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["a b", "a,b", "f" * 129, "<script>", "\xff"])
def test_a_strange_request_id_is_replaced(gateway: Running, given: str) -> None:
    reply = gateway.predict(1, "obedient", f"X-Request-Id: {given}")
    assert reply.status == 200
    assert reply.headers["x-request-id"] != given


def test_connections_are_kept_through_errors(gateway: Running) -> None:
    with gateway.connect() as connection:
        for _ in range(2):
            for start, body, status in [
                ("POST /predictions/obedient", b"[1]", 200),
                ("POST /predictions/obedient", b"[1", 400),
                ("POST /predictions/obedient", b'{"raise": "x"}', 500),
                ("POST /predictions/nobody", b"1", 404),
                ("POST /nowhere", b"1", 404),
                ("DELETE /predictions/obedient", b"", 405),
                ("PUT /status", b"", 405),
            ]:
                fields = [f"Content-Length: {len(body)}", "Content-Type: application/json"]
                connection.send(gateway.head(start, *fields) + body)
                reply = connection.reply()
                assert reply.status == status, start
                assert reply.headers["content-type"] == "application/json"
                if status != 200:
                    assert {"code", "type", "message"} <= set(reply.json())
                    assert reply.json()["code"] == status
        connection.send(gateway.head("POST /predictions/obedient", "Content-Length: 1", token=False) + b"1")
        assert connection.reply().status == 401


def test_pipelined_requests_are_answered_in_order(gateway: Running) -> None:
    with gateway.connect() as connection:
        connection.send(b"".join(predict_head(gateway, "Content-Length: 1") + b"%d" % i for i in range(5)))
        assert [connection.reply().json()["echo"] for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_body_in_chunks(gateway: Running) -> None:
    with gateway.connect() as connection:
        connection.send(predict_head(gateway, "Transfer-Encoding: chunked"))
        for part in (b"2\r\n[1\r\n", b"1\r\n,\r\n", b"2\r\n2]\r\n", b"0\r\n\r\n"):
            connection.send(part)
        assert connection.reply().json() == {"echo": [1, 2]}


def test_a_hundred_thousand_tiny_chunks(gateway: Running) -> None:
    count = BODY_LIMIT - 2
    with gateway.connect() as connection:
        connection.send(predict_head(gateway, "Transfer-Encoding: chunked"))
        connection.send(b'1\r\n"\r\n' + b"1\r\nx\r\n" * count + b'1\r\n"\r\n0\r\n\r\n')
        assert_alive(gateway)
        reply = connection.reply()
        assert reply.status in (200, 408), "in time, or on a busy machine not"
        assert reply.status == 408 or len(reply.json()["echo"]) == count


def test_expect_continue(gateway: Running) -> None:
    with gateway.connect() as connection:
        connection.send(predict_head(gateway, "Content-Length: 1", "Expect: 100-continue"))
        assert connection.reply().status == 100
        connection.send(b"1")
        assert connection.reply().json() == {"echo": 1}


def test_connection_close_and_http_10_are_honoured(gateway: Running) -> None:
    with gateway.connect() as connection:
        connection.send(predict_head(gateway, "Content-Length: 1", "Connection: close") + b"1")
        assert connection.reply().headers["connection"] == "close"
        assert connection.is_closed()
    with gateway.connect() as connection:
        head = predict_head(gateway, "Content-Length: 1").replace(b"HTTP/1.1", b"HTTP/1.0")
        connection.send(head + b"1")
        assert connection.reply().json() == {"echo": 1}
        assert connection.is_closed()


def test_ping_needs_no_token(gateway: Running) -> None:
    reply = gateway.ask("GET /ping", token=False)
    assert (reply.status, reply.json()) == (200, {"status": "Healthy"})
    assert gateway.ask("HEAD /ping", token=False).status == 200
    assert gateway.ask("POST /ping", token=False).status == 405


def test_the_method_must_be_right(gateway: Running) -> None:
    reply = gateway.ask("GET /predictions/obedient")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    reply = gateway.ask("PATCH /models/obedient")
    assert reply.status == 405
    assert set(reply.headers["allow"].split(", ")) == {"GET", "PUT", "DELETE"}
    assert gateway.ask("BREW /predictions/obedient").status == 405
    assert gateway.ask("HEAD /predictions/obedient").status == 405


# -- who may ask -------------------------------------------------------------------------------------------------------

PROTECTED = [
    "POST /predictions/obedient",
    "POST /predictions/nobody",
    "GET /nowhere",
    "GET /models",
    "POST /models",
    "GET /models/obedient",
    "PUT /models/obedient?workers=2",
    "PUT /models/obedient/1/set-default",
    "DELETE /models/obedient",
    "DELETE /models/obedient/1",
    "GET /status",
    "POST /shutdown",
    "GET /logs/obedient",
    "GET /events",
    "GET /metrics",
]


@pytest.mark.parametrize("start", PROTECTED)
def test_nothing_but_ping_goes_without_the_token(gateway: Running, start: str) -> None:
    missing = gateway.ask(start, token=False)
    assert missing.status == 401
    assert missing.headers["www-authenticate"] == "Bearer"
    for header in (
        "Bearer wrong",
        f"Bearer {gateway.token}x",
        f"Bearer {gateway.token[:-1]}",
        f"Basic {gateway.token}",
        gateway.token,
        "Bearer",
        "Bearer \xff\xfe",
        f"Bearer {gateway.token} {gateway.token}",
    ):
        wrong = gateway.ask(start, b"", f"Authorization: {header}", token=False)
        assert wrong.status == 401
        assert wrong.body == missing.body, "it never says which"


def test_the_token_may_be_given_as_jupyter_does(gateway: Running) -> None:
    assert gateway.ask("GET /status", b"", f"Authorization: token {gateway.token}", token=False).status == 200
    assert gateway.ask("GET /status", b"", f"authorization: bearer {gateway.token}", token=False).status == 200
    assert gateway.ask(f"GET /status?token={gateway.token}", token=False).status == 401, "never in a url"


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "127.8.8.8:80", "[::1]:80", "LOCALHOST"])
def test_hosts_that_are_ours(gateway: Running, host: str) -> None:
    assert gateway.ask("GET /ping", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "[::2]", "localhost@evil"],
)
@pytest.mark.parametrize("start", ["GET /ping", "POST /predictions/obedient", "GET /status"])
def test_other_hosts_are_refused(gateway: Running, host: str, start: str) -> None:
    """A page whose name was made to point at 127.0.0.1 sends its own name."""
    assert gateway.ask(start, host=host).status == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", ""])
@pytest.mark.parametrize("start", ["GET /status", "POST /predictions/obedient", "DELETE /models/obedient"])
def test_pages_of_other_sites_are_refused(gateway: Running, origin: str, start: str) -> None:
    reply = gateway.ask(start, b"", f"Origin: {origin}")
    assert reply.status == 403
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_page_of_its_own_is_let_in(gateway: Running) -> None:
    assert gateway.predict(1, "obedient", f"Origin: http://127.0.0.1:{gateway.port}").status == 200


# -- what is wrong -----------------------------------------------------------------------------------------------------

HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"POST /ping" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
MALFORMED = {
    "no HTTP": b"hello\r\n\r\n",
    "another version": b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n",
    "no colon": b"GET /ping" + HOST + b"nonsense\r\n\r\n",
    "blank before the colon": b"GET /ping" + HOST + b"Content-Length : 1\r\n\r\n1",
    "folded": b"GET /ping" + HOST + b"X: a\r\n b\r\n\r\n",
    "NUL in a value": b"GET /ping" + HOST + b"X: a\0b\r\n\r\n",
    "lengths that differ": b"POST /ping" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "the same length twice": b"POST /ping" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "a list of lengths": b"POST /ping" + HOST + b"Content-Length: 1, 1\r\n\r\na",
    "a negative length": b"POST /ping" + HOST + b"Content-Length: -1\r\n\r\n",
    "a signed length": b"POST /ping" + HOST + b"Content-Length: +1\r\n\r\na",
    "length and chunks": b"POST /ping" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another transfer encoding": b"POST /ping" + HOST + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunked twice": b"POST /ping" + HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk size": CHUNKED + b"xyz\r\n",
    "a signed chunk size": CHUNKED + b"+1\r\na\r\n",
    "a chunk that runs on": CHUNKED + b"1\r\nabc\r\n",
    "an endless chunk size": CHUNKED + b"0" * 500,
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED)
def test_malformed_messages_get_400_and_the_connection_ends(gateway: Running, message: bytes) -> None:
    with gateway.connect() as connection:
        connection.send(message)
        reply = connection.reply()
        assert reply.status == 400
        assert reply.json()["type"] == "BadRequest"
        assert reply.headers["connection"] == "close"
        assert connection.is_closed()
    assert_alive(gateway)


@pytest.mark.parametrize(
    "lines", [[], ["Host: localhost", "Host: localhost"], ["Host: "], ["Host: localhost, evil.example"]]
)
def test_there_must_be_one_host(gateway: Running, lines: list[str]) -> None:
    with gateway.connect() as connection:
        connection.send("\r\n".join(["GET /ping HTTP/1.1", *lines, "", ""]).encode())
        assert connection.reply().status == 400


def test_an_absolute_target_is_not_a_path(gateway: Running) -> None:
    assert gateway.ask("GET http://evil.example/ping").status in (400, 404)
    assert gateway.ask("OPTIONS *").status in (400, 404)


def test_a_body_that_announces_too_much(gateway: Running) -> None:
    for length in (str(BODY_LIMIT + 1), "9" * 30, "9" * 5000):
        with gateway.connect() as connection:
            connection.send(predict_head(gateway, f"Content-Length: {length}") + b"x" * 1000)
            reply = connection.reply()
            assert (reply.status, reply.json()["type"]) == (413, "BodyTooLarge")
            assert connection.is_closed()
    assert_alive(gateway)


def test_a_body_of_exactly_the_limit(gateway: Running) -> None:
    body = b'"' + b"x" * (BODY_LIMIT - 2) + b'"'
    assert gateway.ask("POST /predictions/obedient", body, "Content-Type: application/json").status == 200


def test_chunks_that_add_up_to_too_much(gateway: Running) -> None:
    with gateway.connect() as connection:
        connection.send(predict_head(gateway, "Transfer-Encoding: chunked"))
        chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
        for _ in range(BODY_LIMIT // 10_000 + 1):
            connection.send(chunk)
        assert connection.reply().status == 413
        assert connection.is_closed()
    assert_alive(gateway)


def test_the_reply_reaches_a_client_that_goes_on_sending(gateway: Running) -> None:
    """Closing under it would reset the connection, and the 413 be lost."""
    with gateway.connect() as connection:
        connection.send(predict_head(gateway, "Content-Length: 5000000"))
        connection.send(b"x" * 5_000_000)
        assert connection.reply().status == 413


@pytest.mark.parametrize(
    "flood",
    [b"X-Big: " + b"x" * 100_000, b"".join(b"X-%d: y\r\n" % i for i in range(50_000)), b"x" * 100_000],
    ids=["one big", "many", "no end"],
)
def test_too_many_headers(gateway: Running, flood: bytes) -> None:
    with gateway.connect() as connection:
        connection.send(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n" + flood)
        reply = connection.reply()
        assert (reply.status, reply.json()["type"]) == (431, "HeadersTooLarge")
        assert connection.is_closed()
    assert_alive(gateway)


@pytest.mark.parametrize("part", ["headers", "body", "chunks"])
def test_a_slow_request_ends_with_408(gateway: Running, part: str) -> None:
    starts = {
        "headers": b"GET /ping HTTP/1.1\r\n",
        "body": predict_head(gateway, "Content-Length: 100"),
        "chunks": predict_head(gateway, "Transfer-Encoding: chunked"),
    }
    drops = {"headers": b"X: y\r\n", "body": b"x", "chunks": b"1\r\nx\r\n"}
    with gateway.connect() as connection:
        connection.send(starts[part])
        began = time.monotonic()
        connection.sock.settimeout(0.05)
        reply = None
        while reply is None and time.monotonic() - began < 20:
            connection.send(drops[part])
            try:
                reply = connection.reply()
            except TimeoutError:
                continue
        assert reply is not None
        assert (reply.status, reply.json()["type"]) == (408, "RequestTimeout")
        assert time.monotonic() - began >= SLOW_S
        assert connection.is_closed()
    assert_alive(gateway)


def test_a_slow_answer_is_no_slow_request(gateway: Running) -> None:
    assert gateway.predict({"sleep_s": 2 * SLOW_S}).status == 200


def test_waiting_between_requests_is_no_slow_request(gateway: Running) -> None:
    with gateway.connect() as connection:
        for _ in range(2):
            connection.send(predict_head(gateway, "Content-Length: 1") + b"1")
            assert connection.reply().status == 200
            time.sleep(2 * SLOW_S)


# -- names -------------------------------------------------------------------------------------------------------------

NAMES = [
    "..%2f..%2fetc%2fpasswd",
    "..",
    "%2e%2e",
    ".hidden",
    "a%00b",
    "%00",
    "a%2fb",
    "a%0d%0aX-Evil:%201",
    "m%C3%B6del",
    "%ff%fe",
    "%F0%9F%98%80",
    "a" * 129,
    "a" * 5000,
    "a%20b",
    "a;b",
    "$(id)",
    "%24%7Bx%7D",
    "'%22",
]
NAMED = [
    "POST /predictions/{}",
    "POST /predictions/{}/1",
    "POST /predictions/obedient/{}",
    "GET /models/{}",
    "GET /models/obedient/{}",
    "PUT /models/{}?workers=1",
    "PUT /models/obedient/{}/set-default",
    "DELETE /models/{}",
    "DELETE /models/obedient/{}",
    "GET /logs/{}",
]


@pytest.mark.parametrize("route", NAMED)
def test_names_are_never_paths(gateway: Running, route: str) -> None:
    for name in NAMES:
        reply = gateway.ask(route.format(name))
        assert reply.status in (400, 404), name
        assert reply.headers["content-type"] == "application/json"
        assert "x-evil" not in reply.headers
        assert b"Traceback" not in reply.body
    assert_alive(gateway)


@pytest.mark.parametrize("name", ["a" * 128, "a.b-c_D9", "0"])
def test_names_that_are_fine_are_only_unknown(gateway: Running, name: str) -> None:
    assert gateway.predict(1, name).status == 404


# -- clients that go ---------------------------------------------------------------------------------------------------


def test_a_client_that_hangs_up_is_dropped_from_the_queue(gateway: Running) -> None:
    """Two wait behind a slow one; one hangs up: the worker never sees it."""

    def slow() -> None:
        gateway.predict({"sleep_s": 1.0})

    thread = threading.Thread(target=slow)
    thread.start()
    gone = gateway.connect()
    try:
        until(lambda: gateway.client.model("obedient").workers[0].state == "BUSY", "the slow one is at work")
        body = json.dumps({"print": "nobody waits for this"}).encode()
        gone.send(predict_head(gateway, f"Content-Length: {len(body)}") + body)
        until(lambda: gateway.client.model("obedient").queue_items == 1, "the second waits")
    finally:
        gone.sock.close()
    until(lambda: gateway.client.model("obedient").queue_items == 0, "the second is dropped")
    assert gateway.predict(3).status == 200
    thread.join()
    texts = [event.text for event in gateway.client.logs("obedient")]
    assert not any("nobody waits" in text for text in texts)
    assert b'status="499"' in gateway.ask("GET /metrics").body


def test_many_connections_at_once(gateway: Running) -> None:
    connections: list[Connection] = [gateway.connect() for _ in range(64)]
    try:
        for number, connection in enumerate(connections):
            body = str(number).encode()
            connection.send(predict_head(gateway, f"Content-Length: {len(body)}") + body)
        assert [connection.reply().json()["echo"] for connection in connections] == list(range(64))
    finally:
        for connection in connections:
            connection.sock.close()


def test_only_loopback_listens(gateway: Running) -> None:
    import psutil

    listening = [
        connection.laddr.ip
        for connection in psutil.Process(gateway.process.pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]


def test_no_token_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    with running(log=log, id="deadbeef") as gateway:
        gateway.ask(f"GET /status?token={gateway.token}", token=False)
        gateway.ask("GET /status", b"", f"X-Other: {gateway.token}")
        gateway.ask("GET /models", b"", f"Authorization: Basic {gateway.token}", token=False)
        token = gateway.token
    assert token not in log.read_text()
