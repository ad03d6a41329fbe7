"""A real gateway process with real workers for tests, bundles to serve, and raw HTTP to talk to it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nbserve.bundle import Sample
from nbserve.bundle.folder import Content, write_bundle
from nbserve.bundle.manifest import HandlerRecord, Manifest, Provenance
from nbserve.config import GatewayConfig
from nbserve.launch import GatewayProcess

TIMEOUT_S = 30.0

OBEDIENT = '''
import os
import signal
import sys
import time


class Obedient:
    """Does what the request says."""

    def initialize(self, context):
        self.context = context
        print("initialize was here", flush=True)

    def preprocess(self, rows):
        return [row.payload for row in rows]

    def inference(self, batch):
        self.context.metrics.counter("rows_seen", "Rows").inc(len(batch))
        self.context.metrics.gauge("last_batch", "Size").set(len(batch))
        self.context.metrics.histogram("row_sizes", buckets=[1, 10]).observe(len(str(batch)))
        return [self.answer(payload) for payload in batch]

    def answer(self, payload):
        if isinstance(payload, dict):
            if "sleep_s" in payload:
                time.sleep(payload["sleep_s"])
            if "print" in payload:
                print(payload["print"], flush=True)
            if "raise" in payload:
                secret = "/etc/the/secret/path"
                raise ValueError(payload["raise"] + secret)
            if payload.get("die"):
                os.kill(os.getpid(), signal.SIGKILL)
            if payload.get("die_once") and not os.path.exists(payload["die_once"]):
                open(payload["die_once"], "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            if payload.get("pid"):
                return os.getpid()
        return {"echo": payload}

    def postprocess(self, answers):
        return answers
'''

SAMPLE = Sample(
    content_type="application/json",
    body=b'"hello"',
    expected_content_type="application/json",
    expected_body=b'{"echo":"hello"}',
)


def make_bundle(root: Path, name: str = "obedient", source: str = OBEDIENT, sample: Sample | None = SAMPLE) -> Path:
    """A bundle whose handler is the class `Obedient` of the source."""
    manifest = Manifest(name=name, handler=HandlerRecord("Obedient", "class"), python="3.11")
    content = Content({"handler.py": lambda: iter([source.encode()])}, {})
    return write_bundle(root, manifest, content, Provenance(), sample).path


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One raw connection; replies are read one by one."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._data = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reply(self, *, head: bool = False) -> Reply:
        """The next reply. Raises EOFError where the gateway closed without one."""
        while b"\r\n\r\n" not in self._data:
            self._more()
        raw, _, self._data = self._data.partition(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = 0 if head else int(headers.get("content-length", 0))
        while len(self._data) < length:
            self._more()
        body, self._data = self._data[:length], self._data[length:]
        return Reply(int(first.split()[1]), headers, body)

    def is_closed(self) -> bool:
        """Whether the gateway closes it in an orderly way now."""
        self.sock.settimeout(5)
        try:
            return self.sock.recv(1) == b""
        except TimeoutError:
            return False

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(f"closed after {self._data!r}")
        self._data += data


class Running:
    """A gateway under test."""

    def __init__(self, process: GatewayProcess) -> None:
        self.process = process
        self.client = process.client
        self.port = process.port
        self.token = process.config.token

    def connect(self) -> Connection:
        return Connection(self.port)

    def head(self, start: str, *lines: str, token: bool = True, host: str | None = None) -> bytes:
        """The head of a request, with Host and token."""
        fields = [f"Host: {host or f'127.0.0.1:{self.port}'}"]
        if token:
            fields.append(f"Authorization: Bearer {self.token}")
        return "\r\n".join([f"{start} HTTP/1.1", *fields, *lines, "", ""]).encode("latin-1")

    def ask(self, start: str, body: bytes = b"", *lines: str, token: bool = True, host: str | None = None) -> Reply:
        """One request on a connection of its own."""
        with self.connect() as connection:
            length = [f"Content-Length: {len(body)}"] if body or start.startswith(("POST", "PUT")) else []
            connection.send(self.head(start, *length, *lines, token=token, host=host) + body)
            return connection.reply(head=start.startswith("HEAD"))

    def predict(self, payload: Any, name: str = "obedient", *lines: str) -> Reply:
        body = json.dumps(payload).encode()
        return self.ask(f"POST /predictions/{name}", body, "Content-Type: application/json", *lines)


@contextlib.contextmanager
def running(*, log: Path | None = None, **options: Any) -> Iterator[Running]:
    """A gateway of this test process, a notebook's unless told otherwise; ended, and reaped, afterwards."""
    defaults: dict[str, Any] = {
        "id": secrets.token_hex(6),
        "token": secrets.token_hex(12),
        "development": True,
        "owner_pid": os.getpid(),
        "shutdown_grace_s": 5.0,
    }
    process = GatewayProcess(GatewayConfig(**defaults | options), log=log)
    try:
        yield Running(process)
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
    finally:
        if process.is_running():
            process.kill()
        process.client.close()


def until(condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
    """The condition's first true value; fails after the timeout."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"after {timeout_s:g} s still not: {what}")
