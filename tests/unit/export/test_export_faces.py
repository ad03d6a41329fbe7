"""The verb's faces: the same options in Python as in the CLI; a live endpoint's name and settings come along."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from nbserve import Endpoint
from nbserve.config import ModelConfig
from nbserve.verbs import VERBS, command
from tests.unit.export.bundles import sample, write
from tests.unit.gateway.running import running


def test_the_method_has_the_options_of_the_verb() -> None:
    options = command(VERBS["export"], "cli").make_context("export", ["name"]).params
    method = dict(list(inspect.signature(Endpoint.export).parameters.items())[1:])
    assert set(options) - set(method) == {"name", "kind", "version", "gateway", "as_json"}
    for name, parameter in method.items():
        assert parameter.default == options[name] or name == "env", "a mapping here, K=V there"


def test_what_is_served_is_what_is_exported(tmp_path: Path, capsys: Any) -> None:
    bundle = write(tmp_path / "b", asked=sample())
    with running() as gateway:
        config = ModelConfig(max_batch_size=5, env={"REGION": "north-1"})
        gateway.client.register(str(bundle.path), name="lines", config=config)
        made = Endpoint.find("lines").export(tmp_path / "out", tag="mine:1", build=False, proof="off")
    assert (made.name, made.tag, made.digest) == ("lines", "mine:1", bundle.digest)
    dockerfile = (tmp_path / "out" / "Dockerfile").read_text()
    assert "ENV NBSERVE_NAME=lines\n" in dockerfile
    assert "ENV NBSERVE_MAX_BATCH_SIZE=5\n" in dockerfile
    assert "north-1" not in dockerfile
    assert made.run_command.endswith("-e REGION mine:1")
    assert "copying the bundle" in capsys.readouterr().out
    assert f"{tmp_path}/out" in repr(made)
