"""Failed requests at a real gateway: which are kept, what of them, for whom; found again from any face."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbserve import cli
from nbserve.config import ModelConfig
from nbserve.endpoint import Endpoint
from nbserve.errors import NotFound, UsageError
from nbserve.failures import failures, find_failure, source_lines
from nbserve.resolve import Gateways, Served
from tests.unit.gateway.running import Running, make_bundle, running, until

pytestmark = pytest.mark.xdist_group("contract-failures")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway with an endpoint that keeps four failures, one that redacts, and one that keeps none."""
    bundle = str(make_bundle(tmp_path_factory.mktemp("bundles")))
    with running() as gateway:
        gateway.client.register(bundle, name="four", config=ModelConfig(failures=4))
        gateway.client.register(bundle, name="hushed", config=ModelConfig(redact=["password"]))
        gateway.client.register(bundle, name="off", config=ModelConfig(failures=0, retries=0))
        yield gateway


@pytest.fixture(autouse=True)
def _fresh(gateway: Running) -> None:
    gateway.client.forget_failures("four")


def fail(gateway: Running, name: str = "four", text: str = "no", **more: Any) -> str:
    """A request that the handler raises at; its request id."""
    reply = gateway.predict({"raise": text, **more}, name)
    assert reply.status == 500
    return reply.headers["x-request-id"]


def test_a_failure_says_what_when_where_and_with_whom(gateway: Running) -> None:
    request_id = fail(gateway)
    [failure] = gateway.client.failures("four")
    assert (failure.model, failure.version, failure.request_id, failure.status) == ("four", "1", request_id, 500)
    assert (failure.error.type, failure.error.stage) == ("ValueError", "inference")
    assert failure.error.where.startswith("handler.py, line ")
    assert (failure.worker, failure.batch, failure.row, failure.alone) == (0, [request_id], 0, True)
    assert failure.at > 1.7e9
    request = gateway.client.failure("four", failure.id).request
    assert (request.body, request.content_type) == (b'{"raise": "no"}', "application/json")
    assert gateway.client.failure("four", request_id).failure.id == failure.id


def test_the_decoders_faults_are_kept_and_refusals_are_not(gateway: Running) -> None:
    assert gateway.ask("POST /predictions/four", b"{", "Content-Type: application/json").status == 400
    assert gateway.ask("GET /predictions/four").status == 405
    assert gateway.predict(1, "nothing").status == 404
    assert gateway.predict(1, "four").status == 200
    [failure] = gateway.client.failures("four")
    assert (failure.status, failure.error.stage) == (400, "decode")
    assert gateway.client.failure("four", failure.id).request.body == b"{"


def test_the_last_ones_are_kept_the_last_first(gateway: Running) -> None:
    ids = [fail(gateway) for _ in range(6)]
    assert [one.request_id for one in gateway.client.failures("four")] == ids[:1:-1]
    with pytest.raises(NotFound, match="is kept"):
        gateway.client.failure("four", ids[0])


def test_off_keeps_nothing(gateway: Running) -> None:
    fail(gateway, "off")
    gateway.predict({"die": True}, "off")
    assert gateway.client.failures("off") == []


def test_a_worker_that_dies_leaves_its_request(gateway: Running) -> None:
    assert gateway.predict({"die": True}, "hushed").status == 500
    failure = gateway.client.failures("hushed")[0]
    assert failure.error.type == "WorkerDied"
    assert gateway.client.failure("hushed", failure.id).request.body == b'{"die":true}'


def test_redacted_fields_are_not_handed_out(gateway: Running) -> None:
    fail(gateway, "hushed", password="hunter2", inside=[{"Password": {"a": "hunter2"}}])
    raw = gateway.ask("GET /models/hushed/failures/last").json()["request"]
    body = gateway.client.failure("hushed", "last").request.body
    assert body is not None
    assert json.loads(body) == {"raise": "no", "password": "REDACTED", "inside": [{"Password": {}}]}
    assert "hunter2" not in str(raw)
    gateway.ask("POST /predictions/hushed", b"password=hunter2", "Content-Type: application/json")
    withheld = gateway.client.failure("hushed", "last").request
    assert withheld.body is None
    assert "no JSON" in withheld.withheld


QUOTES = """
class Obedient:
    {how}def inference(self, batch):
        try:
            batch[0]["missing"]
        except KeyError as exc:
            if batch[0].get("exits"):
                raise SystemExit(batch)
            raise ValueError(f"bad row {{batch[0]}}") from exc
"""


