"""The management API: register, swap, fail, scale, look, remove; a real gateway with real workers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbserve.bundle import Sample
from nbserve.config import ModelConfig
from nbserve.errors import BadRequest, BundleError, Conflict, Forbidden, LoadError, NotFound, ProofError
from nbserve.wire.management import Event, GatewayStatus, ModelStatus
from tests.unit.gateway.running import OBEDIENT, SAMPLE, Running, make_bundle, running, until

BROKEN = OBEDIENT.replace('print("initialize was here", flush=True)', "raise RuntimeError('no such weights')")
SLOW = OBEDIENT.replace('print("initialize was here", flush=True)', "time.sleep(600)")
SECOND = OBEDIENT.replace('{"echo": payload}', '{"echo": payload, "v": 2}')
LATE = OBEDIENT.replace('print("initialize was here", flush=True)', "time.sleep(0.5)")
BATCHY = OBEDIENT.replace("def inference(self, batch):", "def inference(self, batch):\n        time.sleep(0.05)", 1)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with running() as gateway:
        yield gateway


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path)


@pytest.fixture
def name(gateway: Running, request: pytest.FixtureRequest) -> Iterator[str]:
    """A model name of this test; what is served under it is gone afterwards."""
    name = request.node.name[:60].replace("[", "-").rstrip("]").replace("/", "_").replace(" ", "_")
    yield name
    if gateway.ask(f"GET /models/{name}").status == 200:
        gateway.client.unregister(name)


# -- register ----------------------------------------------------------------------------------------------------------


def test_a_registered_model_serves_and_says_what_it_is(gateway: Running, bundle: Path, name: str) -> None:
    status = gateway.client.register(str(bundle), name=name)
    assert status.state == "READY"
    assert (status.name, status.version, status.default) == (name, "1", True)
    assert status.url == f"http://127.0.0.1:{gateway.port}/predictions/{name}"
    assert status.proof["checked"]
    assert set(status.stages_s) >= {"start", "import", "initialize", "proof", "warmup"}
    assert set(status.cost) == {"a_s", "c_s", "margin_s"}
    assert status.requests == {}, "warm-up is not counted"
    assert status.batch_sizes == {}
    (worker,) = status.workers
    assert worker.state == "READY"
    assert worker.pid
    assert gateway.predict([1], name).json() == {"echo": [1]}
    assert gateway.client.model(name).requests == {"2xx": 1}
    assert gateway.client.model(name).batch_sizes == {"1": 1}


def test_query_parameters_do_as_well(gateway: Running, bundle: Path, name: str) -> None:
    reply = gateway.ask(
        f"POST /models?url={bundle}&model_name={name}&batch_size=4&initial_workers=1&response_timeout=9"
    )
    assert reply.status == 200
    status = msgspec.json.decode(reply.body, type=ModelStatus)
    assert (status.config.max_batch_size, status.config.workers, status.config.response_timeout_s) == (4, 1, 9.0)


def test_the_bundles_own_name(gateway: Running, tmp_path: Path) -> None:
    path = make_bundle(tmp_path, "ownname")
    assert gateway.client.register(str(path)).name == "ownname"
    gateway.client.unregister("ownname")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/bundle",
        "https://example.com/m.mar",
        "HTTP://example.com",
        "s3://bucket/key",
        "file:///etc",
        "file:/etc",
        "//host/share",
        "\\\\host\\share",
        "relative/path",
        "../up",
        "",
        "/nowhere/at/all",
        "/etc/passwd",
        "/etc\0/x",
    ],
)
def test_only_local_folders_are_accepted(gateway: Running, url: str) -> None:
    body = json.dumps({"url": url}).encode()
    reply = gateway.ask("POST /models", body)
    assert reply.status == 400
    assert reply.json()["type"] == "BadRequest"
    if "://" in url:
        assert "remote urls are not fetched" in reply.json()["message"] or "absolute" in reply.json()["message"]


def test_a_folder_that_is_no_bundle(gateway: Running, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        gateway.client.register(str(tmp_path), name="empty")


def test_a_bundle_that_was_changed(gateway: Running, bundle: Path) -> None:
    (bundle / "handler.py").write_text("import os")
    with pytest.raises(BundleError, match="changed"):
        gateway.client.register(str(bundle), name="changed")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b"{}",
        b'{"url": 5}',
        b'{"url": "/x", "unknown": 1}',
        b'{"url": "/x", "config": {"workers": 0}}',
        b'{"url": "/x", "config": {"nonsense": 0}}',
        b'{"url": "/x", "synchronous": "perhaps"}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_registrations_that_cannot_be_read(gateway: Running, body: bytes) -> None:
    assert gateway.ask("POST /models", body).status == 400


def test_arguments_that_cannot_be_read(gateway: Running) -> None:
    assert gateway.ask("GET /models?limit=many").status == 400
    assert gateway.ask("GET /models?limit=%ff").status == 400
    assert gateway.ask("POST /models?url=/x&synchronous=perhaps").status == 400
    assert gateway.ask("PUT /models/x").status == 400


def test_a_version_that_is_taken(gateway: Running, bundle: Path, name: str) -> None:
    gateway.client.register(str(bundle), name=name, version="7")
    with pytest.raises(Conflict):
        gateway.client.register(str(bundle), name=name, version="7")


# -- swap --------------------------------------------------------------------------------------------------------------


def test_a_swap_fails_no_request(gateway: Running, tmp_path: Path, name: str) -> None:
    gateway.client.register(str(make_bundle(tmp_path)), name=name)
    answers: list[tuple[int, Any]] = []
    stop = threading.Event()

    def ask() -> None:
        body = b'"x"'
        head = gateway.head(f"POST /predictions/{name}", "Content-Length: 3", "Content-Type: application/json")
        with gateway.connect() as connection:
            while not stop.is_set():
                connection.send(head + body)
                reply = connection.reply()
                answers.append((reply.status, reply.json().get("v", 1)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(answers) > 20, "the first version answers")
        status = gateway.client.register(str(make_bundle(tmp_path, source=SECOND, sample=None)), name=name)
        assert (status.version, status.default) == ("2", True)
        until(lambda: len(gateway.client.models()) >= 1 and answers[-1] == (200, 2), "the second version answers")
        until(lambda: len(versions(gateway, name)) == 1, "the first version is gone")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers} == {1, 2}


def versions(gateway: Running, name: str) -> list[ModelStatus]:
    return [model for model in gateway.client.models() if model.name == name]


@pytest.mark.parametrize("swap", ["rolling", "stop-first"])
def test_other_ways_to_swap(gateway: Running, tmp_path: Path, name: str, swap: Any) -> None:
    config = ModelConfig(workers=2, swap=swap)
    gateway.client.register(str(make_bundle(tmp_path)), name=name, config=config)
    gateway.client.register(str(make_bundle(tmp_path, source=SECOND, sample=None)), name=name, config=config)
    assert gateway.predict(1, name).json() == {"echo": 1, "v": 2}

    def two_ready() -> bool:
        return [[worker.state for worker in one.workers] for one in versions(gateway, name)] == [["READY", "READY"]]

    until(two_ready, "one version with two workers")
    assert any(swap in event.text for event in gateway.client.events(follow=False) if event.model == name)


@pytest.mark.parametrize("swap", ["blue-green", "stop-first"])
def test_a_version_that_fails_leaves_the_old_one_serving(
    gateway: Running, tmp_path: Path, name: str, swap: Any
) -> None:
    gateway.client.register(str(make_bundle(tmp_path)), name=name)
    with pytest.raises(LoadError) as caught:
        gateway.client.register(str(make_bundle(tmp_path, source=BROKEN)), name=name, config=ModelConfig(swap=swap))
    assert caught.value.info is not None
    assert caught.value.info.stage == "initialize"
    assert "no such weights" in caught.value.info.message
    assert any("raise RuntimeError" in line for line in caught.value.info.traceback)
    assert [model.version for model in versions(gateway, name)] == ["1"]
    assert gateway.predict(1, name).json() == {"echo": 1}
    failed = [one for one in gateway.client.events(follow=False) if one.model == name and one.stage == "failed"]
    assert failed[-1].version == "2"
    assert failed[-1].error is not None


def test_an_answer_that_differs_is_not_served(gateway: Running, tmp_path: Path, name: str) -> None:
    sample = msgspec.structs.replace(SAMPLE, expected_body=b'{"echo":"goodbye"}')
    path = make_bundle(tmp_path, sample=sample)
    with pytest.raises(ProofError) as caught:
        gateway.client.register(str(path), name=name)
    assert "hello" in caught.value.message
    assert "goodbye" in caught.value.message
    assert gateway.predict(1, name).status == 404
    status = gateway.client.register(str(path), name=name, config=ModelConfig(proof="off"))
    assert not status.proof["checked"]


def test_a_handler_that_fails_on_the_sample_only_in_the_worker(gateway: Running, tmp_path: Path, name: str) -> None:
    sample = Sample(
        content_type="application/json",
        body=b'{"raise": "only here"}',
        expected_content_type="application/json",
        expected_body=b"1",
    )
    with pytest.raises(ProofError) as caught:
        gateway.client.register(str(make_bundle(tmp_path, sample=sample)), name=name)
    assert "only here" in caught.value.message
    assert caught.value.info is not None
    assert caught.value.info.where.startswith("handler.py")


def test_a_failed_load_that_nobody_waits_for_stays_to_be_seen(gateway: Running, tmp_path: Path, name: str) -> None:
    begun = gateway.client.register(str(make_bundle(tmp_path, source=BROKEN)), name=name, synchronous=False)
    assert begun.state == "LOADING"
    until(lambda: gateway.client.model(name, begun.version).state == "FAILED", "it has failed")
    failed = gateway.client.model(name, begun.version)
    assert failed.error is not None
    assert "no such weights" in failed.error.message
    reply = gateway.predict(1, name)
    assert reply.status == 503
    assert reply.headers["retry-after"]
    gateway.client.unregister(name, begun.version)
    assert gateway.predict(1, name).status == 404


def test_delete_aborts_a_load(gateway: Running, tmp_path: Path, name: str) -> None:
    """What Ctrl-C in the notebook does: what was there before goes on."""
    gateway.client.register(str(make_bundle(tmp_path)), name=name)
    hanging = make_bundle(tmp_path, source=SLOW)
    outcome: list[BaseException] = []

    def register() -> None:
        try:
            gateway.client.register(str(hanging), name=name)
        except Exception as exc:
            outcome.append(exc)

    thread = threading.Thread(target=register)
    thread.start()
    until(lambda: len(versions(gateway, name)) == 2, "the second version loads")
    began = time.monotonic()
    gateway.client.unregister(name, "2")
    assert time.monotonic() - began < 25, "not when it would have loaded"
    thread.join()
    assert isinstance(outcome[0], Conflict)
    assert "aborted" in str(outcome[0])
    assert [model.version for model in versions(gateway, name)] == ["1"]
    assert gateway.predict(1, name).status == 200


def test_versions_side_by_side(gateway: Running, tmp_path: Path, name: str) -> None:
    gateway.client.register(str(make_bundle(tmp_path)), name=name, version="a")
    gateway.client.register(str(make_bundle(tmp_path, source=SECOND, sample=None)), name=name, version="b")
    assert gateway.predict(1, name).json() == {"echo": 1}
    assert gateway.predict(1, f"{name}/b").json() == {"echo": 1, "v": 2}
    with pytest.raises(Conflict, match="default"):
        gateway.client.unregister(name, "a")
    assert gateway.client.set_default(name, "b").default
    assert gateway.predict(1, name).json() == {"echo": 1, "v": 2}
    gateway.client.unregister(name, "a")
    assert gateway.predict(1, f"{name}/a").status == 404
    with pytest.raises(NotFound):
        gateway.client.set_default(name, "a")


# -- scale, remove -----------------------------------------------------------------------------------------------------


def test_scale_up_and_down(gateway: Running, bundle: Path, name: str) -> None:
    gateway.client.register(str(bundle), name=name)
    assert [worker.state for worker in gateway.client.scale(name, 2).workers] == ["READY", "READY"]
    pids = {gateway.predict({"pid": True}, name).json() for _ in range(20)}
    assert len(pids) == 2, "both take traffic"
    assert len(gateway.client.scale(name, 1).workers) == 1
    assert len({gateway.predict({"pid": True}, name).json() for _ in range(5)}) == 1
    reply = gateway.ask(f"PUT /models/{name}?workers=2&synchronous=false")
    assert reply.status == 202
    until(lambda: len(gateway.client.model(name).workers) == 2, "scaled in the background")


def test_workers_follow_the_load_between_their_bounds(gateway: Running, bundle: Path, name: str) -> None:
    config = ModelConfig(workers="1:2", max_batch_size=1)
    gateway.client.register(str(bundle), name=name, config=config)
    assert len(gateway.client.model(name).workers) == 1
    with ThreadPoolExecutor(12) as clients:
        answers = [clients.submit(gateway.predict, {"sleep_s": 0.2}, name) for _ in range(48)]
        until(lambda: len(gateway.client.model(name).workers) == 2, "a second worker is there")
        assert {answer.result().status for answer in answers} == {200}
    gateway.client.scale(name, 1)
    assert gateway.client.model(name).config.workers == 1, "scaled by hand, it follows no more"
    with pytest.raises(ValueError, match="MIN:MAX"):
        ModelConfig(workers="2:1")


def test_cores_are_shared_out_anew_when_endpoints_come_and_go(gateway: Running, tmp_path: Path, name: str) -> None:
    """A running worker moves, without a restart: seen from inside and in status."""
    source = OBEDIENT.replace(
        "def answer(self, payload):", "def answer(self, payload):\n        return sorted(os.sched_getaffinity(0))"
    )
    bundle = make_bundle(tmp_path, source=source, sample=None)
    usable = gateway.client.status().placement["usable"]
    others = sum(len(model.workers) for model in gateway.client.models())
    gateway.client.register(str(bundle), name=name)
    pid = gateway.client.model(name).workers[0].pid
    alone = gateway.predict(1, name).json()
    crowd = [f"{name}-{i}" for i in range(len(usable))]
    for other in crowd:
        gateway.client.register(str(bundle), name=other)
    crowded = gateway.predict(1, name).json()
    assert len(crowded) == 1
    assert gateway.client.model(name).workers[0].cores == crowded
    for other in crowd:
        gateway.client.unregister(other)
    assert gateway.predict(1, name).json() == alone
    assert len(alone) == max(1, len(usable) // (others + 1))
    assert gateway.client.model(name).workers[0].pid == pid


def test_a_new_version_has_all_cores_of_the_old_one_after_the_swap(gateway: Running, bundle: Path, name: str) -> None:
    before = gateway.client.register(str(bundle), name=name).workers[0]
    after = gateway.client.register(str(bundle), name=name)
    until(lambda: gateway.client.model(name).workers[0].cores == before.cores, "it has the cores")
    assert after.version == gateway.client.model(name).version == "2"
    assert gateway.client.model(name).workers[0].threads == before.threads


def test_a_version_that_fails_in_the_warm_up_leaves_the_old_one(gateway: Running, tmp_path: Path, name: str) -> None:
    gateway.client.register(str(make_bundle(tmp_path)), name=name)
    source = OBEDIENT.replace(
        "def inference(self, batch):",
        "def inference(self, batch):\n        if len(batch) > 1:\n            raise ValueError('one at a time')",
    )
    with pytest.raises(LoadError, match="batch of 2 copies of the sample: ValueError: one at a time") as caught:
        gateway.client.register(str(make_bundle(tmp_path, source=source)), name=name, config=ModelConfig(isolate="off"))
    assert caught.value.info is not None
    assert caught.value.info.stage == "warmup"
    assert [model.version for model in versions(gateway, name)] == ["1"]
    assert gateway.predict(1, name).status == 200


@pytest.mark.parametrize("slow", [1, 3])
def test_an_item_that_takes_too_long_fails_alone(gateway: Running, bundle: Path, name: str, slow: int) -> None:
    """Its batch is interrupted as a whole; the others are tried again, each alone. Two slow ones are the handler's."""
    gateway.client.register(str(bundle), name=name, config=ModelConfig(response_timeout_s=2))
    with ThreadPoolExecutor(8) as clients:
        busy = clients.submit(gateway.predict, {"sleep_s": 1.5}, name)
        until(lambda: gateway.client.model(name).workers[0].state == "BUSY", "the worker is busy")
        late = [clients.submit(gateway.predict, {"sleep_s": 30}, name) for _ in range(slow)]
        until(lambda: gateway.client.model(name).queue_items == slow, "they wait")
        good = [clients.submit(gateway.predict, n, name) for n in range(3)]
        assert busy.result().status == 200
        assert {one.result().status for one in late} == {504}
        assert {one.result().status for one in good} == {200 if slow == 1 else 504}
    assert gateway.predict(1, name).status == 200
    assert gateway.client.model(name).workers[0].restarts == 0


