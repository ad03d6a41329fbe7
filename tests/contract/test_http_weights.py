"""Weights in a running gateway: shared by the workers of several versions, and writes to them are noticed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbserve.config import ModelConfig
from nbserve.wire.management import ModelStatus
from tests.unit.gateway.running import Running, running, until

SOURCE = """
    import torch

    torch.manual_seed(0)
    net = torch.nn.Linear(1024, 1024)

    class H:
        def initialize(self, context):
            self.net = net
        def preprocess(self, rows):
            return [row.payload for row in rows]
        def inference(self, batch):
            with torch.no_grad():
                if "write" in batch:
                    self.net.weight[:256] += 1
                total = float(self.net.weight.sum())
            return [VERSION for _ in batch]
"""
WEIGHTS_BYTES = 1024 * 1025 * 4


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with running() as one:
        yield one


def register(gateway: Running, bundle: Path, version: str, workers: int = 1) -> ModelStatus:
    config = ModelConfig(workers=workers, proof="off")
    return gateway.client.register(str(bundle), name="net", version=version, config=config)


def test_two_versions_with_the_same_tensors_hold_one_copy(gateway: Running, make_bundle: Callable[..., Path]) -> None:
    bundles = [make_bundle(SOURCE.replace("VERSION", version), name="net") for version in "12"]
    assert bundles[0] != bundles[1]
    models = [register(gateway, bundle, version) for bundle, version in zip(bundles, "12", strict=True)]
    try:
        held = [_mapped(model.workers[0].pid, bundle) for model, bundle in zip(models, bundles, strict=True)]
        assert all(rss >= WEIGHTS_BYTES for rss, _ in held)
        assert sum(pss for _, pss in held) < 1.05 * WEIGHTS_BYTES
        for version in "12":
            assert gateway.predict("x", f"net/{version}").json() == int(version)
    finally:
        gateway.client.unregister("net")


def test_a_worker_that_writes_to_its_weights_is_named(gateway: Running, make_bundle: Callable[..., Path]) -> None:
    model = register(gateway, make_bundle(SOURCE.replace("VERSION", "3"), name="net"), "3", workers=2)
    try:
        quiet = gateway.client.model("net")
        assert quiet.warnings == []
        for worker in quiet.workers:
            assert worker.rss_bytes >= worker.pss_bytes >= worker.uss_bytes >= worker.private_dirty_bytes > 0  # type: ignore[operator]
        since = max((event["seq"] for event in events(gateway)), default=0)
        assert gateway.predict("write", "net").status == 200
        loud = until(lambda: _with_warnings(gateway), "a warning")
        [writer] = [worker for worker in loud.workers if worker.weights_written_bytes]
        assert 256 * 1024 * 4 <= writer.weights_written_bytes <= 256 * 1024 * 4 + 2 * 4096
        [warning] = loud.warnings
        assert re.match(rf"worker {writer.id} has written to 1\.[01] MB of the weights", warning)
        [event] = [one for one in events(gateway, since) if one.get("data", {}).get("written_bytes")]
        assert (event["worker"], event["model"], event["text"]) == (writer.id, "net", warning)
        assert [worker.weights_written_bytes for worker in loud.workers if worker is not writer] == [0]
    finally:
        gateway.client.unregister("net")
    assert model.warnings == []


def _with_warnings(gateway: Running) -> ModelStatus | None:
    model = gateway.client.model("net")
    return model if model.warnings else None


def events(gateway: Running, since: int = 0) -> list[dict[str, Any]]:
    """What the gateway remembers after this sequence number."""
    lines = gateway.ask(f"GET /events?follow=false&since={since}").body.splitlines()
    return [json.loads(line) for line in lines]


def _mapped(pid: int | None, folder: Path) -> tuple[int, int]:
    """(Rss, Pss) of a process's mappings of files below a folder."""
    found = {"Rss:": 0, "Pss:": 0}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            inside = str(folder) in line
        elif inside and words[0] in found:
            found[words[0]] += int(words[1]) * 1024
    return found["Rss:"], found["Pss:"]
