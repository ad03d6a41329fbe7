"""What is measured: where requests go, their very bytes, what an endpoint of ours says of itself. Called by `bench.py`.

An endpoint of ours brings its token, its sample and its status; any other URL is measured from the outside alone.
"""

from __future__ import annotations

import mimetypes
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from nbserve.client import Client
from nbserve.errors import MeasureError, NbserveError, RequestError, UsageError
from nbserve.explanation import read_sample
from nbserve.measure.options import Body
from nbserve.measure.scheduling import waited_s
from nbserve.resolve import Served
from nbserve.wire.codec import JSON, OCTETS, encode_value
from nbserve.wire.management import GatewayStatus, ModelStatus

__all__ = [
    "GONE",
    "Snapshot",
    "Target",
    "bodies_from_file",
    "body_of_value",
    "endpoint",
    "foreign",
    "is_url",
    "served_at",
]

_PROBES = 3
"""Requests before the load: one of them must be answered well (an endpoint may refuse now and then)."""
_PROBE_TIMEOUT_S = 60.0
_TYPES = {".json": JSON, ".jsonl": JSON, ".ndjson": JSON, ".txt": "text/plain"}
GONE = ("STOPPED", "FAILED")
"""States of workers that take no requests and no cores."""
_OWN_HEADERS = ("content-length", "transfer-encoding", "connection", "host")


@dataclass(frozen=True)
class Snapshot:
    """What an endpoint of ours had used at one moment: CPU seconds, batches by size."""

    at_s: float
    gateway_cpu_s: float
    gateway_waited_s: float
    workers_cpu_s: float
    batch_sizes: dict[int, int]


@dataclass(frozen=True)
class Target:
    """One endpoint under load. `requests`: whole HTTP/1.1 requests, the token in them.

    offsets_s: of a recording, when each of them is due from the start; else empty.
    """

    name: str
    url: str
    host: str
    port: int
    tls: bool
    bodies: tuple[Body, ...]
    requests: tuple[bytes, ...]
    method: str
    served: Served | None = None
    model: ModelStatus | None = None
    gateway: GatewayStatus | None = None
    offsets_s: tuple[float, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether requests stay on this machine, so that its cores are shared with the load."""
        return self.host in ("localhost", socket.gethostname()) or self.host.startswith("127.") or self.host == "::1"

    @property
    def worker_cores(self) -> list[int]:
        """Cores that workers of its gateway are pinned to, those of other models too."""
        if self.gateway is None:
            return []
        workers = [worker for model in self.gateway.models for worker in model.workers]
        return sorted({core for worker in workers if worker.state not in GONE for core in worker.cores})

    def probe(self) -> None:
        """One request, whose answer must be right. Raises MeasureError with what the endpoint said instead."""
        for attempt in range(_PROBES):
            try:
                return self._probe()
            except MeasureError:
                if attempt == _PROBES - 1:
                    raise
                time.sleep(0.2)
        return None

    def snapshot(self) -> Snapshot | None:
        """Its counters now; None where it is not ours, or its processes are not this machine's."""
        if self.served is None or self.gateway is None:
            return None
        model = self.served.model()
        pids = [worker.pid for worker in model.workers if worker.pid is not None]
        gateway_cpu_s, workers_cpu_s = _cpu_s([self.gateway.pid]), _cpu_s(pids)
        if gateway_cpu_s is None or workers_cpu_s is None:
            return None
        sizes = {int(size): count for size, count in model.batch_sizes.items()}
        return Snapshot(time.monotonic(), gateway_cpu_s, waited_s(self.gateway.pid), workers_cpu_s, sizes)

    def _probe(self) -> None:
        body = self.bodies[0]
        if self.served is not None and self.model is not None:
            try:
                self.served.client.predict(self.name, body.content, body.content_type, self.served.version)
            except RequestError as exc:
                hint = exc.hint or "say what to send with --data"
                message = f"{self.name} answers {exc.status} to the request: {exc.message}"
                raise MeasureError(message, hint=hint, info=exc.info) from exc
        else:
            self._probe_foreign()

    def _probe_foreign(self) -> None:
        import httpx

        head, _, content = self.requests[0].partition(b"\r\n\r\n")
        lines = (line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:])
        headers = {name: value for name, _, value in lines if name.lower() not in _OWN_HEADERS}
        try:
            trust = ssl.create_default_context() if self.tls else False  # the same as the load's
            with httpx.Client(trust_env=False, verify=trust, timeout=_PROBE_TIMEOUT_S) as client:
                answer = client.request(self.method, self.url, content=content or None, headers=headers)
        except httpx.TransportError as exc:
            raise MeasureError(
                f"nothing can be measured at {self.url}: {exc or type(exc).__name__}",
                hint="is the server running, and is this its address?",
            ) from exc
        if not answer.is_success:
            moved = f" (to {answer.headers['location']})" if "location" in answer.headers else ""
            raise MeasureError(
                f"{self.url} answers {answer.status_code} {answer.reason_phrase}{moved} to {self.method}: "
                f"{answer.text.strip()[:300]}",
                hint="see --method, --data, --content-type and --header",
            )


