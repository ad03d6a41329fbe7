"""Recording at a real gateway under real traffic: kept, bounded, redacted, handed out once, sent again."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nbserve import cli
from nbserve.endpoint import Endpoint
from nbserve.errors import BadRequest, Conflict, NotFound, UsageError
from nbserve.recording import record_requests, take_requests
from nbserve.resolve import Served
from nbserve.wire.recording import RecordedRequest, RecordRequest, read_recording
from tests.unit.gateway.running import Running, make_bundle, running, until

pytestmark = pytest.mark.xdist_group("contract-record")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway that serves `m` and `other`."""
    bundle = make_bundle(tmp_path_factory.mktemp("bundles"))
    with running() as gateway:
        for name in ("m", "other"):
            gateway.client.register(str(bundle), name=name)
        yield gateway


@pytest.fixture
def served(gateway: Running) -> Served:
    return Served(gateway.client, "m")


def requests_of(file: Path) -> list[RecordedRequest]:
    with file.open("rb") as lines:
        return list(read_recording(lines)[1])


def start(gateway: Running, **asked: object) -> None:
    gateway.client.start_recording("m", RecordRequest(**asked))  # type: ignore[arg-type]


def test_what_was_asked_is_in_the_file_and_no_header(gateway: Running, served: Served, tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    gateway.predict("before", "m")
    start(gateway)
    began_s = time.monotonic()
    gateway.predict([1, 2], "m", "X-Api-Key: letmein", "Cookie: letmein")
    gateway.predict("not this", "other")
    raw = gateway.ask("POST /predictions/m/1?key=letmein", b"\xff\x00", "Content-Type: application/octet-stream")
    assert raw.status in (200, 500), "recorded, whatever becomes of it"
    assert gateway.ask("POST /predictions/m", b"{", "Content-Type: application/json").status == 400
    assert gateway.ask("GET /predictions/m").status == 405, "no prediction"
    took_s = time.monotonic() - began_s
    status = take_requests(served, file)
    gateway.predict("after", "m")
    kept = requests_of(file)
    assert [(one.path, one.content_type, one.content) for one in kept] == [
        ("/predictions/m", "application/json", b"[1, 2]"),
        ("/predictions/m/1", "application/octet-stream", b"\xff\x00"),
        ("/predictions/m", "application/json", b"{"),
    ]
    assert 0 <= kept[0].at_s <= kept[1].at_s <= kept[2].at_s <= took_s + 1
    assert (status.kept, status.seen, status.ended, status.body_bytes) == (3, 3, "stopped", 9)
    data = file.read_bytes()
    assert b"letmein" not in data
    assert gateway.token.encode() not in data
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert os.listdir(tmp_path) == ["m.jsonl"]


def test_off_and_taken_nothing_is_there(gateway: Running, served: Served, tmp_path: Path) -> None:
    gateway.predict("nobody asked", "m")
    with pytest.raises(NotFound, match="m is not being recorded"):
        take_requests(served, tmp_path / "m.jsonl")
    assert not os.listdir(tmp_path)
    start(gateway)
    take_requests(served, tmp_path / "m.jsonl")
    assert requests_of(tmp_path / "m.jsonl") == []
    with pytest.raises(NotFound):
        gateway.client.recording("m")


def test_named_fields_are_not_in_the_file(gateway: Running, served: Served, tmp_path: Path) -> None:
    start(gateway, redact=["password", "EMail"])
    for number in range(50):
        who = {"email": f"someone{number}@example.com", "data": number}
        assert gateway.predict({"rows": [who], "Password": f"hunter{number}"}, "m").status == 200
    gateway.ask("POST /predictions/m", b"password=hunter2", "Content-Type: text/plain")
    status = take_requests(served, tmp_path / "m.jsonl")
    data = (tmp_path / "m.jsonl").read_bytes()
    assert (status.kept, status.withheld) == (51, 1)
    assert b"hunter" not in data
    assert b"example.com" not in data
    bodies = [json.loads(one.content) for one in requests_of(tmp_path / "m.jsonl") if one.content is not None]
    assert [body["rows"][0]["data"] for body in bodies] == list(range(50))
    assert bodies[0]["Password"] == "REDACTED"


def test_memory_is_bounded_under_load(gateway: Running, served: Served, tmp_path: Path) -> None:
    """Eight clients send 20 KB each time; 400 KB hold less than twenty of them."""
    start(gateway, max_bytes=400_000)
    with ThreadPoolExecutor(8) as clients:
        statuses = {reply.status for reply in clients.map(lambda n: gateway.predict("x" * 20_000, "m"), range(60))}
    assert statuses == {200}
    status = gateway.client.recording("m")
    assert (status.running, status.ended) == (False, "full")
    assert status.kept == 19
    assert status.body_bytes <= 400_000
    assert take_requests(served, tmp_path / "m.jsonl").kept == 19
    assert len(requests_of(tmp_path / "m.jsonl")) == 19


def test_a_sample_is_about_its_share(gateway: Running, served: Served, tmp_path: Path) -> None:
    start(gateway, sample=0.3)
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda n: gateway.predict(n, "m"), range(400)))
    status = take_requests(served, tmp_path / "m.jsonl")
    assert status.seen == 400
    assert 60 <= status.kept <= 190, "six standard deviations around 120"


