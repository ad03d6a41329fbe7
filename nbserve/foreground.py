"""`nbserve serve BUNDLE`: a gateway in the server or container profile, in the foreground, until Ctrl-C or SIGTERM.

Called by the verb `serve` of the CLI; in an image it is process 1. The gateway is a child that lives and dies with this
process.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from nbserve.client import Client
from nbserve.config import ModelConfig, ProfileName
from nbserve.errors import GatewayError, UsageError
from nbserve.launch import GatewayProcess, gateway_config, new_token
from nbserve.tables import log_lines
from nbserve.wire.management import ModelStatus

__all__ = ["serve_bundle"]

_STOP_TIMEOUT_S = 35.0
"""A little more than the gateway's own shutdown grace."""


def serve_bundle(
    bundle: Path,
    *,
    name: str,
    config: ModelConfig,
    profile: ProfileName,
    host: str | None = None,
    port: int | None = None,
    management_port: int | None = None,
    metrics_port: int | None = None,
    token: str | None = None,
) -> None:
    """Serve one bundle until Ctrl-C. Ports and host not given are the profile's; `port` 0 = any free, for each.

    Without a token the server profile makes one; the container profile has inference open and management off.
    Raises UsageError where there is no such folder or no temporary one, GatewayError where the gateway cannot start or
    ends by itself, LoadError or ProofError where the bundle does not come to serve.
    """
    if not bundle.is_dir():
        raise UsageError(f"no bundle at {bundle}", hint="give the folder that holds manifest.json")
    _check_temporary_folder()
    if port == 0 and profile == "server":
        management_port = management_port or 0
        metrics_port = metrics_port or 0
    in_container = profile == "container"
    gateway = gateway_config(
        profile,
        name=name or bundle.name,
        host=host,
        port=port,
        management_port=management_port,
        metrics_port=metrics_port,
        token=token or ("" if in_container else None),
        owner_token=new_token() if in_container and not token else None,
        owner_pid=os.getpid(),
    )
    with _stop_signals():
        process: GatewayProcess | None = None
        try:
            process = GatewayProcess(gateway)
            if os.getpid() == 1:
                _reap_orphans(process.pid)
            _follow(process.client)
            model = process.client.register(str(bundle.resolve()), name=name, config=config)
            _announce(model, process)
            code = process.wait()
            raise GatewayError(f"the gateway ended by itself with exit code {code}", hint="its log is above")
        except KeyboardInterrupt:
            _say("stopping: requests in flight are finished")
        finally:
            if process is not None:
                _stop(process)


def _check_temporary_folder() -> None:
    """Sockets lie there; a container may be all read-only."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as exc:
        raise UsageError("no folder for temporary files can be written to", hint="mount one: --tmpfs /tmp") from exc


def _announce(model: ModelStatus, process: GatewayProcess) -> None:
    _say(f"{model.name} version {model.version} is ready at {model.url}")
    if not process.config.token:
        _say("inference is open; management is off: no token was given (NBSERVE_TOKEN)")
        return
    _say(f"management: {process.client.management_url}; gateway pid {process.pid}")
    _say(f"token: `nbserve token {model.name}` prints it; Ctrl-C stops")


def _reap_orphans(gateway_pid: int) -> None:
    """Process 1 inherits what handlers leave behind: collected here, or it stays as zombies. The gateway is waited for
    by whoever started it."""

    def reap() -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)) and ended.si_pid != gateway_pid:
                os.waitpid(ended.si_pid, 0)

    threading.Thread(target=reap, name="nbserve-reaper", daemon=True).start()


def _follow(client: Client) -> None:
    """Show stages and the workers' prints, from a thread that ends with the gateway."""

    def show() -> None:
        try:
            for event in client.events():
                if event.kind == "stage":
                    _say(f"{event.model} version {event.version}: {event.stage}")
                elif event.kind in ("log", "error"):
                    _say("\n".join(log_lines(event)))
        except GatewayError:
            return  # it ended: the main thread says so

    threading.Thread(target=show, name="nbserve-events", daemon=True).start()


def _stop(process: GatewayProcess) -> None:
    process.terminate()
    if process.wait(_STOP_TIMEOUT_S) is None:
        process.kill()


@contextmanager
def _stop_signals() -> Iterator[None]:
    """SIGTERM (containers, service managers) stops as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