@pytest.mark.parametrize("how", ["", "async "])
def test_what_an_exception_says_of_redacted_fields_leaves_no_worker(gateway: Running, tmp_path: Path, how: str) -> None:
    bundle = str(make_bundle(tmp_path, source=QUOTES.format(how=how), sample=None))
    gateway.client.register(bundle, name="quotes", config=ModelConfig(redact=["password"]))
    for exits in (False, True):
        said = {"a": 1, "exits": exits, "Password": ["hunter2", {"pin": 4711}]}
        reply = gateway.predict(said, "quotes")
        assert reply.status == 500
        [failure, *_] = gateway.client.failures("quotes")
        assert "'a': 1" in failure.error.message
        assert "'Password': ['REDACTED', {'REDACTED': REDACTED}]" in failure.error.message
        assert failure.error.where.startswith("handler.py, line ")
        assert any("raise " in line for line in failure.error.traceback), "the source is code, no data"
        shown = failures(Served(gateway.client, "quotes"))
        told = until(lambda: [event for event in gateway.client.logs("quotes") if event.error is not None], "the event")
        for text in map(str, [reply.body, repr(shown), repr(shown[0]), shown[0]._repr_html_(), told, failure]):
            assert "REDACTED" in text
            assert "hunter2" not in text
            assert "4711" not in text
    gateway.client.unregister("quotes")


def test_only_who_may_manage_may_read_them(gateway: Running) -> None:
    fail(gateway)
    for start in ("GET /models/four/failures", "GET /models/four/failures/last", "DELETE /models/four/failures"):
        assert gateway.ask(start, token=False).status == 401, start
    assert gateway.ask("GET /models/four/failures").headers["cache-control"] == "no-store"
    assert len(gateway.client.failures("four")) == 1, "nobody has deleted it"


@pytest.mark.parametrize("word", ["..%2f..%2fetc", "a%00b", "x" * 5000, "four-99", "%F0%9F%98%80"])
def test_ids_that_are_none(gateway: Running, word: str) -> None:
    assert gateway.ask(f"GET /models/four/failures/{word}").status in (400, 404)


def test_found_by_failure_request_or_endpoint(gateway: Running) -> None:
    request_id = fail(gateway)
    fail(gateway, "hushed")
    where = gateway.process.config.id
    [one] = gateway.client.failures("four")
    for word in (one.id, request_id, "four"):
        served, detail = find_failure(Gateways(), word, gateway=where)
        assert (served.name, detail.failure.id) == ("four", one.id), word
        assert find_failure(Gateways(), f"{word}@{where}")[1].failure.id == one.id
    with pytest.raises(NotFound, match="no failure 'nonsense-7' is kept"):
        find_failure(Gateways(), "nonsense-7", gateway=where)


def test_table_and_card(gateway: Running) -> None:
    request_id = fail(gateway, text="<script>\x1b[31m")
    table = failures(Served(gateway.client, "four"))
    assert "ValueError" in repr(table)
    assert "\x1b" not in repr(table)
    assert "<script>" not in table._repr_html_()
    card = table[0]
    assert request_id in repr(card)
    assert "\x1b" not in repr(card)
    assert "-->" in repr(card)
    assert 'raise ValueError(payload["raise"] + secret)' in repr(card)
    assert "<script>" not in card._repr_html_()
    assert "&lt;script&gt;" in card._repr_html_()
    assert gateway.token not in repr(table) + table._repr_html_() + repr(card) + card._repr_html_()
    gateway.client.forget_failures("four")
    assert "not kept any more" in repr(failures(Served(gateway.client, "four"))) or repr(table[0:0])
    assert "no failed request" in repr(failures(Served(gateway.client, "four")))


def test_the_command_and_python(
    gateway: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    fail(gateway)
    where = f"four@{gateway.process.config.id}"
    assert cli.run(["failures", where, "--json"]) == 0
    [shown] = json.loads(capsys.readouterr().out)
    assert shown["error"]["type"] == "ValueError"
    assert cli.run(["failures", where]) == 0
    assert "ValueError" in capsys.readouterr().out
    endpoint = Endpoint.find(where)
    assert [each.id for each in endpoint.failures] == [shown["id"]]
    with pytest.raises(UsageError, match="in a notebook"):
        endpoint.replay()
    assert cli.run(["failures", where, "--forget"]) == 0
    assert "no failed request" in capsys.readouterr().out
    assert gateway.client.failures("four") == []


def test_an_endpoint_that_goes_takes_its_failures_along(gateway: Running, tmp_path: Path) -> None:
    bundle = str(make_bundle(tmp_path))
    gateway.client.register(bundle, name="gone")
    fail(gateway, "gone")
    gateway.client.register(bundle, name="gone")
    assert len(gateway.client.failures("gone")) == 1, "a swap keeps them"
    gateway.client.unregister("gone")
    gateway.client.register(bundle, name="gone")
    assert gateway.client.failures("gone") == []
    gateway.client.unregister("gone")


@pytest.mark.parametrize(
    "where", ["", "../../etc/passwd, line 1", "In[9], line 99", "handler.py, line 0", "manifest.json, line 1"]
)
def test_source_is_read_from_the_bundles_own_files_only(tmp_path: Path, where: str) -> None:
    bundle = make_bundle(tmp_path)
    assert not any(line.failed for line in source_lines(bundle, where))
    assert source_lines(tmp_path / "gone", "handler.py, line 3") == []
    assert [line.number for line in source_lines(bundle, "handler.py, line 3") if line.failed] == [3]
