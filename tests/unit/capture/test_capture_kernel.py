"""Capture inside a real kernel: ipykernel's file names, its compiler, and its running event loop."""

# ruff: noqa: E501 - cells read better unbroken

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

LISTEN = """
import json, pathlib
from nbserve.capture import Cells, capture, run_sample
_cells = Cells()
_ip = get_ipython()
def _listen(info):
    text = info.transformed_cell
    number = _ip.execution_count - 1
    _cells.add(number, text, _ip.compile.get_code_name(info.raw_cell, text, number))
_ip.events.register("pre_run_cell", _listen)
"""

CELLS = [
    "%%time\nimport torch\nfrom torch import nn\nfrom nbserve import Handler\nclass Net(nn.Module):\n    def __init__(self):\n"
    "        super().__init__()\n        self.fc = nn.Linear(3, 2)\n    def forward(self, x):\n        return torch.relu(self.fc(x))\n",
    "import asyncio, functools\nawait asyncio.sleep(0)\nmodel = Net()\ndef timed(fn):\n    @functools.wraps(fn)\n"
    "    def inner(*args):\n        return fn(*args)\n    return inner\n",
    "@timed\ndef featurize(x):\n    return x / 2\n",
    "class Digits(Handler):\n    def initialize(self, context):\n        self.model = model.eval()\n"
    "    async def inference(self, batch):\n        await asyncio.sleep(0)\n"
    "        return self.model(featurize(torch.tensor(batch)))\n",
]

WRITE = """
_captured = capture(Digits, name="digits", namespace=_ip.user_ns, cells=_cells)
_sample = run_sample(_captured.target, _captured.kind, [1.0, 2.0, 3.0], name="digits", values=_captured.values, locate=_cells.locate)
_bundle = _captured.write(pathlib.Path("bundles"), _sample)
print(json.dumps([str(_bundle.path), {e.name: e.where for e in _captured.entries}, _captured.warnings, model.training]))
"""

CHECK = """
import asyncio, sys
from nbserve.bundle import Bundle, compare
from nbserve.handler import Context
from nbserve.pipeline import Item, Pipeline
bundle = Bundle.open(sys.argv[1], check_digest=True)
pipeline = Pipeline(bundle.load().handler, Context(name="x"))
pipeline.initialize()
(answer,) = asyncio.run(pipeline.run_async([Item(bundle.sample.body)])).answers
difference = compare(bundle.sample, answer.content_type, answer.body)
assert difference.equal, difference.text
print("equal")
"""


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockingKernelClient]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "r"))
    manager = KernelManager(transport="ipc", connection_file=str(tmp_path / "k.json"))
    manager.start_kernel(cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def run(client: BlockingKernelClient, source: str) -> str:
    """One cell; returns what it printed."""
    printed: list[str] = []

    def hook(message: dict[str, Any]) -> None:
        if message["header"]["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            printed.append(message["content"]["text"])

    reply = client.execute_interactive(source, output_hook=hook, timeout=60)
    assert reply["content"]["status"] == "ok", "\n".join(reply["content"].get("traceback", []))
    return "".join(printed)


@pytest.mark.slow
def test_from_the_cells_of_a_kernel_to_another_process(client: BlockingKernelClient, tmp_path: Path) -> None:
    run(client, LISTEN)
    for cell in CELLS:
        run(client, cell)
    path, where, warnings, training = json.loads(run(client, WRITE))
    assert warnings == []
    assert training is True
    assert {name: where[name] for name in ("Net", "model", "timed", "featurize", "Digits")} == {
        "Net": "In[2]", "model": "In[3]", "timed": "In[3]", "featurize": "In[4]", "Digits": "In[5]",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(tmp_path / path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "equal\n", done.stderr
