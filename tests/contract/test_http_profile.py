"""Profiles of live workers at a real gateway: under traffic, of one request, bounded, kept."""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbserve.bundle import Sample
from nbserve.client import Client
from nbserve.config import ModelConfig
from nbserve.errors import BadRequest, Conflict, MeasureError, NotFound, UsageError
from nbserve.measure.profile_result import ProfileResult
from nbserve.profiling import Wanted, make_profile, profile_endpoint
from nbserve.resolve import Served
from nbserve.wire.profile import ProfileRequest, ProfileStatus
from tests.contract.profiled import traffic
from tests.unit.gateway.running import Running, make_bundle, running, until

pytestmark = pytest.mark.xdist_group("contract-profile")

MODEL = """
import os
import torch


class Obedient:
    def initialize(self, context):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))

    def preprocess(self, rows):
        return torch.zeros(len(rows), 16)

    def inference(self, batch):
        return self.model(batch)

    def postprocess(self, outputs):
        return [os.getpid() for _ in outputs]
"""

TOLD = """
import torch
from torch.profiler import ProfilerActivity, tensorboard_trace_handler


class Obedient:
    def __init__(self):
        self.profiler_args = {args}

    def handle(self, data, context):
        return torch.zeros(len(data)).tolist()
"""
"""As TorchServe's handlers are."""

PLAIN = """
import asyncio
import os


class Obedient:
    async def inference(self, rows):
        await asyncio.sleep(0.001)
        return [os.getpid() for row in rows]
"""