def test_workers_that_come_later_are_warmed_before_they_take_traffic(gateway: Running, bundle: Path, name: str) -> None:
    gateway.client.register(str(bundle), name=name)
    gateway.client.scale(name, 2)
    assert gateway.client.model(name).workers[1].batches == 1, "it has answered the sample"
    assert gateway.client.model(name).requests == {}, "which is no request of a client"
    pids = {gateway.predict({"pid": True}, name).json() for _ in range(20)}
    assert len(pids) == 2


def test_scaling_that_cannot_be(gateway: Running, bundle: Path, name: str) -> None:
    gateway.client.register(str(bundle), name=name)
    with pytest.raises(BadRequest):
        gateway.client.scale(name, 0)
    assert gateway.ask(f"PUT /models/{name}?min_worker=3&max_worker=2").status == 400
    assert gateway.ask("PUT /models/nobody?workers=2").status == 404
    assert len(gateway.client.model(name).workers) == 1


def test_a_removed_model_finishes_what_it_has(gateway: Running, bundle: Path, name: str) -> None:
    gateway.client.register(str(bundle), name=name)
    replies: list[int] = []
    thread = threading.Thread(target=lambda: replies.append(gateway.predict({"sleep_s": 2}, name).status))
    thread.start()
    until(lambda: gateway.client.model(name).workers[0].state == "BUSY", "it is at work")
    gateway.client.unregister(name)
    thread.join()
    assert replies == [200]
    assert gateway.predict(1, name).status == 404
    assert gateway.ask(f"DELETE /models/{name}").status == 404


