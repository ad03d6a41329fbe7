"""A real notebook kernel as a front end drives it: messages are kept, displays updated, cells can be interrupted."""

from __future__ import annotations

import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_core.paths import jupyter_runtime_dir

CELL_TIMEOUT_S = 120.0
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
MARK = "NBSERVE_E2E_MARK"


@dataclass
class Ran:
    """What one cell did."""

    status: str = ""
    number: int = 0
    stdout: str = ""
    stderr: str = ""
    results: list[dict[str, Any]] = field(default_factory=list)
    """Mime bundles of execute_result and display_data."""
    ename: str = ""
    traceback: str = ""
    """Without colours."""

    @property
    def text(self) -> str:
        return "\n".join(result.get("text/plain", "") for result in self.results)

    @property
    def html(self) -> str:
        return "\n".join(result.get("text/html", "") for result in self.results)


class Kernel:
    """One kernel, in a process environment marked with `mark`."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient, mark: str) -> None:
        self.manager, self.client, self.mark = manager, client, mark
        self.messages: list[dict[str, Any]] = []
        self.displays: dict[str, dict[str, Any]] = {}

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.pid)  # type: ignore[attr-defined, union-attr]

    def run(self, code: str, *, during: Callable[[], None] | None = None) -> Ran:
        """Run a cell to its end. `during` is called over and over while it runs."""
        asked = self.client.execute(code)
        ran = Ran()
        deadline = time.monotonic() + CELL_TIMEOUT_S
        while True:
            assert time.monotonic() < deadline, f"the cell did not end:\n{code}\n{ran}"
            if during is not None:
                during()
            message = self._next(0.05 if during else 1.0)
            if message is None or message["parent_header"].get("msg_id") != asked:
                continue
            _take(ran, message)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        reply: Any = self.client.get_shell_msg(timeout=30)
        while reply["parent_header"].get("msg_id") != asked:
            reply = self.client.get_shell_msg(timeout=30)
        ran.status, ran.number = reply["content"]["status"], reply["content"]["execution_count"]
        return ran

    def ok(self, code: str) -> Ran:
        """Run a cell that must succeed."""
        ran = self.run(code)
        assert ran.status == "ok", f"{code}\n{ran.traceback}\n{ran.stderr}"
        return ran

    def shows(self, text: str, timeout_s: float = 20.0) -> str:
        """Wait until a display (updates from threads included) shows this text; all of that display's text."""
        deadline = time.monotonic() + timeout_s
        while True:
            for data in self.displays.values():
                if text in data.get("text/plain", ""):
                    return str(data["text/plain"])
            assert time.monotonic() < deadline, f"{text!r} is not in {self.displays}"
            self._next(0.2)

    def completions(self, code: str) -> list[str]:
        """What Tab offers at the end of the code."""
        reply = self.client.complete(code, reply=True, timeout=30)
        return list(reply["content"]["matches"])

    def documentation(self, code: str) -> str:
        """What `code?` shows."""
        reply = self.client.inspect(code, reply=True, timeout=30)
        return _COLOUR.sub("", reply["content"]["data"].get("text/plain", ""))

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def _next(self, timeout_s: float) -> dict[str, Any] | None:
        try:
            message: dict[str, Any] = self.client.get_iopub_msg(timeout=timeout_s)
        except Empty:
            return None
        self.messages.append(message)
        content = message["content"]
        if message["msg_type"] in ("display_data", "update_display_data"):
            self.displays[content.get("transient", {}).get("display_id", uuid.uuid4().hex)] = content["data"]
        return message


def _take(ran: Ran, message: dict[str, Any]) -> None:
    kind, content = message["msg_type"], message["content"]
    if kind == "stream":
        name = content["name"]
        setattr(ran, name, getattr(ran, name) + content["text"])
    elif kind in ("execute_result", "display_data"):
        ran.results.append(content["data"])
    elif kind == "error":
        ran.ename = content["ename"]
        ran.traceback = _COLOUR.sub("", "\n".join(content["traceback"]))


@contextmanager
def running_kernel(folder: Path) -> Iterator[Kernel]:
    """A fresh kernel that works in `folder`, with nbserve loaded."""
    mark = uuid.uuid4().hex
    runtime = Path(jupyter_runtime_dir())
    runtime.mkdir(parents=True, exist_ok=True)
    connection_file = str(runtime / f"kernel-{mark[:8]}.json")  # given, or its sockets would lie in the working folder
    manager = KernelManager(kernel_name="python3", transport="ipc", connection_file=connection_file)
    manager.start_kernel(cwd=str(folder), env=os.environ | {MARK: mark, "JPY_SESSION_NAME": str(folder / "test.ipynb")})
    client = manager.blocking_client()
    client.start_channels()
    kernel = Kernel(manager, client, mark)
    try:
        client.wait_for_ready(timeout=60)
        kernel.ok("import nbserve\n%load_ext nbserve")
        yield kernel
    finally:
        client.stop_channels()
        if manager.is_alive():
            manager.shutdown_kernel()
        manager.cleanup_resources()
        client.context.term()
        end_marked(mark)


def marked(mark: str) -> list[int]:
    """Processes that carry the mark: the kernel and whatever came of it."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _carries(path, mark)]


def end_marked(mark: str) -> None:
    """End what a failed test left."""
    for pid in marked(mark):
        with _gone_is_fine():
            os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], Any], timeout_s: float = 20.0, interval_s: float = 0.02) -> Any:
    """Poll until the condition holds; its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(interval_s)
    return value


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except (ProcessLookupError, PermissionError):
        return


def _carries(process: Path, mark: str) -> bool:
    try:
        if (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        return f"{MARK}={mark}".encode() in (process / "environ").read_bytes()
    except (OSError, IndexError):
        return False
