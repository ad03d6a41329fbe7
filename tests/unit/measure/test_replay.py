"""A recording sent again: which bodies, when, by how many processes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from nbserve import cli
from nbserve.errors import UsageError
from nbserve.measure.bench import bench
from nbserve.measure.measured import _plans
from nbserve.measure.options import BenchOptions, Body
from nbserve.measure.replay import read_replay, replayed
from nbserve.measure.result import BenchResult
from nbserve.measure.target import foreign
from nbserve.wire.recording import RecordedRequest, RecordingHeader, recorded
from tests.unit.measure.servers import Reply, ok, serving

# asyncio (3.11) leaves the transport of a connection open that was accepted while the tests' own server closes.
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*unclosed:pytest.PytestUnraisableExceptionWarning")

AT_S = [5.0, 5.2, 5.25, 5.25, 5.9]
BODIES = [b'{"n":%d}' % number for number in range(len(AT_S))]


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBSERVE_HOME", str(tmp_path / "home"))


def write(path: Path, requests: list[RecordedRequest]) -> Path:
    header = RecordingHeader(model="m", began_at=0.0, seconds=6.0, sample=1.0, seen=9, kept=len(requests), ended="time")
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in [header, *requests]))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Five requests, the second half of a second in a burst."""
    requests = [
        recorded(at_s, "/predictions/m", "application/json", body, size=len(body))
        for at_s, body in zip(AT_S, BODIES, strict=True)
    ]
    return write(tmp_path / "m.jsonl", requests)


def test_bodies_and_their_moments(file: Path) -> None:
    bodies, offsets_s = read_replay(file)
    assert bodies == tuple(Body(body, "application/json") for body in BODIES)
    assert offsets_s == pytest.approx([0, 0.2, 0.25, 0.25, 0.9])
    assert read_replay(file, 2.0)[1] == pytest.approx([0, 0.1, 0.125, 0.125, 0.45])


def test_withheld_bodies_are_left_out(tmp_path: Path) -> None:
    lost = recorded(0.5, "/predictions/m", "text/plain", None, size=7)
    there = recorded(1.0, "/predictions/m", "", b"x", size=1)
    assert read_replay(write(tmp_path / "a", [lost, there])) == ((Body(b"x", ""),), (0.0,))
    with pytest.raises(UsageError, match="withheld"):
        read_replay(write(tmp_path / "b", [lost]))
    with pytest.raises(UsageError, match="no request came"):
        read_replay(write(tmp_path / "c", []))


def test_files_that_cannot_be_replayed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_replay(tmp_path / "none")
    (tmp_path / "rows.jsonl").write_text("[1]\n")
    with pytest.raises(UsageError, match="is no recording of requests"):
        read_replay(tmp_path / "rows.jsonl")
    with pytest.raises(UsageError, match="--speed"):
        read_replay(tmp_path / "none", 0)


def test_two_processes_share_a_recording(file: Path) -> None:
    bodies, offsets_s = read_replay(file)
    target = replace(foreign("http://127.0.0.1:1/", "", bodies, {}), offsets_s=offsets_s)
    one, two = _plans(2, target, replayed(offsets_s), [], 1.0, 100.0)
    assert [request.rpartition(b"\r\n\r\n")[2] for request in one.requests] == BODIES[::2]
    assert [request.rpartition(b"\r\n\r\n")[2] for request in two.requests] == BODIES[1::2]
    assert one.offsets_s == list(offsets_s[::2])
    assert two.offsets_s == list(offsets_s[1::2])


def test_the_command_sends_each_body_once_not_before_its_time(file: Path, tmp_path: Path) -> None:
    came_s: list[float] = []

    def reply(number: int) -> Reply:
        came_s.append(time.monotonic())
        return Reply(ok())

    out = tmp_path / "result.json"
    with serving(reply) as server:
        began_s = time.monotonic()
        words = ["bench", server.url, "--replay", str(file), "--processes", "1", "--out", str(out)]
        assert cli.run(words) in (0, 1), "1: a starved machine makes the figures invalid"
    result = msgspec.json.decode(out.read_bytes(), type=BenchResult)
    [run] = result.runs
    assert (run.sent, run.errors) == (5, {})
    assert (run.load.arrivals, run.load.warmup_s) == ("recorded", 0.0)
    assert run.load.duration_s == pytest.approx(1.125)
    probe, *replays = server.requests
    assert probe.endswith(BODIES[0])
    assert [request.rpartition(b"\r\n\r\n")[2] for request in replays] == BODIES
    assert all(b"content-type: application/json" in request.lower() for request in replays)
    for at_s, offset_s in zip(came_s[1:], (0, 0.2, 0.25, 0.25, 0.9), strict=True):
        assert at_s - began_s >= offset_s
    assert came_s[4] < came_s[5] - 0.3, "the pause before the last one is kept"


def test_more_requests_than_a_run_has_windows_all_arrive() -> None:
    offsets_s = tuple(number / 500 for number in range(300))
    bodies = tuple(Body(b"%d" % number, "") for number in range(300))
    with serving(lambda number: Reply(ok())) as server:
        result = bench(server.url, BenchOptions(bodies=bodies, offsets_s=offsets_s, processes=2))
    assert (result.runs[0].sent, result.runs[0].errors) == (300, {})
    sent = sorted(int(request.rpartition(b"\r\n\r\n")[2]) for request in server.requests[1:])
    assert sent == list(range(300))


@pytest.mark.parametrize(
    "other", [{"rate": 5.0}, {"concurrency": 2}, {"search": True, "slo": "p99<1s"}, {"against": "1"}]
)
def test_a_replay_is_a_load_of_its_own(other: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--replay"):
        BenchOptions(bodies=(Body(b"", ""),), offsets_s=(0.0,), **other)  # type: ignore[arg-type]


def test_replay_and_data_exclude_each_other(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bench", "http://127.0.0.1:1/", "--replay", str(file), "--data", str(file)]) == 2
    assert "--replay and --data exclude each other" in capsys.readouterr().err