def test_the_verb_waits_for_the_end_and_says_what_it_has(gateway: Running, served: Served, tmp_path: Path) -> None:
    said: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            gateway.predict("x", "m")

    with ThreadPoolExecutor(1) as clients:
        asking = clients.submit(ask)
        try:
            file = tmp_path / "m.jsonl"
            status = record_requests(served, RecordRequest(seconds=0.5), file, said.append)
        finally:
            stop.set()
        asking.result()
    assert status.ended == "time"
    assert 0.49 <= status.seconds < 30, "uvloop's timers may be a millisecond early"
    assert status.kept == len(requests_of(file)) > 0
    assert "recording m for 0.5 s" in said[0]


def test_recorded_traffic_comes_again_as_it_came(gateway: Running, tmp_path: Path) -> None:
    """Recorded, replayed into another endpoint that is recorded in turn: the same bodies at the same moments.

    Requests that are a millisecond apart, on two connections, may be read in the other order.
    """
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    start(gateway)
    for number in range(20):
        gateway.predict({"data": number}, "m")
        if number == 9:
            time.sleep(0.3)  # traffic with a pause in it
    take_requests(Served(gateway.client, "m"), first)
    endpoint = Endpoint.find(f"other@{_gateway_id(gateway)}")
    assert endpoint.record(no_wait=True).running
    result = endpoint.bench(replay=first, processes=1)
    assert (result.runs[0].sent, result.runs[0].errors) == (20, {})
    status = endpoint.record(stop=True, out=second)
    assert status.file == str(second)
    old, (probe, *new) = requests_of(first), requests_of(second)
    assert probe.content == old[0].content, "bench asks once before it sends"
    assert {one.content for one in new} == {one.content for one in old}
    assert len(new) == 20
    assert new[10].at_s - new[9].at_s >= 0.1, "the pause is in it, though the one before may be late"
    before = {one.content: one.at_s - old[0].at_s for one in old}
    assert all(one.at_s - new[0].at_s >= before[one.content] - 0.1 for one in new), "none before its time"


def _gateway_id(gateway: Running) -> str:
    return gateway.process.config.id


def test_the_command_line(
    gateway: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"m@{_gateway_id(gateway)}"
    assert cli.run(["record", name, "--no-wait", "--redact", "a, b", "--max-bytes", "1MB", "--sample", "1"]) == 0
    assert "m is being recorded; `nbserve record m --stop`" in capsys.readouterr().out
    assert cli.run(["record", name]) == 1
    assert "being recorded already" in capsys.readouterr().err
    gateway.predict({"a": "secret", "c": 1}, "m")
    assert cli.run(["record", name, "--stop"]) == 0
    assert "m-requests.jsonl: 1 of 1 requests" in capsys.readouterr().out
    assert [one.content for one in requests_of(Path("m-requests.jsonl"))] == [b'{"a":"REDACTED","c":1}']
    assert cli.run(["record", name, "--stop"]) == 3
    assert cli.run(["record", name, "--seconds", "0.2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ended"] == "time"


def test_what_cannot_be_recorded(gateway: Running, served: Served, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        gateway.client.start_recording("nothing", RecordRequest())
    with pytest.raises(BadRequest, match="sample must be above 0"):
        start(gateway, sample=2.0)
    assert gateway.ask("POST /models/m/record", b'{"nonsense": 1}').status == 400
    assert gateway.ask("POST /models/m/record", b"{}", token=False).status == 401
    start(gateway)
    with pytest.raises(Conflict):
        start(gateway)
    with pytest.raises(UsageError, match="cannot be written"):
        take_requests(served, tmp_path / "no" / "such" / "folder")
    assert gateway.client.recording("m").running, "still there for another try"
    assert take_requests(served, tmp_path / "m").kept == 0


def test_a_large_recording_is_handed_out_while_others_are_served(
    gateway: Running, served: Served, tmp_path: Path
) -> None:
    start(gateway, redact=["pin"])
    body = {"pin": 1234, "data": "x" * 5000}
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda n: gateway.predict(body, "m"), range(400)))
        taking = clients.submit(take_requests, served, tmp_path / "m.jsonl")
        statuses = {gateway.predict("x", "other").status for _ in range(20)}
    assert statuses == {200}
    assert taking.result().kept == 400
    until(lambda: gateway.ask("GET /models/m/record").status == 404, "it is forgotten")


def test_who_hangs_up_while_taking_it_can_take_it_again(gateway: Running, served: Served, tmp_path: Path) -> None:
    """More than the sockets between them hold, of which a little is read."""
    start(gateway)
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda n: gateway.predict("x" * 1_000_000, "m"), range(12)))
    with gateway.connect() as connection:
        connection.send(gateway.head("DELETE /models/m/record"))
        assert connection.sock.recv(1000).startswith(b"HTTP/1.1 200")
    assert gateway.client.recording("m").kept == 12
    assert take_requests(served, tmp_path / "m.jsonl").kept == 12
    until(lambda: gateway.ask("GET /models/m/record").status == 404, "it is forgotten")
