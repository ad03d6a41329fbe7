"""This notebook's gateway: started at the first serve, on the port it had last time, and gone with the kernel.

Called by `serve.py`. A detached gateway (`--detach`) outlives the kernel and is found again by the next one of the
same notebook.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nbserve import discovery
from nbserve.client import Client
from nbserve.discovery import GatewayRecord
from nbserve.errors import GatewayError, UsageError
from nbserve.launch import GatewayProcess, gateway_config

__all__ = ["NotebookGateway", "kernel_id", "notebook_name"]

_STOP_TIMEOUT_S = 35.0
"""A little more than the gateway's own shutdown grace."""
_DYING_S = 1.0
"""One that was killed answers nobody, and is reaped some milliseconds later."""
_LOGS_KEPT = 20


def notebook_name(namespace: Mapping[str, Any]) -> str:
    """What this notebook is called: its path where the front end says it, else the working directory."""
    path = os.environ.get("JPY_SESSION_NAME") or namespace.get("__vsc_ipynb_file__")
    return str(path) if path else os.getcwd()


def kernel_id(ip: Any) -> str:
    """Jupyter's id of this kernel, from its connection file; empty in a terminal's IPython."""
    if not hasattr(ip, "kernel"):
        return ""
    from ipykernel.connect import get_connection_file

    return Path(get_connection_file()).stem.removeprefix("kernel-")


class NotebookGateway:
    """At most one gateway that lives with this kernel, and one detached; both started on demand."""

    def __init__(self, name: str, kernel_id: str = "") -> None:
        self.name = name
        self.kernel_id = kernel_id
        self._process: GatewayProcess | None = None
        self._detached: Client | None = None
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="nbserve-gateway")
        self._starting: Future[GatewayProcess] | None = None

    def begin(self) -> None:
        """Start the one of this kernel in the background where it does not run: `client` waits for less, or not at all.

        The detached one is not begun: a cell that fails would leave it behind.
        """
        if (self._starting is None or self._starting.done()) and self.running() is None:
            self._starting = self._starter.submit(self._start, 0)

    def client(self, *, detach: bool = False) -> Client:
        """The client of the running gateway; starts one where there is none. Raises GatewayError."""
        if detach:
            return self._detached_client()
        self._finish_starting()
        if self._process is not None and self._process.is_running():
            return self._process.client
        return self._start(port=0).client

    def _finish_starting(self) -> None:
        """Wait for the one that was begun. Raises GatewayError where it did not come to be."""
        if self._starting is not None:
            try:
                self._starting.result()
            finally:
                if self._starting.done():  # after Ctrl-C it goes on, and the next cell finds it
                    self._starting = None

    def running(self, *, detach: bool = False) -> Client | None:
        """The client of the gateway that runs; none is started for it."""
        if detach:
            return self._detached
        return self._process.client if self._process is not None and self._process.is_running() else None

    @property
    def obituary(self) -> str:
        """Why this kernel's gateway is gone where nobody has asked it to go; empty otherwise."""
        if self._process is None or self._answers():
            return ""
        code = self._process.wait(_DYING_S)  # it may be about to: killed, and not yet there to be waited for
        if not code:
            return ""
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"run the serving cells again: this notebook's gateway {how} (its log: {self._process.log})"

    def _answers(self) -> bool:
        assert self._process is not None
        with contextlib.suppress(GatewayError):
            self._process.client.status()
            return True
        return False

    def move(self, port: int) -> Client:
        """Start anew on this port (the remembered one from now on). Raises UsageError while models are served."""
        with contextlib.suppress(GatewayError):
            self._finish_starting()
        if self._process is not None and self._process.is_running():
            served = sorted({model.name for model in self._process.client.models()})
            if served:
                raise UsageError(
                    f"the gateway serves {', '.join(served)}; its port cannot be changed under them",
                    hint=f"`%nbserve stop --all`, then `%nbserve gateway --port {port}`, then run the serving cells",
                )
            self.close()
        return self._start(port=port).client

    def close(self) -> None:
        """End the attached gateway, and wait for it; a detached one goes on."""
        with contextlib.suppress(GatewayError):
            self._finish_starting()
        if self._process is None:
            return
        self._process.terminate()
        if self._process.wait(_STOP_TIMEOUT_S) is None:
            self._process.kill()
        self._process = None

    def _start(self, port: int) -> GatewayProcess:
        self._process = self._launch(port=port, owner_pid=os.getpid(), key=self.name)
        return self._process

    def _detached_client(self) -> Client:
        known = self._detached or self._find_detached()
        if known is not None:
            with contextlib.suppress(GatewayError):
                known.status()
                self._detached = known
                return known
        self._detached = self._launch(port=0, owner_pid=None, key=f"{self.name} (detached)").client
        return self._detached

    def _find_detached(self) -> Client | None:
        for record in discovery.records():
            if record.name == self.name and record.profile == "notebook" and _is_detached(record):
                return Client.of(record)
        return None

    def _launch(self, *, port: int, owner_pid: int | None, key: str) -> GatewayProcess:
        config = gateway_config(
            "notebook",
            name=self.name,
            kernel_id=self.kernel_id,
            port=port,
            preferred_port=discovery.remembered_port(key),
            owner_pid=owner_pid,
        )
        started = GatewayProcess(config, log=_log_file(config.id))
        discovery.remember_port(key, started.port)
        return started


def _is_detached(record: GatewayRecord) -> bool:
    with Client.of(record) as client, contextlib.suppress(GatewayError):
        return client.status().owner_pid is None
    return False


def _log_file(gateway_id: str) -> Path:
    """A new log for this gateway; logs of gateways long gone are deleted."""
    folder = discovery.home() / "logs"
    for old in sorted(folder.glob("gateway-*.log"), key=_modified)[:-_LOGS_KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()
    return folder / f"gateway-{gateway_id}.log"


def _modified(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0