SAMPLE = Sample(
    content_type="application/json", body=b"[1]", expected_content_type="application/json", expected_body=b"1"
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serves `model` on two workers, and `plain`, a coroutine handler without torch."""
    folder = tmp_path_factory.mktemp("bundles")
    with running() as gateway:
        two = ModelConfig(workers=2, threads=1, proof="off")
        gateway.client.register(str(make_bundle(folder / "m", source=MODEL, sample=SAMPLE)), name="model", config=two)
        gateway.client.register(str(make_bundle(folder / "p", source=PLAIN, sample=None)), name="plain")
        yield gateway


def over(gateway: Running, name: str) -> ProfileStatus:
    """The last profile, once it is over."""
    until(lambda: gateway.client.profile_status(name).state != "running", "the profile is over", 60)
    return gateway.client.profile_status(name)


def test_a_live_worker_under_real_traffic_while_the_other_serves(gateway: Running, tmp_path: Path) -> None:
    pids = {worker.pid for worker in gateway.client.model("model").workers}
    told: list[str] = []
    with traffic(gateway, "model", clients=4) as answers:
        until(lambda: set(answers) == pids, "both workers answer")
        result = make_profile(
            Served(gateway.client, "model"), Wanted(batches=10, shapes=True, out=tmp_path / "t.json.gz"), told.append
        )
        at = len(answers)
        until(lambda: set(answers[at:]) == pids, "both still answer")
    status = result.status
    assert (status.state, status.batches, status.has_trace, status.error) == ("done", 10, True, "")
    assert told[0].startswith(f"profiling worker {status.worker} of model: 10 batches")
    assert {worker.pid for worker in gateway.client.model("model").workers} == pids, "no restart"
    assert {worker.state for worker in gateway.client.model("model").workers} <= {"READY", "BUSY"}
    calls = {operator.name: operator for operator in result.operators}
    assert calls["batch"].calls == calls["inference"].calls == 10
    assert calls["aten::addmm"].calls == 20
    assert calls["aten::addmm"].shapes[0].startswith("[[")
    trace = result.trace
    assert {(lane.process, lane.thread) for lane in trace.lanes} == {
        ("gateway", "requests"),
        (f"worker {status.worker}", "main"),
    }
    # each profiled batch has its requests at the gateway, in which the worker's time lies
    for number in set(trace.link.tolist()) - {0}:
        mine = trace.link == number
        names = [trace.names[name] for name in trace.name]
        batch = next(i for i in range(len(trace)) if mine[i] and names[i] == "batch")
        sent = [i for i in range(len(trace)) if mine[i] and names[i] == "in worker"]
        assert sent
        for i in sent:
            assert trace.start_us[i] <= trace.start_us[batch] + 50
            assert trace.start_us[batch] <= trace.start_us[i] + trace.duration_us[i]
    events = json.loads(gzip.decompress((tmp_path / "t.json.gz").read_bytes()))["traceEvents"]
    assert {"aten::addmm", "in worker"} <= {event["name"] for event in events}
    assert (tmp_path / "t.json.gz").stat().st_mode & 0o077 == 0
    assert "aten::addmm" in repr(result)
    assert "aten::addmm" in result._repr_html_()


def test_one_request_is_profiled_where_its_header_asks(gateway: Running) -> None:
    with traffic(gateway, "model", clients=2):
        reply = gateway.predict([1], "model", "X-Nbserve-Profile: 1", "X-Request-Id: look/at+this")
        assert reply.status == 200
        status = over(gateway, "model")
    assert (status.id, status.batches, status.request_id) == ("look/at+this", 1, "look/at+this")
    record = gateway.client.profile_record("model", "look/at+this")
    assert "look/at+this" in [request.request_id for request in record.requests]
    assert len(record.worker.batches) == 1
    result = profile_endpoint(Served(gateway.client, "model"), Wanted(), print, show="look/at+this")
    assert isinstance(result, ProfileResult)
    assert "aten::addmm" in {operator.name for operator in result.operators}
    states = until(
        lambda: {worker.state for worker in gateway.client.model("model").workers} == {"READY"},
        "the others are told to stop",
    )
    assert states


def test_without_a_token_nobody_has_requests_profiled(tmp_path: Path) -> None:
    with running(profile="container", host="127.0.0.1", token="", owner_token="mine") as gateway:
        owner = Client(gateway.client.url, "mine", gateway.client.management_url)
        owner.register(str(make_bundle(tmp_path, source=PLAIN, sample=None)), name="m")
        assert gateway.predict([1], "m", "X-Nbserve-Profile: 1").status == 200
        assert owner.profiles("m") == []
        owner.close()


def test_without_torch_the_stages_alone_and_it_says_so(gateway: Running) -> None:
    with traffic(gateway, "plain"):
        result = make_profile(Served(gateway.client, "plain"), Wanted(batches=5), lambda text: None)
    assert not result.status.has_trace
    assert "has not loaded torch" in result.status.note
    assert "stages alone" in repr(result)
    calls = {operator.name: operator.calls for operator in result.operators}
    assert calls["batch"] == calls["inference"] == 5
    with pytest.raises(NotFound, match="has no torch trace"):
        gateway.client.profile_trace("plain")


def test_where_no_request_comes_it_is_said_and_the_sample_offered(gateway: Running) -> None:
    told: list[str] = []
    with pytest.raises(MeasureError, match="no request came") as raised:
        make_profile(Served(gateway.client, "plain"), Wanted(seconds=0.4), told.append)
    assert "--send-sample" in raised.value.hint
    with pytest.raises(UsageError, match="without a sample"):
        make_profile(Served(gateway.client, "plain"), Wanted(send_sample=True), told.append)
    result = make_profile(Served(gateway.client, "model"), Wanted(batches=3, send_sample=True), told.append)
    assert result.status.batches == 3


def test_one_at_a_time_it_can_be_stopped_and_bounds_are_checked(gateway: Running) -> None:
    client, asked = gateway.client, ProfileRequest(seconds=60)
    began = client.start_profile("plain", asked)
    assert (began.state, began.asked_batches) == ("running", 20)
    with pytest.raises(Conflict, match="being profiled already"):
        client.start_profile("plain", asked)
    with pytest.raises(Conflict, match="still goes on"):
        client.profile_record("plain", began.id)
    assert gateway.predict([1], "plain").status == 200
    until(lambda: client.profile_status("plain").batches == 1, "the batch is counted")
    stopped = profile_endpoint(Served(client, "plain"), Wanted(), print, stop=True)
    assert isinstance(stopped, ProfileResult)
    assert stopped.status.batches == 1
    for wrong in (ProfileRequest(batches=0), ProfileRequest(seconds=1e9), ProfileRequest(batches=99_999)):
        with pytest.raises(BadRequest):
            client.start_profile("plain", wrong)
    with pytest.raises(NotFound, match="no worker 7"):
        client.start_profile("plain", ProfileRequest(worker=7))
    with pytest.raises(NotFound):
        client.start_profile("nobody", asked)
    with pytest.raises(NotFound, match="no profile 'x'"):
        client.profile_record("plain", "x")
    assert gateway.ask("POST /models/plain/profile", b"[").status == 400
    with pytest.raises(UsageError):
        profile_endpoint(Served(client, "plain"), Wanted(), print, list_=True, stop=True)


def test_the_last_five_are_kept(gateway: Running) -> None:
    for number in range(7):
        assert gateway.predict([1], "model", "X-Nbserve-Profile: 1", f"X-Request-Id: r{number}").status == 200
        until(lambda number=number: gateway.client.profile_status("model").id == f"r{number}", "it began")  # type: ignore[misc]
        assert over(gateway, "model").state == "done"
    kept = profile_endpoint(Served(gateway.client, "model"), Wanted(), print, list_=True)
    assert isinstance(kept, list)
    assert [one.id for one in kept] == ["r6", "r5", "r4", "r3", "r2"]
    with pytest.raises(NotFound):
        gateway.client.profile_trace("model", "r1")
    traces = {path.name for pid in (gateway.process.pid,) for path in _files(pid)}
    assert len(traces) <= 10, "files of dropped profiles are gone"


def _files(pid: int) -> list[Path]:
    roots = {
        Path(line.split()[-1]).parent for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "nbs-" in line
    }
    return [file for root in roots for file in root.glob("profiles/*")]


def test_a_worker_that_dies_takes_its_profile_along_and_nothing_else(gateway: Running) -> None:
    client = gateway.client
    client.start_profile("plain", ProfileRequest(seconds=60))
    [worker] = client.model("plain").workers
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    status = over(gateway, "plain")
    assert status.state == "failed"
    assert "has gone" in status.error
    assert gateway.predict([1], "plain").status == 200
    with pytest.raises(MeasureError, match="failed"):
        profile_endpoint(Served(client, "plain"), Wanted(), print, show="last")


def test_torchserves_switch_profiles_what_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENABLE_TORCH_PROFILER", "TRUE")
    told = "{'activities': [ProfilerActivity.CPU, ProfilerActivity.CUDA], 'profile_memory': True, 'on_trace_ready': "
    told += f"tensorboard_trace_handler({str(tmp_path / 'tb')!r})}}"
    with running() as gateway:
        gateway.client.register(str(make_bundle(tmp_path / "m", source=MODEL, sample=None)), name="m")
        gateway.client.register(
            str(make_bundle(tmp_path / "t", source=TOLD.format(args=told), sample=None)), name="told"
        )
        bad = TOLD.format(args="{'schedule': None}")
        gateway.client.register(str(make_bundle(tmp_path / "b", source=bad, sample=None)), name="bad")
        with traffic(gateway, "told", clients=1):
            until(lambda: gateway.client.profiles("told"), "it is profiled as its handler says", 60)
        status = gateway.client.profiles("told")[-1]
        assert status.note == "with the handler's profiler_args: activities, profile_memory, on_trace_ready"
        [file, *_] = (tmp_path / "tb").iterdir()
        names = [event["name"] for event in json.loads(file.read_bytes())["traceEvents"]]
        assert "[memory]" in names
        assert "aten::zeros" in names
        with traffic(gateway, "m", clients=1):
            until(lambda: len(gateway.client.profiles("m")) >= 2, "one after the other", 60)
        newest = gateway.client.profiles("m")[0]
        assert newest.has_trace
        assert newest.batches == 10
        until(lambda: any("Self CPU" in event.text for event in gateway.client.logs("m")), "the table is in the log")
        [failed] = gateway.client.profiles("bad")
        assert failed.error.startswith("Obedient.profiler_args: schedule cannot be used")
        assert gateway.predict([1], "bad").status == 200
        assert sum("schedule" in event.text for event in gateway.client.logs("bad")) == 1, (
            "not one line each half second"
        )


@pytest.mark.timeout(600)  # py-spy stops a process for each of its samples
def test_gateway_and_workers_are_sampled_while_they_are_profiled(gateway: Running, tmp_path: Path) -> None:
    wanted = Wanted(batches=50, seconds=3, send_sample=True, system=True, out=tmp_path / "t.json.gz")
    result = make_profile(Served(gateway.client, "model"), wanted, lambda text: None)
    assert result.status.batches
    assert result.system is not None
    assert set(result.system.shares) == {"gateway", "worker 0", "worker 1"}
    assert result.system.missing == {}
    assert result.system.seconds >= 3
    assert result.system.shares["gateway"]["framework"] > 0
    assert any("handler.py" in stack for stack in result.system.folded)
    assert "processes, sampled by py-spy" in repr(result)
    assert result.system_trace is not None
    assert {"gateway", f"worker {result.status.worker}"} <= {lane.process for lane in result.system_trace.lanes}
    assert not any(name.startswith("run (") for name in (operator.name for operator in result.operators))


def test_without_py_spy_the_rest_of_the_profile_is_made(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_there() -> str:
        raise UsageError("--system needs py-spy, which is not installed", hint="pip install py-spy")

    monkeypatch.setattr("nbserve.measure.system_profile.find_py_spy", none_there)
    told: list[str] = []
    result = make_profile(
        Served(gateway.client, "model"), Wanted(batches=3, send_sample=True, system=True), told.append
    )
    assert result.status.batches == 3
    assert result.system is not None
    assert result.system.shares == {}
    assert result.system_trace is None
    assert any("pip install py-spy; the rest of the profile is made all the same" in text for text in told)
    assert "not sampled: gateway, worker 0, worker 1: --system needs py-spy" in repr(result)