# -- look --------------------------------------------------------------------------------------------------------------


def test_the_lists(gateway: Running, bundle: Path) -> None:
    for one in ("list-a", "list-b", "list-c"):
        gateway.client.register(str(bundle), name=one)
    page = gateway.ask("GET /models?limit=2").json()
    assert [model["modelName"] for model in page["models"]] == ["list-a", "list-b"]
    assert page["models"][0]["modelUrl"] == str(bundle)
    rest = gateway.ask(f"GET /models?limit=2&next_page_token={page['nextPageToken']}").json()
    assert [model["modelName"] for model in rest["models"]] == ["list-c"]
    assert "nextPageToken" not in rest
    described = msgspec.json.decode(gateway.ask("GET /models/list-a").body, type=list[ModelStatus])
    assert [model.version for model in described] == ["1"]
    assert gateway.ask("GET /models/list-a/1").json()[0]["version"] == "1"
    status = msgspec.json.decode(gateway.ask("GET /status").body, type=GatewayStatus)
    assert [model.name for model in status.models] == ["list-a", "list-b", "list-c"]
    assert status.pid == gateway.process.pid
    assert "3 workers" in status.placement["note"]
    assert 0 < status.memory["available_bytes"] <= status.memory["total_bytes"]
    for one in ("list-a", "list-b", "list-c"):
        gateway.client.unregister(one)


