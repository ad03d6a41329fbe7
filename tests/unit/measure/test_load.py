"""Load processes against real servers that stall, refuse, close, garble: what is counted, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import psutil
import pytest

from nbserve.errors import MeasureError
from nbserve.measure import load
from nbserve.measure.crew import Crew, cores_for_load
from nbserve.measure.load_answers import stages_of
from nbserve.measure.messages import NOT_SENT, Plan, Report
from nbserve.measure.stats import decoded, latencies_ms, merged, percentile_ms
from tests.unit.measure.servers import Reply, Server, ok, serving, status

# asyncio (3.11) leaves the transport of a connection open that was accepted while the tests' own server closes.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*unclosed:pytest.PytestUnraisableExceptionWarning")

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
UNAVAILABLE = status(503, '{"code": 503, "type": "Unavailable", "message": "queue full"}')


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(1) as one:
        yield one


def plan(port: int, **changed: Any) -> Plan:
    """A closed loop of two clients for half a second, unless told otherwise."""
    fields: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "tls": False,
        "server_name": "",
        "requests": [GET],
        "clients": 0 if "rate" in changed else 2,
        "rate": 0.0,
        "arrivals": "constant",
        "seed": 1,
        "share": 0,
        "shares": 1,
        "start_at_s": time.monotonic() + 0.05,
        "warmup_s": 0.0,
        "duration_s": 0.5,
        "window_s": 0.25,
        "timeout_s": 10.0,
        "cores": [],
    }
    return Plan(**(fields | changed))


def run(crew: Crew, port: int, **changed: Any) -> Report:
    [report] = crew.run([plan(port, **changed)], lambda answered, failed: 0.1)
    return report


def answered(report: Report) -> int:
    """All right answers, those after the end too."""
    return sum(window.answered for window in report.windows)


def latencies(report: Report) -> Any:
    return merged(window.histogram for window in report.windows)


def test_a_closed_loop_has_so_many_requests_in_flight_and_no_more(crew: Crew) -> None:
    with serving(lambda n: Reply(ok(), delay_s=0.01)) as server:
        report = run(crew, server.port, clients=3)
    assert server.connections == 3
    assert not report.errors
    assert answered(report) == report.sent == report.due == len(server.requests)
    assert latencies(report).total_count == report.sent
    assert percentile_ms(latencies(report), 0) >= 10
    assert 0 < report.sent <= 3 * 51  # three clients, ten milliseconds each


def test_the_backlog_of_the_warm_up_is_not_carried_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is far too slow: what was due before the measured time does not take the place of what is."""
    monkeypatch.setattr(load, "_MOST_CONNECTIONS", 1)

    async def send() -> Report:
        return await load.Sender(plan(server.port, rate=500.0, warmup_s=0.5), asyncio.get_running_loop()).run()

    with serving(lambda n: Reply(ok(), delay_s=0.02)) as server:
        report = asyncio.run(send())
    assert latencies(report).total_count >= answered(report) - 2 > 0


def test_an_open_loop_sends_by_the_clock(crew: Crew) -> None:
    with serving(lambda n: Reply(ok(), delay_s=0.1)) as server:
        report = run(crew, server.port, rate=100.0)
    assert report.due == report.sent == len(server.requests) == 50
    assert answered(report) == 50
    assert decoded(report.lag).total_count == 50
    assert server.connections > 1, "requests do not wait for each other's answers"


def test_a_stall_of_one_second_shows_in_p99(crew: Crew) -> None:
    """A hundred requests were due while the server stood still; each waited for what was left of the second."""

    def reply(n: int) -> Reply:
        if n == 50:
            time.sleep(1)  # the whole server: it has one thread
        return Reply(ok())

    with serving(reply) as server:
        report = run(crew, server.port, rate=100.0, duration_s=2.0, window_s=0.5)
    found = latencies(report)
    assert found.total_count == 200
    assert percentile_ms(found, 99) > 900
    assert percentile_ms(found, 75) > 250, "every second request, not only the one that was in flight"


