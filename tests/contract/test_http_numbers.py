"""GET /models/M/numbers, what dashboards are drawn from, and what their buttons do; a real gateway and workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbserve.endpoint import Endpoint
from nbserve.errors import NotFound, UsageError
from nbserve.notebook.widgets import actions
from nbserve.notebook.widgets.rates import between
from nbserve.notebook.widgets.watcher import Watcher
from nbserve.resolve import Served
from tests.unit.gateway.running import Running, make_bundle, running, until


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running() as gateway:
        gateway.client.register(str(make_bundle(tmp_path_factory.mktemp("bundle"))))
        yield gateway


@pytest.fixture
def endpoint(gateway: Running) -> Endpoint:
    served = Served(gateway.client, "obedient")
    return Endpoint(served, served.model())


class Ear:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, text: str, done: float | None = None) -> None:
        self.heard.append(text)

    def line(self, line: str) -> None:
        self.heard.append(line)


def test_numbers_of_two_times_tell_what_happened(gateway: Running) -> None:
    before = gateway.client.numbers("obedient")
    for payload in (1, {"print": "a line for the log"}, {"raise": "no"}):
        gateway.predict(payload)
    now = until(
        lambda: (found := gateway.client.numbers("obedient", since=before.seq)).requests != before.requests and found,
        "counted",
    )
    found = between(before, now)
    assert found["statuses"] == {"200": 2, "500": 1}
    assert found["answered"] == 3
    assert found["stages_ms"]["inference"] > 0
    assert {series.name for series in now.handler} == {"rows_seen", "last_batch", "row_sizes"}
    assert now.workers[0].state in ("READY", "BUSY")
    assert now.workers[0].cpu_s is not None
    until(
        lambda: any("a line for the log" in event.text for event in gateway.client.numbers("obedient").events),
        "the line is among the events",
    )
    assert gateway.client.numbers("obedient", since=now.seq + 1000).events == []


def test_an_unknown_model_or_version_is_named(gateway: Running) -> None:
    with pytest.raises(NotFound):
        gateway.client.numbers("nobody")
    with pytest.raises(NotFound):
        gateway.client.numbers("obedient", "77")
    assert gateway.ask("GET /models/obedient/numbers", token=False).status == 401


def test_the_status_draws_the_machine(gateway: Running) -> None:
    placement = gateway.client.status().placement
    assert {core["cpu"] for core in placement["cores"]} >= set(placement["usable"])


def test_a_watcher_asks_while_wanted_and_ends_with_the_endpoint(gateway: Running, tmp_path: Path) -> None:
    gateway.client.register(str(make_bundle(tmp_path)), name="watched")
    wanted: list[bool] = []
    updates: list[dict[str, Any]] = []
    lines: list[str] = []
    ends: list[str] = []

    def on_update(update: dict[str, Any], more: list[str]) -> None:
        updates.append(update)
        lines.extend(more)

    watcher = Watcher(
        Served(gateway.client, "watched"),
        is_wanted=lambda: bool(wanted),
        on_look=lambda: None,
        on_update=on_update,
        on_end=ends.append,
    )
    watcher.start()
    gateway.predict({"print": "watched line"}, "watched")
    assert not updates
    wanted.append(True)
    watcher.wake()
    until(lambda: updates, "the first update")
    assert updates[0]["recent"]["since_load"]
    assert updates[0]["requests"] == {"200": 1}
    until(lambda: any("watched line" in line for line in watcher.log), "what was printed")
    gateway.predict(1, "watched")
    until(lambda: updates[-1]["requests"] == {"200": 2}, "the second request")
    assert not updates[-1]["recent"]["since_load"]
    gateway.client.unregister("watched")
    until(lambda: ends, "the watcher ends")
    assert "watched" in ends[0]


def test_an_answer_tells_where_its_milliseconds_went(endpoint: Endpoint) -> None:
    found = actions.try_it(endpoint, "application/json", b'{"sleep_s": 0.05}')
    assert found["status"] == 200
    assert "echo" in found["text"]
    assert found["stages_ms"]["inference"] >= 50
    assert sum(found["stages_ms"].values()) == pytest.approx(found["total_ms"], rel=0.2)
    refused = actions.try_it(endpoint, "application/json", b"{")
    assert refused["status"] == 400
    assert "JSON" in refused["text"]


def test_buttons_do_the_verbs(endpoint: Endpoint) -> None:
    assert actions.run(endpoint, "scale", {"workers": 2}, Ear())["title"] == "2 workers"
    assert endpoint.status().config.workers == 2
    with pytest.raises(NotFound):
        actions.run(endpoint, "rollback", {}, Ear())
    with pytest.raises(UsageError):
        actions.run(endpoint, "format_disk", {}, Ear())


def test_bench_shows_its_verdict_and_plots(endpoint: Endpoint) -> None:
    ear = Ear()
    found = actions.run(endpoint, "bench", {"seconds": 1.0}, ear)
    assert "req/s" in found["text"]
    assert any("answered" in text for text in ear.heard)
    assert found["pictures"]
    assert all(picture["src"].startswith("data:image/svg+xml;base64,") for picture in found["pictures"])


def test_a_failure_is_listed_and_sent_again(endpoint: Endpoint, gateway: Running) -> None:
    gateway.predict({"raise": "once more"})
    found = until(lambda: actions.run(endpoint, "failures", {}, Ear())["failures"], "the failure is kept")
    assert "once more" in found[0]["error"]
    again = actions.run(endpoint, "resend", {"id": found[0]["id"]}, Ear())
    assert again["status"] == 500
    assert "once more" in again["text"]


def test_advice_and_profile_come_as_text(endpoint: Endpoint, gateway: Running) -> None:
    assert "requests since it was loaded" in actions.run(endpoint, "advise", {}, Ear())["title"]
    profiled = actions.run(endpoint, "profile", {"seconds": 1.0}, Ear())
    assert profiled["copies"][0][1].startswith("%nbserve profile obedient --show ")
    assert "obedient" in profiled["text"]