def test_prints_reach_the_logs(gateway: Running, bundle: Path, name: str) -> None:
    gateway.client.register(str(bundle), name=name)
    gateway.predict({"print": "from the handler"}, name, "X-Request-Id: the-one")

    def found() -> list[Event]:
        events = msgspec.json.decode(gateway.ask(f"GET /logs/{name}?lines=50").body, type=list[Event])
        return [event for event in events if "from the handler" in event.text]

    (event,) = until(found, "the print is there")
    assert event.request_ids == ["the-one"]
    assert event.worker == 0
    assert event.stream == "stdout"
    assert gateway.ask(f"GET /logs/{name}?lines=0").json() == []
    texts = [event.text for event in gateway.client.logs(name)]
    assert sum(text.count("initialize was here") for text in texts) == 1
    assert gateway.ask("GET /logs/nobody").status == 404


def test_a_handlers_failure_is_explained_and_reported(gateway: Running, bundle: Path, name: str) -> None:
    gateway.client.register(str(bundle), name=name)
    reply = gateway.predict({"raise": "what a pity: "}, name, "X-Request-Id: bad-one")
    assert reply.status == 500
    body = reply.json()
    assert (body["code"], body["type"]) == (500, "ValueError")
    assert "what a pity" in body["message"]
    assert body["where"].startswith("handler.py")
    assert any("raise ValueError" in line for line in body["traceback"])
    assert reply.headers["server-timing"]
    errors = [event for event in gateway.client.logs(name) if event.kind == "error"]
    assert errors[0].request_ids == ["bad-one"]


