"""Whole measurements of URLs, against real servers: what is found, said, kept, and what is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from nbserve import cli
from nbserve.errors import MeasureError, UsageError
from nbserve.measure import history
from nbserve.measure.bench import bench
from nbserve.measure.options import BenchOptions, Body
from nbserve.measure.progress import Progress
from nbserve.measure.result import BenchResult
from nbserve.measure.target import Target, bodies_from_file, body_of_value, foreign, served_at
from tests.unit.measure.servers import Reply, ok, serving, status

# asyncio (3.11) leaves the transport of a connection open that was accepted while the tests' own server closes.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*unclosed:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBSERVE_HOME", str(tmp_path / "home"))


def quick(**changed: Any) -> BenchOptions:
    return BenchOptions(**{"duration_s": 1.0, "warmup_s": 0.1, **changed})


def test_a_url_is_measured_and_the_result_is_whole() -> None:
    said: list[Progress] = []
    with serving(lambda n: Reply(ok("Server-Timing: work;dur=4"), delay_s=0.005)) as server:
        result = bench(server.url, quick(concurrency=4), said.append)
    [run] = result.runs
    assert run.valid, run.invalid
    assert 100 < run.rate <= 800  # four clients, five milliseconds
    assert run.latency_ms["p50"] >= 5
    assert set(run.stages_ms) == {"work", "network"}
    assert run.batch_sizes == {}
    assert run.server_cpu_s_per_1000 is None
    assert sum(window.answered for window in run.windows) == run.answered
    assert result.verdict.startswith(f"{run.rate:.0f} req/s at p99 ")
    assert result.environment["asked"]["method"] == "GET"
    assert result.environment["machine"]["cores"]
    assert said[-1].done == pytest.approx(1, abs=0.5)
    assert said[-1].answered > 0
    assert msgspec.json.decode(msgspec.json.encode(result), type=BenchResult).runs == result.runs


def test_a_starved_client_is_called_invalid() -> None:
    with serving(lambda n: Reply(ok())) as server:
        result = bench(server.url, quick(rate=300_000.0, processes=1, timeout_s=1))
    assert not result.runs[0].valid
    assert result.failed
    assert result.limit == "client"
    assert result.verdict.startswith("INVALID: the load generator was the bottleneck")
    assert "load process" in result.reason


def test_repeats_give_intervals_and_other_arrivals() -> None:
    with serving(lambda n: Reply(ok(), delay_s=0.002)) as server:
        result = bench(server.url, quick(rate=100.0, repeat=3, duration_s=0.5))
    assert len(result.runs) == 3
    assert len({run.load.seed for run in result.runs}) == 3
    assert set(result.interval_percent) == {"rate", "p50", "p99"}
    assert result.interval_method == "3 repeats, Student's t"
    rates = sorted(run.rate for run in result.runs)
    assert result.runs[result.best].rate == rates[1]


def test_a_search_finds_what_a_server_can_do() -> None:
    """One request at a time, ten milliseconds each: a hundred a second, and late before that."""
    lock = threading.Lock()
    free_at_s = 0.0

    def reply(n: int) -> Reply:
        nonlocal free_at_s
        with lock:
            free_at_s = max(free_at_s, time.monotonic()) + 0.01
            return Reply(ok(), delay_s=free_at_s - time.monotonic())

    with serving(reply) as server:
        asked = quick(search=True, slo="p50<100ms", duration_s=0.25, arrivals="constant")
        result = bench(server.url, asked)
    best = result.runs[result.best]
    assert best.met, result.verdict
    assert 20 < best.load.rate <= 115
    assert any(not run.met and run.load.rate > best.load.rate for run in result.runs)
    assert f"{best.load.rate:.0f} req/s meet p50<100ms" in result.verdict
    assert not result.failed


def test_a_search_that_nothing_meets() -> None:
    with serving(lambda n: Reply(ok(), delay_s=0.05)) as server:
        result = bench(server.url, quick(search=True, slo="p50<1ms", duration_s=0.1))
    assert result.failed
    assert result.verdict.startswith("no rate met p50<1ms; one request at a time was tried: ")


def test_measurements_of_the_same_kind_are_compared() -> None:
    with serving(lambda n: Reply(ok(), delay_s=0.005)) as server:
        first = bench(server.url, quick(concurrency=2))
        again = bench(server.url, quick(concurrency=2))
    assert first.comparisons == []
    if again.runs[0].valid and first.runs[0].valid:  # a crowded machine may starve the load
        assert [one.metric for one in again.comparisons] == ["rate", "p50", "p99"]
    intervals = {"rate": 2.0, "p50": 3.0, "p99": 30.0}
    for result, factor in ((first, 1.0), (again, 0.8)):
        run = result.runs[0]
        run.valid, run.rate, run.latency_ms = True, 100 / factor, {"p50": 10 * factor, "p99": 20 * factor}
        result.interval_percent = intervals
        history.keep(result)
    by_metric = {one.metric: one for one in history.compare_with_previous(again)}
    assert (by_metric["rate"].before, by_metric["rate"].after) == (100, 125)
    assert by_metric["rate"].change_percent == pytest.approx(25)
    assert by_metric["rate"].different
    assert by_metric["p50"].change_percent == pytest.approx(-20)
    assert not by_metric["p99"].different
    assert "the run of" in by_metric["rate"].what
    again.environment["asked"]["concurrency"] = 3
    assert history.compare_with_previous(again) == [], "another load"


def test_kept_results_are_bounded_and_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_KEPT_OF_ONE", 3)
    monkeypatch.setattr(history, "_KEPT_OF_ALL", 4)
    with serving(lambda n: Reply(ok(), delay_s=0.005)) as server:
        result = bench(server.url, quick(concurrency=1, duration_s=0.3))
    result.runs[0].valid = True  # whatever the machine was doing
    for turn in range(5):
        for name in ("one", "other/../x"):
            path = history.keep(msgspec.structs.replace(result, name=name, at=1e9 + turn))
            assert path.stat().st_mode & 0o077 == 0
    assert len(list(path.parent.iterdir())) == 4
    newest = history.previous(msgspec.structs.replace(result, name="one", at=1e9 + 4.5))
    assert newest is not None
    assert newest.at == 1e9 + 4
    path.write_bytes(b"{")  # a file that cannot be read is no result
    assert history.previous(msgspec.structs.replace(result, name="other/../x", at=2e9)) is not None


@pytest.mark.parametrize(
    ("answer", "says", "hint"),
    [
        (status(404, "no such page"), "answers 404 X to GET: no such page", "--method"),
        (
            b"HTTP/1.1 301 X\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n",
            "301 X (to /new)",
            "",
        ),
        (b"", "nothing can be measured at", "is the server running"),
    ],
)
def test_what_answers_wrongly_is_not_measured(answer: bytes, says: str, hint: str) -> None:
    with serving(lambda n: Reply(answer)) as server, pytest.raises(MeasureError) as raised:
        bench(server.url, quick())
    assert says in raised.value.message
    assert hint in raised.value.hint
    assert len(server.requests) == 3


def test_an_endpoint_that_refuses_now_and_then_is_measured() -> None:
    with serving(lambda n: Reply(status(503) if n % 2 else ok(), delay_s=0.005)) as server:
        result = bench(server.url, quick(concurrency=4))
    assert result.runs[0].errors["503 Service Unavailable"] > 0
    assert "failed" in result.verdict


def test_nothing_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(MeasureError, match="nothing can be measured"):
            bench(f"http://127.0.0.1:{taken.getsockname()[1]}/", quick())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rate": 1.0, "concurrency": 2}, "exclude each other"),
        ({"search": True}, "--search and --slo belong together"),
        ({"slo": "p99<1ms"}, "--search and --slo belong together"),
        ({"search": True, "slo": "p99<1ms", "repeat": 2}, "--search takes no --repeat"),
        ({"against": "1", "repeat": 2}, "--against takes no"),
        ({"rate": 0.0}, "--rate must be positive, not 0.0"),
        ({"concurrency": -1}, "--concurrency must be positive"),
        ({"duration_s": 0.0}, "--duration must be positive"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        BenchOptions(**options)


def test_against_is_for_endpoints() -> None:
    with pytest.raises(UsageError, match="versions of an endpoint of ours"):
        bench("http://127.0.0.1:1/", quick(against="1"))


def request_of(target: Target) -> list[str]:
    return target.requests[0].decode().split("\r\n")


def test_the_request_that_is_sent() -> None:
    body = Body(b"{}", "application/json")
    target = foreign("http://user@example.com:8080/a%20b?x=1", "", [body], {"X-Key": "k", "Host": "other"})
    first, *headers, empty, sent = request_of(target)
    assert first == "POST /a%20b?x=1 HTTP/1.1"
    assert set(headers) >= {"Host: other", "Content-Length: 2", "Content-Type: application/json", "X-Key: k"}
    assert (empty, sent) == ("", "{}")
    assert request_of(foreign("https://example.com", "", [], {}))[:2] == ["GET / HTTP/1.1", "Host: example.com"]
    assert foreign("https://example.com", "", [], {}).port == 443


@pytest.mark.parametrize("url", ["ftp://host/", "http:///path", "http://host:99999999/"])
def test_urls_that_cannot_be_measured(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL to measure"):
        foreign(url, "", [], {})


def test_headers_cannot_smuggle_requests() -> None:
    with pytest.raises(UsageError, match="does not allow"):
        foreign("http://host/", "GET", [], {"X": "a\r\nEvil: 1"})
    with pytest.raises(UsageError, match="HEAD has no answer"):
        foreign("http://host/", "head", [], {})


def test_bodies_by_suffix(tmp_path: Path) -> None:
    files = {"a.json": b"[\n1]", "b.jsonl": b"[1]\n\n[2]\n", "c.png": b"\x89PNG", "d": b"raw", "e.txt": b"hello"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert bodies_from_file(tmp_path / "a.json") == [Body(b"[\n1]", "application/json")]
    assert bodies_from_file(tmp_path / "b.jsonl") == [
        Body(b"[1]", "application/json"),
        Body(b"[2]", "application/json"),
    ]
    kinds = [bodies_from_file(tmp_path / name)[0].content_type for name in ("c.png", "d", "e.txt")]
    assert kinds == ["image/png", "application/octet-stream", "text/plain"]
    assert bodies_from_file(tmp_path / "d", "x/y")[0].content_type == "x/y"
    (tmp_path / "empty").write_bytes(b"\n")
    for name, says in (("empty", "is empty"), ("missing", "cannot read")):
        with pytest.raises(UsageError, match=says):
            bodies_from_file(tmp_path / name)


def test_bodies_of_values() -> None:
    assert body_of_value({"a": [1, 2]}) == Body(b'{"a":[1,2]}', "application/json")
    assert body_of_value(b"raw") == Body(b"raw", "application/octet-stream")
    with pytest.raises(UsageError, match="--data"):
        body_of_value(object())


def test_a_url_of_ours_is_an_endpoint_of_ours() -> None:
    from nbserve.client import Client

    clients = [Client("http://127.0.0.1:1", "t"), Client("http://127.0.0.1:2", "t")]
    found = served_at("http://127.0.0.1:2/predictions/digits/3", clients)
    assert found is not None
    assert (found.client, found.name, found.version) == (clients[1], "digits", "3")
    assert served_at("http://127.0.0.1:2/metrics", clients) is None
    assert served_at("http://127.0.0.1:3/predictions/digits", clients) is None


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(URL, certificate) of an HTTPS server of the standard library."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    asked = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    asked += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", *asked], check=True, capture_output=True)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://localhost:{server.server_port}/", certificate
        server.shutdown()
        thread.join()


def test_https(tls_server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, certificate = tls_server
    with pytest.raises(MeasureError, match="CERTIFICATE_VERIFY_FAILED"):
        bench(url, quick())
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    result = bench(url, quick(concurrency=1))
    assert result.runs[0].answered > 0
    assert not result.runs[0].errors


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "r.json", tmp_path / "r.html"
    words = ["--duration", "0.3", "--warmup", "0", "--concurrency", "2", "--out", str(out), "--html", str(page)]
    with serving(lambda n: Reply(ok())) as server:
        code = cli.run(["bench", server.url, *words, "--header", "X-Key: k"])
        assert b"X-Key: k\r\n" in server.requests[0]
    result = msgspec.json.decode(out.read_bytes(), type=BenchResult)
    assert code == int(result.failed)
    assert capsys.readouterr().out.startswith(result.verdict[:40])
    assert page.read_text().lower().startswith("<!doctype html>")
    assert json.loads(out.read_bytes())["runs"][0]["load"]["concurrency"] == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--slo", "p99<1ms"], "--search and --slo belong together"),
        (["--search", "--slo", "p99"], "it needs a '<'"),
        (["--header", "nothing"], "'nothing' is not NAME: VALUE"),
        (["--data", "no-such-file"], "cannot read no-such-file"),
        (["--arrivals", "sometimes"], "sometimes"),
    ],
)
def test_wrong_usage_of_the_command(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bench", "http://127.0.0.1:1/", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert says in shown.err


def test_progress_is_shown_on_a_terminal_and_not_in_the_output() -> None:
    here, there = pty.openpty()
    command = [sys.executable, "-m", "nbserve", "bench", "--duration", "1", "--warmup", "0"]
    with serving(lambda n: Reply(ok(), delay_s=0.01)) as server, os.fdopen(here, "rb", buffering=0) as terminal:
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
        process = subprocess.Popen([*command, server.url], stdout=subprocess.PIPE, stderr=there, env=environment)
        os.close(there)
        shown = b"".join(_chunks(terminal))
        out, _ = process.communicate(timeout=30)
    assert b"measuring" in shown
    assert b"answered" in shown
    assert b"req/s at p99" in out
    assert b"measuring" not in out


def _chunks(terminal: Any) -> Iterator[bytes]:
    """What is written to a terminal, until the last process has closed it."""
    with contextlib.suppress(OSError):
        while chunk := terminal.read(4096):
            yield chunk


def test_ctrl_c_ends_the_load() -> None:
    command = [sys.executable, "-m", "nbserve", "bench", "--duration", "100", "--processes", "2"]
    with serving(lambda n: Reply(ok(), delay_s=0.01)) as server:
        with subprocess.Popen([*command, server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            _until(lambda: len(server.requests) > 20)
            load = psutil.Process(process.pid).children()
            assert len(load) == 2
            os.kill(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert b"Traceback" not in out + err
        assert not [one for one in load if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def _until(condition: Any, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