def test_latency_counts_from_when_a_request_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection, 50 ms an answer, a request due every 10 ms: the tenth is sent 400 ms late, and that counts."""
    monkeypatch.setattr(load, "_MOST_CONNECTIONS", 1)

    async def send() -> Report:
        return await load.Sender(plan(server.port, rate=100.0), asyncio.get_running_loop()).run()

    with serving(lambda n: Reply(ok(), delay_s=0.05)) as server:
        report = asyncio.run(send())
    found = latencies(report)
    assert server.connections == 1
    assert found.total_count + report.errors["not sent: 1 requests were unanswered"] == report.due == 50
    assert percentile_ms(found, 0) >= 50
    assert percentile_ms(found, 100) >= 40 * (found.total_count - 1)


def test_what_was_due_in_the_warm_up_is_not_measured(crew: Crew) -> None:
    with serving(lambda n: Reply(ok(), delay_s=0.5 if n <= 20 else 0)) as server:
        report = run(crew, server.port, rate=100.0, warmup_s=0.2)
    assert len(server.requests) == 70
    assert report.sent == latencies(report).total_count == 50
    assert answered(report) > 50, "but it was answered in the measured time, and counts for the rate"


def test_every_tenth_answer_is_503(crew: Crew) -> None:
    with serving(lambda n: Reply(UNAVAILABLE if n % 10 == 0 else ok())) as server:
        report = run(crew, server.port, rate=200.0)
    assert report.errors == {"503 Unavailable": 10}
    assert answered(report) == latencies(report).total_count == 90
    assert sum(window.failed for window in report.windows) == 10


def test_an_error_keeps_the_connection(crew: Crew) -> None:
    with serving(lambda n: Reply(UNAVAILABLE if n % 3 == 0 else ok())) as server:
        report = run(crew, server.port, clients=1)
    assert report.errors["503 Unavailable"] == len(server.requests) // 3
    assert server.connections == 1


def test_errors_go_by_status_and_phrase_where_the_body_names_no_type(crew: Crew) -> None:
    answers = [status(404, "nothing here"), status(500, '{"oops": 1}'), status(302), status(418, '{"type": 7}')]
    with serving(lambda n: Reply(answers[n % 4])) as server:
        report = run(crew, server.port, rate=80.0)
    assert report.errors == {
        "404 Not Found": 10,
        "500 Internal Server Error": 10,
        "302 Found": 10,
        "418 I'm a Teapot": 10,
    }


def test_connection_refused(crew: Crew) -> None:
    with socket.socket() as taken:  # bound but not listening: nobody else gets this port
        taken.bind(("127.0.0.1", 0))
        report = run(crew, taken.getsockname()[1])
    assert set(report.errors) == {"connection refused"}
    assert answered(report) == 0
    assert report.errors["connection refused"] <= 2 * (0.5 / 0.05 + 2), "clients wait before they try again"


@pytest.mark.parametrize("headers", ["Connection: close", ""])
def test_a_server_that_closes_after_each_answer(crew: Crew, headers: str) -> None:
    """Said beforehand it costs a connection; unsaid it costs those requests that were sent into the closing."""
    with serving(lambda n: Reply(ok(headers), close=True)) as server:
        report = run(crew, server.port, clients=1)
    assert answered(report) > 3
    assert server.connections >= answered(report)
    assert set(report.errors) <= (set() if headers else {"connection closed", "connection reset"})


def test_a_server_that_closes_without_an_answer(crew: Crew) -> None:
    with serving(lambda n: Reply(b"" if n % 5 == 0 else ok())) as server:
        report = run(crew, server.port, rate=100.0)
    assert sum(report.errors.values()) == 10
    assert set(report.errors) <= {"connection closed", "connection reset"}
    assert answered(report) == 40


def test_late_answers_are_given_up(crew: Crew) -> None:
    with serving(lambda n: Reply(ok(), delay_s=60 if n % 10 == 0 else 0)) as server:
        report = run(crew, server.port, rate=100.0, timeout_s=0.4)
    assert report.errors == {"timeout after 0.4 s": 5}
    assert answered(report) == 45


def test_garbage_is_no_answer(crew: Crew) -> None:
    with serving(lambda n: Reply(b"SSH-2.0-OpenSSH\r\n" if n % 2 else ok())) as server:
        report = run(crew, server.port, rate=40.0)
    assert report.errors == {"malformed answer": 10}
    assert answered(report) == 10


@pytest.mark.parametrize(
    ("data", "close"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n[]", True),  # ends with the connection
        (b"HTTP/1.1 204 No Content\r\n\r\n", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + ok(), False),
    ],
    ids=["chunked", "until-close", "no-content", "after-continue"],
)
def test_forms_of_answers(crew: Crew, data: bytes, close: bool) -> None:
    with serving(lambda n: Reply(data, close=close)) as server:
        report = run(crew, server.port, rate=40.0)
    assert not report.errors
    assert answered(report) == 20


def test_stages_are_read_and_the_rest_is_network(crew: Crew) -> None:
    header = 'Server-Timing: queue;dur=1.5, inference;desc="a, b";dur="2", cache, other;dur=x'
    with serving(lambda n: Reply(ok(header), delay_s=0.005)) as server:
        report = run(crew, server.port, rate=40.0)
    assert len(report.stages) == 20
    assert all(stage["queue"] == 1.5 for stage in report.stages)
    assert all(set(stage) == {"queue", "inference", "network"} for stage in report.stages)
    assert all(stage["network"] >= 1.5 for stage in report.stages)  # 5 ms passed, the header explains 3.5


@pytest.mark.parametrize(
    ("header", "stages"),
    [
        (b",queue;dur=1.25, batch;dur=0", {"queue": 1.25, "batch": 0.0}),
        (b',total;dur="12.5";desc=all', {"total": 12.5}),
        (b',db;desc="a, b; dur=9";dur=3,x ; dur = 4', {"db": 3.0, "x": 4.0}),
        (b",miss, db;desc=x, ;dur=3, a;dur=, b;dur=nan, c;dur=1e999, d;dur=-1", {}),
    ],
)
def test_server_timing(header: bytes, stages: dict[str, float]) -> None:
    assert stages_of(header) == stages


def test_requests_are_sent_in_turn_and_whole(crew: Crew) -> None:
    bodies = [b"x" * size for size in (0, 10, 2_000_000)]
    requests = [b"POST /p HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body) for body in bodies]
    with serving(lambda n: Reply(ok())) as server:
        run(crew, server.port, rate=24.0, requests=requests)
    assert sorted(server.requests) == sorted(requests * 4)


def test_two_processes_are_one_load() -> None:
    with Crew(2) as two, serving(lambda n: Reply(ok(), delay_s=0.01)) as server:
        start_at_s = time.monotonic() + 0.3
        plans = [plan(server.port, clients=c, share=s, shares=2, start_at_s=start_at_s) for s, c in enumerate((1, 2))]
        reports = two.run(plans, lambda answered, failed: 0.1)
        assert server.connections == 3
        assert [report.sent > 0 for report in reports] == [True, True]
        plans = [plan(server.port, clients=c, share=s, shares=2) for s, c in enumerate((0, 1))]
        assert [report.sent > 0 for report in two.run(plans, lambda answered, failed: 0.1)] == [False, True]
        server.requests.clear()
        plans = [plan(server.port, rate=100.0, share=share, shares=2) for share in (0, 1)]
        reports = two.run(plans, lambda answered, failed: 0.1)
    assert [report.due for report in reports] == [25, 25]
    assert len(server.requests) == 50


def test_a_rate_that_nobody_can_send_shows_in_the_lag(crew: Crew) -> None:
    with serving(lambda n: Reply(ok())) as server:
        report = run(crew, server.port, rate=1_000_000.0, timeout_s=1.0)
    assert percentile_ms(decoded(report.lag), 99) > 50
    assert report.due == 500_000
    assert any(what.startswith(NOT_SENT) for what in report.errors)
    assert sum(report.errors.values()) + latencies(report).total_count == report.due, "each is accounted for"


@contextmanager
def burnt(core: int) -> Iterator[None]:
    """Four processes that leave little of a core, once they run."""
    program = f"import os; os.sched_setaffinity(0, [{core}]); os.write(1, b'!')\nwhile True: pass"
    burners = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(4)]
    try:
        for burner in burners:
            assert burner.stdout is not None
            with burner.stdout as told:
                assert told.read(1) == b"!"
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def test_a_client_on_a_burnt_core_is_seen_to_starve(crew: Crew) -> None:
    """It wants to run all the time and gets a part of it; its own CPU time alone would look like leisure."""
    core = max(os.sched_getaffinity(0))
    with serving(lambda n: Reply(ok())) as server, burnt(core):
        report = run(crew, server.port, rate=1_000_000.0, duration_s=1.0, window_s=0.5, cores=[core], timeout_s=1.0)
    assert report.cpu_s < 0.7 * report.wall_s
    assert report.waited_s > 0.3 * report.wall_s


def test_a_process_that_is_killed_is_an_error_that_says_so() -> None:
    with Crew(1) as one, serving(lambda n: Reply(ok(), delay_s=0.02)) as server:
        [pid] = one.pids
        killer = threading.Timer(0.3, lambda: os.kill(pid, 9))
        killer.start()
        with pytest.raises(MeasureError, match="a load process was ended by SIGKILL") as raised:
            run(one, server.port, duration_s=20.0, window_s=2.0)
        killer.join()
    assert "lack of memory" in raised.value.hint


def test_last_words_are_passed_on() -> None:
    with Crew(1) as one, pytest.raises(MeasureError, match=r"ended with exit code 1: .*gaierror"):
        run(one, 1, host="no-such-host.invalid", duration_s=0.1)


def test_load_ends_with_whoever_asked_for_it() -> None:
    """Killed like `kill -9`, so that no code of ours runs: the load process sees its standard input end."""
    program = (
        "import msgspec, sys\nfrom nbserve.measure.crew import Crew\nfrom nbserve.measure.messages import Plan\n"
        "crew = Crew(1)\nprint(*crew.pids, flush=True)\n"
        "crew.run([msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)], lambda answered, failed: 0.1)\n"
    )
    with (
        serving(lambda n: Reply(ok(), delay_s=0.02)) as server,
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent,
    ):
        assert parent.stdin is not None
        assert parent.stdout is not None
        sender = psutil.Process(int(parent.stdout.readline()))
        parent.stdin.write(msgspec.json.encode(plan(server.port, duration_s=100.0, window_s=10.0)))
        parent.stdin.close()
        _until(lambda: len(server.requests) > 5)
        parent.kill()
        parent.wait()
        _until(lambda: not sender.is_running() or sender.status() == psutil.STATUS_ZOMBIE)


def test_leaving_a_crew_in_the_middle_of_a_run_ends_it() -> None:
    def stop(answered: int, failed: int) -> float:
        if server.requests:
            raise KeyboardInterrupt
        return 0.05

    with serving(lambda n: Reply(ok(), delay_s=0.02)) as server:
        two = Crew(2)
        pids = two.pids
        plans = [plan(server.port, duration_s=100.0, window_s=10.0) for _ in pids]
        with pytest.raises(KeyboardInterrupt), two:
            two.run(plans, stop)
        assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_a_load_process_is_light() -> None:
    heavy = {"torch", "numpy", "tornado", "httpx"}
    program = f"import sys, nbserve.measure.load; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("usable", "workers", "cores"),
    [
        (range(2), [0, 1], []),
        (range(2), [0], []),  # the one that is left is the gateway's
        (range(4), [1, 2], [3]),
        (range(16), range(1, 9), [12, 13, 14, 15]),
        ([], [], []),
    ],
)
def test_cores_of_the_load_are_not_the_workers(usable: Any, workers: Any, cores: list[int]) -> None:
    assert cores_for_load(usable, workers) == cores


def _until(condition: Any, timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_the_server_of_these_tests_counts(crew: Crew) -> None:
    """Guards the guards: two requests, two entries."""
    with serving(lambda n: Reply(ok())) as server:
        run(crew, server.port, rate=4.0)
        assert isinstance(server, Server)
        assert server.requests == [GET, GET]
    assert latencies_ms(latencies(run_of_nothing())) == {}


def run_of_nothing() -> Report:
    return Report(due=0, sent=0, errors={}, windows=[], lag="", stages=[], wall_s=1, cpu_s=0, waited_s=0)
