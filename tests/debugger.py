"""A front end's side of a kernel's debugger: the debug protocol over the control channel, as JupyterLab speaks it."""

from __future__ import annotations

from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

from tests.unit.gateway.running import until

__all__ = ["Debugger"]

TIMEOUT_S = 60.0


class Debugger:
    """A front end's side of the debug protocol, over the control channel of a worker's kernel."""

    def __init__(self, connection_file: str) -> None:
        self._client = BlockingKernelClient(connection_file=connection_file)
        self._client.load_connection_file()
        self._client.start_channels(stdin=False, hb=False)
        self._client.wait_for_ready(timeout=TIMEOUT_S)
        self._seq = 0

    def __enter__(self) -> Debugger:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        self._client.context.term()

    def initialize(self) -> None:
        """Begin, again where ipykernel's port was taken: it looks for a free one, lets it go, and debugpy listens there
        half a second later, when a process beside may have it."""
        arguments = {"clientID": "test", "adapterID": "", "linesStartAt1": True, "pathFormat": "path"}
        until(lambda: self._send("initialize", **arguments)["success"], "debugpy listens", TIMEOUT_S)

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The body of the answer."""
        content = self._send(command, **arguments)
        assert content["success"], content
        body: dict[str, Any] = content.get("body") or {}
        return body

    def _send(self, command: str, **arguments: Any) -> dict[str, Any]:
        self._seq += 1
        content = {"type": "request", "seq": self._seq, "command": command, "arguments": arguments}
        message = self._client.session.msg("debug_request", content)
        self._client.control_channel.send(message)
        while True:
            reply: Any = self._client.control_channel.get_msg(timeout=TIMEOUT_S)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                answer: dict[str, Any] = reply["content"]
                return answer

    def stopped(self) -> int:
        """Wait until a thread stops; its id."""
        while True:
            message: Any = self._client.get_iopub_msg(timeout=TIMEOUT_S)
            content = message["content"]
            if message["msg_type"] == "debug_event" and content["event"] == "stopped":
                return int(content["body"]["threadId"])
