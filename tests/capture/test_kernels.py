"""Some of the corpus in real Jupyter kernels: ipykernel's file names, its compiler, its running event loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.capture.corpus import Notebook, read_all
from tests.capture.outcome import Processes, served_as, wrong_with
from tests.capture.zygote import ROOT

SAMPLE = ["async_handler", "timed_and_captured_cells", "mess_failed_halfway", "local_package", "functools_family"]
NOTEBOOKS = [each for each in read_all() if each.name in SAMPLE]
ATTACH = """
from tests.capture import session as _session
_asked = _session.attach(get_ipython(), {inputs!r})
"""
RESULT = "import json as _json; print(_json.dumps(_session.collected(_asked)))"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockingKernelClient]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("NBSERVE_HOME", str(tmp_path / "home"))
    (tmp_path / "notebook").mkdir()
    manager = KernelManager(transport="ipc", connection_file=str(tmp_path / "k.json"))
    manager.start_kernel(cwd=str(tmp_path / "notebook"))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def run(client: BlockingKernelClient, source: str, *, fails: bool = False) -> str:
    """One cell; returns what it printed."""
    printed: list[str] = []

    def hook(message: dict[str, Any]) -> None:
        if message["header"]["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            printed.append(message["content"]["text"])

    reply = client.execute_interactive(source, output_hook=hook, timeout=60)
    assert (reply["content"]["status"] == "error") is fails, "\n".join(reply["content"].get("traceback", [source]))
    return "".join(printed)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda each: each.name)
def test_in_a_kernel(notebook: Notebook, client: BlockingKernelClient, processes: Processes, tmp_path: Path) -> None:
    run(client, ATTACH.format(inputs=list(notebook.inputs)))
    for cell in notebook.runs():
        run(client, cell.source, fails=cell.fails)
    ran = json.loads(run(client, RESULT).splitlines()[-1])
    wrong = wrong_with(notebook, served_as(ran, processes, tmp_path / "worker"))
    assert not wrong, wrong
