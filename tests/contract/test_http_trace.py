"""A client's trace: the handler sees the header, and what is said of the request names the trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.gateway.running import Running, make_bundle, running

TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADER = f"00-{TRACE}-b7ad6b7169203331-01"
SOURCE = """
class Obedient:
    def initialize(self, context):
        self.context = context

    def preprocess(self, rows):
        return [row.payload for row in rows]

    def inference(self, batch):
        if "fail" in batch:
            raise ValueError("as asked")
        return [dict(each) for each in self.context.headers]

    def postprocess(self, answers):
        return answers
"""


@pytest.fixture(scope="module", params=["httptools", "tornado"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("trace")
    with running(log=folder / "log", development=False, http_connection=request.param) as one:
        one.client.register(str(make_bundle(folder, source=SOURCE, sample=None)))
        yield one


def test_the_handler_sees_the_header(gateway: Running) -> None:
    assert gateway.predict("x", "obedient", f"TraceParent: {HEADER}").json() == {"traceparent": HEADER}
    assert gateway.predict("x", "obedient").json() == {}


@pytest.mark.parametrize("lines", [["traceparent: junk"], [f"traceparent: {HEADER}", f"traceparent: {HEADER}"]])
def test_what_is_not_valid_is_not_there(gateway: Running, lines: list[str]) -> None:
    assert gateway.predict("x", "obedient", *lines).json() == {}


def test_a_failure_names_the_trace(gateway: Running) -> None:
    reply = gateway.predict("fail", "obedient", f"traceparent: {HEADER}", "X-Request-Id: mine")
    assert (reply.status, reply.headers["x-request-id"], reply.json()["trace_id"]) == (500, "mine", TRACE)
    lines = gateway.ask("GET /events?follow=false").body.splitlines()
    [event] = [one for one in map(json.loads, lines) if one.get("request_ids") == ["mine"]]
    assert event["trace_id"] == TRACE
    assert gateway.process.log is not None
    assert f"request mine, trace {TRACE}: ValueError: as asked" in gateway.process.log.read_text()
    assert "trace_id" not in gateway.predict("fail", "obedient").json()
