"""Starts a gateway process and hears that it listens. Called by `notebook/launcher.py` and by `nbserve serve`.

The configuration, token included, goes over standard input: argv and environment can be read by others. The gateway
answers with one line of JSON on standard output: where it listens, or the error.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec

from nbserve.client import Client
from nbserve.config import PROFILES, GatewayConfig, ProfileName
from nbserve.errors import ErrorInfo, GatewayError

__all__ = ["BINDINGS", "GatewayProcess", "gateway_config", "gateway_environment", "new_token"]

_READY_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 1.0
_KEPT_FROM_WORKERS = ("JPY_", "IPYKERNEL_", "PYDEVD_", "NBSERVE_TOKEN")
"""Set for the notebook's kernel alone: a worker kernel that inherits JPY_PARENT_PID watches the wrong parent. And the
token, which is no business of the handler's."""


BINDINGS = ("GOMP_CPU_AFFINITY", "KMP_AFFINITY", "OMP_PLACES", "OMP_PROC_BIND")
"""Each has libgomp bind the main thread to the first core at the first parallel computation (seen with torch);
OMP_PROC_BIND=false undoes the others."""


class _Answer(msgspec.Struct):
    """The gateway's one line: where it listens, or why it does not."""

    url: str = ""
    port: int = 0
    management_url: str = ""
    pid: int = 0
    error: ErrorInfo | None = None


def new_token() -> str:
    """A random bearer token."""
    return secrets.token_urlsafe(24)


def gateway_config(profile: ProfileName, **options: object) -> GatewayConfig:
    """A profile's defaults, then the options given (None = not given); a new id and token where none is given."""
    given = {name: value for name, value in options.items() if value is not None}
    merged = {"id": secrets.token_hex(6), "token": new_token()} | PROFILES[profile] | given
    return msgspec.convert(merged | {"profile": profile}, GatewayConfig)


def gateway_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a gateway started from a kernel."""
    return {name: value for name, value in environment.items() if not name.startswith(_KEPT_FROM_WORKERS)}


class GatewayProcess:
    """A gateway that this process started, in a session of its own: Ctrl-C here does not reach it.

    `log`: file for its standard error; None = ours. `environment`: variables beside ours. Raises GatewayError with the
    gateway's own reason (port taken by whom, ...) or the end of its log.
    """

    def __init__(
        self, config: GatewayConfig, *, log: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self.log = log
        with contextlib.ExitStack() as stack:
            stderr = stack.enter_context(_private_log(log)) if log else None
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nbserve.gateway"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=gateway_environment(os.environ | dict(environment or {})),
                start_new_session=True,
            )
        _undo_binding(self._process.pid)  # before it has its configuration: it has not yet looked at its cores
        try:
            answer = self._handshake()
        except BaseException:  # Ctrl-C included: no gateway that nobody knows of
            self.kill()
            raise
        self.url = answer.url
        self.port = answer.port
        self.pid = self._process.pid
        self.client = Client(answer.url, config.token or config.owner_token, answer.management_url)

    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end: the exit code, or None where it still runs after `timeout_s`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def terminate(self) -> None:
        """Ask it to drain and end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, and reap it."""
        self._process.kill()
        self._process.wait()
        self._close_pipes()

    def _handshake(self) -> _Answer:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already: the answer below says why
            stdin.write(msgspec.json.encode(self.config) + b"\n")
            stdin.flush()
        line = _read_line(stdout, _READY_TIMEOUT_S)
        self._close_pipes()
        try:
            answer = msgspec.json.decode(line, type=_Answer)
        except msgspec.MsgspecError:
            raise self._mute(line) from None
        if answer.error is not None:
            self._process.wait()
            error = answer.error
            raise GatewayError(error.message, hint=error.hint, info=error)
        return answer

    def _mute(self, line: bytes) -> GatewayError:
        """The error for a gateway that ended, or hung, before it said anything that can be read."""
        code = self.wait(_END_TIMEOUT_S)  # where its output has ended, it is about to
        state = f"ended with exit code {code}" if code is not None else f"did not answer within {_READY_TIMEOUT_S:g} s"
        said = line.decode(errors="replace").strip()
        tail = _tail(self.log) if self.log else ""
        detail = "\n".join(part for part in (said, tail) if part)
        return GatewayError(
            f"the gateway {state}" + (f"\n{detail}" if detail else ""),
            hint=f"its whole log is {self.log}" if self.log else "its log is above",
        )

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _undo_binding(pid: int) -> None:
    """A process of ours inherits our main thread's cores; where OpenMP has bound that one, it is given our parent's."""
    bound = any(name in os.environ for name in BINDINGS) and os.environ.get("OMP_PROC_BIND", "").lower() != "false"
    if bound and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # the parent may have gone, or be somebody else's
            os.sched_setaffinity(pid, os.sched_getaffinity(os.getppid()))


def _read_line(pipe: IO[bytes], timeout_s: float) -> bytes:
    """One line, or what came until the end of file or the deadline."""
    deadline = time.monotonic() + timeout_s
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                break
            chunk = os.read(pipe.fileno(), 65536)
            if not chunk:
                break
            line += chunk
    return line


def _private_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _tail(path: Path, lines: int = 15) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""
