"""State in a running gateway: values that are rebuilt otherwise are refused, globals that change are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest

from nbserve.bundle.encoder import Encoder
from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo, ProofError
from nbserve.notebook.serve import load_error
from nbserve.wire.management import ModelStatus
from tests.unit.gateway.running import Running, running, until

COUNTING = """
    COUNTS = {"requests": 0}

    def predict(batch):
        COUNTS["requests"] += len(batch)
        return [COUNTS["requests"] for _ in batch]
"""
DECAYING = """
    class Decay:
        def __init__(self):
            self.rate, self.steps = 0.5, 3

    decay = Decay()

    def predict(batch):
        return [getattr(decay, "rate", 0.5) for _ in batch]
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with running() as one:
        yield one


def test_globals_that_change_are_told_once(gateway: Running, make_bundle: Callable[..., Path]) -> None:
    bundle = make_bundle(COUNTING, handler="predict", sample=1)
    model = gateway.client.register(str(bundle), name="counting", config=ModelConfig(workers=2, proof="off"))
    try:
        assert model.warnings == []

        said = "COUNTS['requests'] changed while serving: each worker has its own; In[1]"
        assert _told(gateway).warnings == [said]
        lines = gateway.ask("GET /events?follow=false&since=0").body.splitlines()
        assert [event["text"] for event in map(json.loads, lines) if "while serving" in event.get("text", "")] == [said]
    finally:
        gateway.client.unregister("counting")


def _told(gateway: Running) -> ModelStatus:
    """Requests now and then: the worker looks when there are none for a second."""

    def warned() -> ModelStatus | None:
        found = gateway.client.model("counting")
        return found if found.warnings else None

    for _ in range(8):
        gateway.predict("1", "counting")
        with suppress(AssertionError):
            return until(warned, "a warning", 2.5)  # type: ignore[no-any-return]
    raise AssertionError("no warning")


@pytest.mark.parametrize("proof", ["on", "off"])
def test_a_value_that_a_saver_lost_is_named_by_its_path(
    proof: Literal["on", "off"], gateway: Running, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Encoder._state

    def state(self: Any, node: Any, obj: Any, state: Any, path: str) -> None:
        whole(self, node, obj, {key: value for key, value in state.items() if key != "rate"}, path)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "_state", state)
        bundle = make_bundle(DECAYING, handler="predict", sample=1)
    # What is compared with the notebook's answer is another thing, and may be off.
    config = ModelConfig(proof=proof)
    version = gateway.client.register(str(bundle), name="lost", config=config, synchronous=False).version

    def failed() -> ErrorInfo | None:
        return gateway.client.model("lost", version).error

    error = load_error(gateway.client.model("lost", version), until(failed, "a failure"))
    assert isinstance(error, ProofError)
    assert "decay.rate: float 0.5 in the notebook, missing in the worker" in error.message
    assert "make it in `initialize`" in error.hint
    gateway.client.unregister("lost", version)
