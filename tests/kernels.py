"""A real notebook kernel, driven as a front end drives it. Used by tests of the documentation and by the benchmarks."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

__all__ = ["CellError", "Notebook", "notebook"]

_COLOUR = re.compile(r"\x1b\[[\d;]*m")


class CellError(Exception):
    """A cell raised; the message is its output and traceback."""


class Notebook:
    """One kernel with its history. Made by `notebook()`."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def run(self, code: str, *, timeout_s: float = 180.0) -> str:
        """Run a cell; what it printed and showed, as text. Raises CellError."""
        shown: list[str] = []

        def output(message: dict[str, Any]) -> None:
            if message["msg_type"] == "update_display_data":  # of any cell's display, this one's or an earlier one's
                return
            content = message["content"]
            shown.append(content.get("text") or content.get("data", {}).get("text/plain", "") + "\n")

        reply = self._client.execute_interactive(code, timeout=timeout_s, output_hook=output)["content"]
        if reply["status"] != "ok":
            raise CellError(_COLOUR.sub("", "\n".join([code, *shown, *reply.get("traceback", [])])))
        return "".join(shown)


@contextmanager
def notebook(folder: Path) -> Iterator[Notebook]:
    """A fresh kernel that works in `folder`; ended when the block is left."""
    with tempfile.TemporaryDirectory(prefix="nbs-") as sockets:  # short: paths of unix sockets end at 107 characters
        manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        manager.start_kernel(cwd=str(folder))
        client = manager.client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=60)
            yield Notebook(client)
        finally:
            client.stop_channels()
            manager.shutdown_kernel()
            manager.cleanup_resources()
            client.context.term()