def endpoint(served: Served, bodies: Sequence[Body], headers: Mapping[str, str] | None = None) -> Target:
    """An endpoint of ours; `bodies` empty = its bundle's sample. Raises UsageError where there is none."""
    model = served.model()
    client = served.client
    path = "/".join(quote(part, safe="") for part in (served.name, served.version) if part)
    sent = {"Authorization": f"Bearer {client.token}"} if client.token else {}
    return _target(
        served.name,
        f"{client.url}/predictions/{path}",
        "POST",
        tuple(bodies) or (sample_body(model),),
        sent | dict(headers or {}),
        served=served,
        model=model,
        gateway=client.status(),
    )


def foreign(url: str, method: str, bodies: Sequence[Body], headers: Mapping[str, str]) -> Target:
    """Any URL. `method` empty: POST where there is a body, else GET. Raises UsageError for what cannot be asked."""
    method = (method or ("POST" if bodies else "GET")).upper()
    if method == "HEAD":
        raise UsageError("--method HEAD has no answer to measure", hint="measure GET or POST")
    return _target(url, url, method, tuple(bodies) or (Body(b"", ""),), headers)


def bodies_from_file(path: Path, content_type: str = "") -> list[Body]:
    """A file's bodies: one a line for .jsonl and .ndjson, else the whole file; the type by its suffix.

    Raises UsageError where it cannot be read, or has nothing in it.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise UsageError(f"--data: cannot read {path}: {exc.strerror}") from exc
    suffix = path.suffix.lower()
    kind = content_type or _TYPES.get(suffix) or mimetypes.guess_type(path.name)[0] or OCTETS
    parts = content.splitlines() if suffix in (".jsonl", ".ndjson") else [content]
    bodies = [Body(part, kind) for part in parts if part.strip()]
    if not bodies:
        raise UsageError(f"--data: {path} is empty")
    return bodies


def body_of_value(value: object, content_type: str = "") -> Body:
    """A value of the notebook as `predict` sends it: plain data, tensors and arrays as JSON, bytes as they are."""
    try:
        content, kind = encode_value(value)
    except NbserveError as exc:
        raise UsageError(f"--data: {exc.message}", hint=exc.hint) from exc
    return Body(content, content_type or kind)


def sample_body(model: ModelStatus) -> Body:
    """The request that an endpoint was served with. Raises UsageError where it was served without."""
    sample = read_sample(model.bundle)
    if sample is None:
        raise UsageError(
            f"{model.name} was served without a sample: there is nothing to send",
            hint="give one with --data FILE (in a notebook --data EXPR), or serve it with --sample",
        )
    return Body(sample.body, sample.content_type)


def _target(
    name: str,
    url: str,
    method: str,
    bodies: tuple[Body, ...],
    headers: Mapping[str, str],
    *,
    served: Served | None = None,
    model: ModelStatus | None = None,
    gateway: GatewayStatus | None = None,
) -> Target:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        host = parts.hostname or ""
    except (ValueError, KeyError):
        host, port = "", 0
    if not host:
        hint = "http://HOST:PORT/PATH, https://..., or an endpoint's name"
        raise UsageError(f"{url!r} is no URL to measure", hint=hint)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    requests = tuple(_request(method, path, parts.netloc.rpartition("@")[2], body, headers) for body in bodies)
    return Target(name, url, host, port, parts.scheme == "https", bodies, requests, method, served, model, gateway)


def _request(method: str, path: str, host: str, body: Body, headers: Mapping[str, str]) -> bytes:
    fields = {"Host": host, "User-Agent": "nbserve-bench", "Accept": "*/*"}
    if body.content or method in ("POST", "PUT", "PATCH"):
        fields["Content-Length"] = str(len(body.content))
    if body.content_type:
        fields["Content-Type"] = body.content_type
    fields |= headers
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if any(set(line) & {"\r", "\n", "\0"} or not line.isascii() for line in lines):
        raise UsageError("a header, the method or the URL has characters that HTTP does not allow")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body.content


def _cpu_s(pids: Sequence[int]) -> float | None:
    """User and system time of these processes so far; None where one of them cannot be asked."""
    import psutil

    try:
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)
    except psutil.Error:
        return None


def is_url(word: str) -> bool:
    """Whether a user's NAME|URL is a URL."""
    return "://" in word


def served_at(url: str, clients: Sequence[Client]) -> Served | None:
    """The endpoint of ours that answers at this URL, if one of these gateways does."""
    path = urlsplit(url).path.rstrip("/").split("/")
    if len(path) not in (3, 4) or path[1] != "predictions" or urlsplit(url).query:
        return None
    for client in clients:
        if urlsplit(client.url).netloc == urlsplit(url).netloc:
            return Served(client, path[2], path[3] if len(path) == 4 else "")
    return None