def test_the_event_stream_follows(gateway: Running, bundle: Path, name: str) -> None:
    seen: list[Event] = []
    done = threading.Event()

    def follow() -> None:
        for event in gateway.client.events(since=0):
            if event.model == name:
                seen.append(event)
            if event.model == name and event.stage == "drained":
                break
        done.set()

    thread = threading.Thread(target=follow)
    thread.start()
    gateway.client.register(str(bundle), name=name)
    for _ in range(3):
        gateway.predict(1, name)
    until(lambda: any(event.kind == "rates" for event in seen), "rates, while somebody listens")
    gateway.client.unregister(name)
    assert done.wait(10)
    thread.join()
    stages = list(dict.fromkeys(event.stage for event in seen if event.kind == "stage"))
    assert stages == ["start", "initialize", "proof", "warmup", "ready", "drained"]
    assert [event.seq for event in seen] == sorted({event.seq for event in seen})
    rates = next(event for event in seen if event.kind == "rates")
    assert rates.data["requests_per_s"] > 0
    later = list(gateway.client.events(since=seen[-1].seq, follow=False))
    assert all(event.seq > seen[-1].seq for event in later)


def test_metrics(gateway: Running, tmp_path: Path, name: str) -> None:
    gateway.client.register(str(make_bundle(tmp_path, source=BATCHY)), name=name, config=ModelConfig(max_batch_size=8))
    threads = [threading.Thread(target=gateway.predict, args=(1, name)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gateway.ask("POST /predictions/nobody")
    reply = gateway.ask("GET /metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    text = reply.body.decode()
    mine = f'model="{name}"'
    assert f'nbserve_requests_total{{{mine},status="200",version="1"}} 12.0' in text
    assert f'nbserve_request_seconds_count{{{mine},version="1"}} 12.0' in text
    assert f'nbserve_stage_seconds_count{{{mine},stage="inference",version="1"}} 12.0' in text
    assert f'nbserve_batch_size_sum{{{mine},version="1"}} 12.0' in text
    assert f'nbserve_queue_items{{{mine},version="1"}} 0.0' in text
    assert f'nbserve_workers{{{mine},state="READY",version="1"}} 1.0' in text
    assert f'nbserve_worker_restarts_total{{{mine},version="1"}} 0.0' in text
    assert f'rows_seen_total{{{mine},version="1"}}' in text
    assert f'last_batch{{{mine},version="1",worker="0"}}' in text
    assert f'row_sizes_bucket{{le="10.0",{mine},version="1"}}' in text
    assert 'nbserve_refused_total{status="404"}' in text
    picked = gateway.ask("GET /metrics?name[]=nbserve_queue_items").body.decode()
    assert "nbserve_queue_items{" in picked
    assert "nbserve_requests" not in picked


# -- batching and workers ----------------------------------------------------------------------------------------------


def test_what_queues_while_the_worker_is_busy_is_the_next_batch(gateway: Running, bundle: Path, name: str) -> None:
    gateway.client.register(str(bundle), name=name)
    busy = threading.Thread(target=gateway.predict, args=({"sleep_s": 2}, name))
    busy.start()
    until(lambda: gateway.client.model(name).workers[0].state == "BUSY", "it is at work")
    threads = [threading.Thread(target=gateway.predict, args=(i, name)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in [*threads, busy]:
        thread.join()
    assert gateway.client.model(name).batch_sizes == {"1": 1, "6": 1}


def test_a_full_queue_says_so_at_once(gateway: Running, bundle: Path, name: str) -> None:
    gateway.client.register(str(bundle), name=name, config=ModelConfig(max_queue_size=2, max_batch_size=1))
    threads = [threading.Thread(target=gateway.predict, args=(body, name)) for body in ({"sleep_s": 5}, 1, 1)]
    threads[0].start()
    until(lambda: gateway.client.model(name).workers[0].state == "BUSY", "the worker is busy")
    for thread in threads[1:]:
        thread.start()
    until(lambda: gateway.client.model(name).queue_items == 2, "two wait")
    with gateway.connect() as connection:
        for _ in range(2):
            began = time.monotonic()
            connection.send(gateway.head(f"POST /predictions/{name}", "Content-Length: 1") + b"1")
            reply = connection.reply()
            assert reply.status == 503
            assert time.monotonic() - began < 2.5, "not once there is room"
            assert int(reply.headers["retry-after"]) >= 1
            assert "queue is full" in reply.json()["message"]
    for thread in threads:
        thread.join()
    assert gateway.client.model(name).requests == {"2xx": 3, "5xx": 2}


def test_a_handler_that_takes_too_long(gateway: Running, bundle: Path, name: str) -> None:
    gateway.client.register(str(bundle), name=name, config=ModelConfig(response_timeout_s=0.5))
    pid = gateway.predict({"pid": True}, name).json()
    reply = gateway.predict({"sleep_s": 30}, name)
    assert (reply.status, reply.json()["type"]) == (504, "ResponseTimeout")
    assert any("time.sleep" in line for line in reply.json()["traceback"])
    assert gateway.predict({"pid": True}, name).json() == pid, "the same worker serves the next request"


def test_one_bad_request_costs_one_error(gateway: Running, bundle: Path, name: str) -> None:
    gateway.client.register(str(bundle), name=name)
    busy = threading.Thread(target=gateway.predict, args=({"sleep_s": 2}, name))
    busy.start()
    until(lambda: gateway.client.model(name).workers[0].state == "BUSY", "it is at work")
    statuses: list[int] = []

    def ask(payload: Any) -> None:
        statuses.append(gateway.predict(payload, name).status)

    payloads: list[Any] = [1, 2, {"raise": "x"}, 3, 4]
    threads = [threading.Thread(target=ask, args=(payload,)) for payload in payloads]
    for thread in threads:
        thread.start()
    for thread in [*threads, busy]:
        thread.join()
    assert sorted(statuses) == [200, 200, 200, 200, 500]


def test_a_worker_that_dies_once_is_forgiven(gateway: Running, bundle: Path, name: str, tmp_path: Path) -> None:
    gateway.client.register(str(bundle), name=name)
    reply = gateway.predict({"die_once": str(tmp_path / "died")}, name)
    assert reply.status == 200
    assert gateway.client.model(name).workers[0].restarts == 1


def test_a_request_that_kills_twice_is_told_the_signal(gateway: Running, bundle: Path, name: str) -> None:
    gateway.client.register(str(bundle), name=name, config=ModelConfig(workers=2))
    reply = gateway.predict({"die": True}, name)
    assert reply.status == 500
    assert reply.json()["type"] == "WorkerDied"
    assert "SIGKILL" in reply.json()["message"]
    assert "inference" in reply.json()["message"]
    until(lambda: {worker.state for worker in gateway.client.model(name).workers} == {"READY"}, "both are back")
    assert gateway.predict(1, name).status == 200


def test_requests_wait_while_the_only_worker_starts_again(gateway: Running, tmp_path: Path, name: str) -> None:
    gateway.client.register(str(make_bundle(tmp_path, source=LATE)), name=name)
    thread = threading.Thread(target=gateway.predict, args=({"die": True}, name))
    thread.start()
    until(lambda: gateway.client.model(name).workers[0].state == "STARTING", "the only worker is gone")
    assert gateway.predict(1, name).json() == {"echo": 1}
    thread.join()
    assert gateway.client.model(name).workers[0].restarts >= 1


# -- other profiles ----------------------------------------------------------------------------------------------------


def test_three_ports_serve_their_own_routes_only(bundle: Path) -> None:
    with running(management_port=0, metrics_port=0) as gateway:
        gateway.client.register(str(bundle))
        record = gateway.client.management_url
        management = int(record.rpartition(":")[2])
        assert management != gateway.port
        assert gateway.predict(1).status == 200
        for start in ("GET /status", "GET /models", "GET /metrics", "POST /models"):
            assert gateway.ask(start).status == 404, start
        assert gateway.ask("GET /ping").status == 200
        other = Running(gateway.process)
        other.port = management
        assert other.ask("GET /status").status == 200
        assert other.ask("POST /predictions/obedient", b"1").status == 404
        assert other.ask("GET /status", token=False).status == 401


def test_the_metrics_port_needs_no_token(bundle: Path) -> None:
    import psutil

    with running(management_port=0, metrics_port=0) as gateway:
        process = psutil.Process(gateway.process.pid)
        listening = {c.laddr.port for c in process.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN}
        known = {gateway.port, int(gateway.client.management_url.rpartition(":")[2])}
        (port,) = listening - known
        other = Running(gateway.process)
        other.port = port
        assert other.ask("GET /metrics", token=False).status == 200
        assert other.ask("GET /status").status == 404
        assert other.ask("POST /predictions/obedient", b"1").status == 404


def test_a_container_without_a_token_has_no_management(bundle: Path) -> None:
    with running(profile="container", host="127.0.0.1", token="", allow_hosts=["*"]) as gateway:
        assert gateway.ask("GET /ping", token=False, host="any.example").status == 503, "no model is ready"
        for start in ("GET /status", "POST /models", "DELETE /models/x", "POST /shutdown", "GET /events"):
            assert gateway.ask(start, token=False).status == 403, start
        with pytest.raises(Forbidden, match="management is off"):
            gateway.client.register(str(bundle))


def test_a_container_without_a_token_is_managed_by_who_started_it(bundle: Path) -> None:
    options = {"profile": "container", "host": "127.0.0.1", "token": "", "owner_token": "own3r", "allow_hosts": ["*"]}
    with running(**options) as gateway:
        owner = "Authorization: Bearer own3r"
        for field in ("Authorization: Bearer wrong", "Authorization: Bearer ", "X-Nothing: 1"):
            assert gateway.ask("GET /status", b"", field, token=False).status == 403
        gateway.client.register(str(bundle))
        assert gateway.ask("GET /status", b"", owner, token=False).status == 200
        assert gateway.ask("GET /ping", token=False).status == 200
        assert gateway.ask("GET /metrics", token=False).status == 200
        gateway.client.unregister("obedient")
        assert gateway.ask("GET /ping", token=False).status == 503


def test_a_container_with_a_token_asks_it_for_management_only(bundle: Path) -> None:
    with running(profile="container", host="127.0.0.1", token="t0ken", allow_hosts=["*"]) as gateway:
        gateway.client.register(str(bundle))
        fields = ["Content-Type: application/json"]
        assert gateway.ask("POST /predictions/obedient", b"1", *fields, token=False).status == 200
        assert gateway.ask("GET /status", token=False).status == 401
        assert gateway.ask("GET /metrics", token=False).status == 401


def test_outside_development_errors_are_an_id_that_the_log_explains(bundle: Path, tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    with running(log=log, profile="server", development=False) as gateway:
        gateway.client.register(str(bundle))
        reply = gateway.predict({"raise": "a secret: "})
        assert reply.status == 500
        body = reply.json()
        assert set(body) == {"code", "type", "message", "error_id"}
        for hidden in ("secret", "/etc", "ValueError", str(bundle)):
            assert hidden not in reply.body.decode()
        killed = gateway.predict({"die": True}).json()
        assert killed["type"] == "WorkerDied"
        assert "traceback" not in killed
        bad = gateway.ask("POST /predictions/obedient", b"{", "Content-Type: application/json")
        assert set(bad.json()) == {"code", "type", "message"}
    text = log.read_text()
    assert body["error_id"] in text
    assert "a secret" in text
    assert "raise ValueError" in text
