"""The ports of a gateway: bound before anything else, so that a taken one is an error with a name.

Used by gateway/__main__ and gateway/gateway.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass

import psutil

from nbserve.config import GatewayConfig
from nbserve.errors import GatewayError

__all__ = ["BACKLOG", "Ports", "bind_ports"]

BACKLOG = 1024


@dataclass(frozen=True)
class Ports:
    """Listening sockets; management and metrics None where they share the first."""

    inference: socket.socket
    management: socket.socket | None
    metrics: socket.socket | None
    host: str
    """As it stands in URLs."""

    @property
    def url(self) -> str:
        """Of the inference API."""
        return self._url(self.inference)

    @property
    def management_url(self) -> str:
        """Of the management API."""
        return self._url(self.management or self.inference)

    @property
    def metrics_url(self) -> str:
        """Where /metrics is."""
        return self._url(self.metrics or self.inference)

    @property
    def port(self) -> int:
        """Of the inference API."""
        return int(self.inference.getsockname()[1])

    def close(self) -> None:
        """Close all; for a gateway that does not come to run."""
        for sock in (self.inference, self.management, self.metrics):
            if sock is not None:
                sock.close()

    def _url(self, sock: socket.socket) -> str:
        return f"http://{self.host}:{sock.getsockname()[1]}"


def bind_ports(config: GatewayConfig) -> Ports:
    """Bind and listen on all of them. Raises GatewayError, saying who has a port that is taken."""
    with contextlib.ExitStack() as stack:
        inference = stack.enter_context(_bind_preferred(config))
        management = metrics = None
        if config.management_port is not None:
            management = stack.enter_context(_bind(config.host, config.management_port))
        if config.metrics_port is not None:
            metrics = stack.enter_context(_bind(config.host, config.metrics_port))
        stack.pop_all()
    return Ports(inference, management, metrics, _url_host(config.host))


def _bind_preferred(config: GatewayConfig) -> socket.socket:
    if config.port == 0 and config.preferred_port:
        with contextlib.suppress(GatewayError):
            return _bind(config.host, config.preferred_port)
    return _bind(config.host, config.port)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise _explain(host, port, exc) from exc
    return sock


def _explain(host: str, port: int, exc: OSError) -> GatewayError:
    if exc.errno == errno.EADDRINUSE:
        return GatewayError(f"port {port} is taken by {_holder(port)}", hint="choose another port, or end that process")
    if exc.errno == errno.EACCES:
        return GatewayError(f"port {port} needs privileges", hint="choose one from 1024 on")
    return GatewayError(f"cannot listen on {host}:{port}: {exc.strerror or exc}")


def _holder(port: int) -> str:
    """Who listens there, as far as this user may see."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                return _name(connection.pid)
    return "another process"


def _name(pid: int | None) -> str:
    if pid is None:
        return "a process of another user"
    with contextlib.suppress(psutil.Error):
        command = " ".join(psutil.Process(pid).cmdline()[:4])
        return f"{psutil.Process(pid).name()} (pid {pid}: {command})"
    return f"pid {pid}"


def _url_host(host: str) -> str:
    if host in ("0.0.0.0", ""):
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
