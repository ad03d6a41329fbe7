"""The verb `attach`: hold a worker aside, or let it serve without time limits, and run code in its Jupyter kernel.

Called by verbs.py and `Endpoint`. The gateway holds the worker; code goes straight to its kernel, over the sockets that
its connection file names (they are the owner's only). jupyter_client is imported when code is run.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

import msgspec

from nbserve.errors import GatewayError, UsageError
from nbserve.resolve import Served
from nbserve.wire.failure import HeldWorker

__all__ = ["Attached", "Ran", "attach", "run_in_kernel", "shown"]

READY_TIMEOUT_S = 60.0
"""A worker answers its shell between two batches; a batch may take as long as `response_timeout_s`."""
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


class Ran(msgspec.Struct):
    """What code did in a worker: all that it printed and showed, and whether it raised."""

    output: str
    failed: bool


class Attached(msgspec.Struct):
    """A worker as `attach` left it; `ran` where code was run."""

    worker: HeldWorker
    ran: Ran | None = None

    @property
    def failed(self) -> bool:
        """Whether the code raised."""
        return self.ran is not None and self.ran.failed


def attach(
    served: Served,
    worker: int = 0,
    run: str | None = None,
    serve: bool = False,
    seconds: float = 600.0,
    release: bool = False,
) -> Attached:
    """Hold a worker until `release`, for `seconds` at most; its requests go to the others, or wait.

    serve: it goes on serving, but without time limits, for breakpoints. run: code for its shell; a worker that was not
    held before is held only while it runs. Raises NotFound; Conflict where the worker does not run; UsageError.
    """
    client, where = served.client, (served.name, worker, served.version)
    if release:
        if run is not None or serve:
            raise UsageError("--release gives the worker back: it goes with no other option")
        return Attached(client.release_worker(*where))
    before = _is_held(served, worker)
    held = client.hold_worker(*where, seconds=seconds, serves=serve)
    if run is None:
        return Attached(held)
    try:
        ran = run_in_kernel(held.connection_file, run, timeout_s=seconds)
    finally:
        if not (before or serve):
            held = client.release_worker(*where)
    return Attached(held, ran)


def _is_held(served: Served, worker: int) -> bool:
    model = served.model()
    return any(one.id == worker and one.held for one in model.workers)


def run_in_kernel(connection_file: str, code: str, *, timeout_s: float) -> Ran:
    """Run code in a kernel's shell as a console does; returns when it is done.

    Raises GatewayError where the kernel has gone, or is not done after `timeout_s`. Ctrl-C ends the waiting, not the
    code.
    """
    import zmq
    from jupyter_client.blocking.client import BlockingKernelClient

    parts: list[str] = []

    def take(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            parts.append(content["text"])
        elif message["msg_type"] in ("execute_result", "display_data"):
            parts.append(content["data"].get("text/plain", "") + "\n")
        elif message["msg_type"] == "error":
            parts.append("\n".join(content["traceback"]) + "\n")

    with zmq.Context() as context:
        client = BlockingKernelClient(connection_file=connection_file, context=context)
        client.load_connection_file()
        client.start_channels(stdin=False, hb=False)
        try:
            client.wait_for_ready(timeout=min(timeout_s, READY_TIMEOUT_S))
            reply = client.execute_interactive(
                code, store_history=False, allow_stdin=False, timeout=timeout_s, output_hook=take
            )
        except (RuntimeError, TimeoutError) as exc:  # as jupyter_client says it
            raise GatewayError(
                f"the worker's kernel did not answer: {exc}",
                hint="`nbserve status` shows whether it runs, and `nbserve logs` what it was at",
            ) from exc
        finally:
            client.stop_channels()
    return Ran(_COLOUR.sub("", "".join(parts)), failed=reply["content"]["status"] != "ok")


def shown(data: Attached) -> str:
    """What was run, then how to go on; for terminal and notebook."""
    ran = data.ran.output.rstrip("\n") if data.ran is not None else ""
    return ran if data.ran is not None and not data.worker.held else "\n".join(filter(None, [ran, _how_to_go_on(data)]))


def _how_to_go_on(data: Attached) -> str:
    worker = data.worker
    name = f"{worker.model} #{worker.worker} (pid {worker.pid})"
    if not worker.held:
        return f"{name} serves"
    if worker.serves:
        held = f"{name} goes on serving, for {worker.seconds:.0f} s without time limits"
    else:
        held = f"{name} is held for {worker.seconds:.0f} s: {_where_requests_go(worker)}"
    attach_it = f"nbserve attach {shlex.quote(worker.model)} {worker.worker}"
    return "\n".join(
        [
            held,
            f"  jupyter console --existing {shlex.quote(worker.connection_file)}",
            f'  {attach_it} --run "handler"',
            f"  {attach_it} --release",
        ]
    )


def _where_requests_go(worker: HeldWorker) -> str:
    if worker.others:
        return f"requests go to {worker.others} other worker{'s' if worker.others > 1 else ''}"
    return "it is the only one that serves, so requests wait in the queue"
