"""HTTP client of one gateway: its management API (wire/management.py) and its predictions.

Used by the notebook, the CLI and `Endpoint`. Synchronous, safe to share between threads. httpx is imported when the
first request is made; proxies and other settings of the environment are left aside (the gateway is this machine's).
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.parse import quote

import msgspec

from nbserve import errors
from nbserve.config import ModelConfig
from nbserve.discovery import GatewayRecord
from nbserve.errors import ErrorInfo, GatewayError, NbserveError, RequestError
from nbserve.wire.failure import Failure, FailureDetail, HeldWorker
from nbserve.wire.management import ErrorBody, Event, GatewayStatus, ModelStatus, RegisterRequest
from nbserve.wire.numbers import Numbers
from nbserve.wire.profile import ProfileRecord, ProfileRequest, ProfileStatus
from nbserve.wire.recording import RecordingStatus, RecordRequest

if TYPE_CHECKING:
    import httpx

__all__ = ["Answer", "Client"]

_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 30.0
"""For calls that the gateway answers at once."""
_TRACE_TIMEOUT_S = 120.0
_MAX_CONNECTIONS = 256

_T = TypeVar("_T")


class Answer(NamedTuple):
    """What a prediction was answered with. `server_timing`: the header, stages in ms; `seconds`: as seen here."""

    status: int
    content_type: str
    body: bytes
    server_timing: str
    request_id: str
    seconds: float


class Client:
    """Talks to the gateway at `url` (inference) and `management_url` (default: the same).

    Every method raises GatewayError where the gateway cannot be reached, and the class of errors.py that the
    gateway's error body names otherwise, with its traceback, stage and hint in `.info`.
    """

    def __init__(self, url: str, token: str, management_url: str = "") -> None:
        self.url = url.rstrip("/")
        self.token = token
        self.management_url = (management_url or url).rstrip("/")
        self._http_client: httpx.Client | None = None

    @classmethod
    def of(cls, record: GatewayRecord) -> Client:
        """The client of a gateway that discovery found."""
        return cls(record.url, record.token, record.management_url)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"  # never the token: reprs end up in notebooks

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client may be used again."""
        if self._http_client is not None:
            self._http_client.close()
            self._http_client = None

    def register(
        self,
        bundle: str,
        *,
        name: str = "",
        version: str = "",
        config: ModelConfig | None = None,
        synchronous: bool = True,
    ) -> ModelStatus:
        """Have the gateway load a bundle folder and serve it as `name` (default: the bundle's own).

        Synchronous: returns when the version serves; raises LoadError or ProofError where it does not come to that.
        Else returns at once; follow `events` or ask `model`.
        """
        config = config or ModelConfig()
        asked = RegisterRequest(url=bundle, model_name=name, version=version, synchronous=synchronous, config=config)
        timeout_s = config.startup_timeout_s * 2 + _ANSWER_TIMEOUT_S if synchronous else _ANSWER_TIMEOUT_S
        return self._manage("POST", "/models", ModelStatus, body=msgspec.json.encode(asked), timeout_s=timeout_s)

    def ping(self) -> None:
        """Return if the gateway is ready for predictions. Raises Unavailable where it still loads its model."""
        self._request("GET", f"{self.url}/ping", timeout_s=_ANSWER_TIMEOUT_S)

    def models(self) -> list[ModelStatus]:
        """Every version of every model."""
        return self.status().models

    def model(self, name: str, version: str = "") -> ModelStatus:
        """One version; without `version` the one that serves (the newest where none does). Raises NotFound."""
        versions = self._manage("GET", _model_path(name, version), list[ModelStatus])
        return next((model for model in versions if model.default), versions[-1])

    def scale(self, name: str, workers: int, version: str = "") -> ModelStatus:
        """Run this many workers; returns when they are ready."""
        path = f"{_model_path(name, version)}?workers={workers}"
        return self._manage("PUT", path, ModelStatus, timeout_s=None)

    def rollback(self, name: str, version: str = "") -> ModelStatus:
        """Serve a replaced version again, the last one where none is named; returns when it serves."""
        path = f"{_model_path(name, 'rollback')}?version={quote(version, safe='')}"
        return self._manage("POST", path, ModelStatus, timeout_s=None)

    def set_default(self, name: str, version: str) -> ModelStatus:
        """Send the requests that name no version to this one."""
        return self._manage("PUT", f"{_model_path(name, version)}/set-default", ModelStatus)

    def unregister(self, name: str, version: str = "") -> None:
        """Drain and stop one version, or with no version all of them."""
        self._request("DELETE", self.management_url + _model_path(name, version), timeout_s=120.0)

    def status(self) -> GatewayStatus:
        """The gateway, its models and workers."""
        return self._manage("GET", "/status", GatewayStatus)

    def numbers(self, name: str, version: str = "", *, since: int = 0) -> Numbers:
        """All that is counted of one version (without `version` the default one), events after `since`.

        Raises NotFound.
        """
        path = f"{_model_path(name, 'numbers')}?since={since}&version={quote(version, safe='')}"
        return self._manage("GET", path, Numbers)

    def logs(self, name: str, version: str = "", *, lines: int = 1000) -> list[Event]:
        """What the handlers of a model printed and what failed: the last `lines` events, oldest first."""
        query = f"?lines={lines}" + (f"&version={quote(version, safe='')}" if version else "")
        return self._manage("GET", f"/logs/{quote(name, safe='')}{query}", list[Event])

    def events(self, since: int = 0, *, follow: bool = True) -> Iterator[Event]:
        """Events after sequence number `since`, oldest first.

        With `follow` it goes on until the gateway ends (the iterator then ends too); close it to stop earlier.
        """
        import httpx

        path = f"{self.management_url}/events?since={since}&follow={str(follow).lower()}"
        timeout = httpx.Timeout(
            _ANSWER_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S, read=None if follow else _ANSWER_TIMEOUT_S
        )
        try:
            with self._http().stream("GET", path, headers=self._headers(), timeout=timeout) as response:
                if response.status_code >= 400:
                    response.read()
                    raise _error_of(response)
                for line in response.iter_lines():
                    if line.strip():
                        yield msgspec.json.decode(line, type=Event)
        except httpx.ConnectError as exc:
            raise self._unreachable(exc) from exc
        except httpx.TransportError as exc:
            if not follow:
                raise self._unreachable(exc) from exc

    def start_recording(self, name: str, asked: RecordRequest) -> RecordingStatus:
        """Keep requests of a model from now on. Raises NotFound, Conflict where it is recorded already, BadRequest."""
        return self._manage("POST", _model_path(name, "record"), RecordingStatus, body=msgspec.json.encode(asked))

    def recording(self, name: str) -> RecordingStatus:
        """How far a recording is. Raises NotFound where there is none."""
        return self._manage("GET", _model_path(name, "record"), RecordingStatus)

    def take_recording(self, name: str) -> Iterator[bytes]:
        """End a recording; its file in parts. The gateway forgets it when all was read. Raises NotFound."""
        import httpx

        url = self.management_url + _model_path(name, "record")
        timeout = httpx.Timeout(_ANSWER_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
        try:
            with self._http().stream("DELETE", url, headers=self._headers(), timeout=timeout) as response:
                if response.status_code >= 400:
                    response.read()
                    raise _error_of(response)
                yield from response.iter_bytes()
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc

    def failures(self, name: str, version: str = "") -> list[Failure]:
        """The failed requests of a model that its gateway remembers, the last one first. Raises NotFound."""
        path = _model_path(name, "failures") + (f"?version={quote(version, safe='')}" if version else "")
        return self._manage("GET", path, list[Failure])

    def failure(self, name: str, word: str) -> FailureDetail:
        """One of them with its body: by its id, its request's id, or `last`. Raises NotFound."""
        return self._manage("GET", f"{_model_path(name, 'failures')}/{quote(word, safe='')}", FailureDetail)

    def forget_failures(self, name: str) -> None:
        """Have the gateway forget them. Raises NotFound."""
        self._request("DELETE", self.management_url + _model_path(name, "failures"), timeout_s=_ANSWER_TIMEOUT_S)

    def hold_worker(
        self, name: str, worker: int, version: str = "", *, seconds: float = 600.0, serves: bool = False
    ) -> HeldWorker:
        """Send a worker no requests (`serves`: requests without a time limit), for so long or until `release_worker`.

        Raises NotFound; Conflict where it does not run.
        """
        query = f"seconds={seconds:g}&serves={str(serves).lower()}&version={quote(version, safe='')}"
        return self._manage("PUT", f"{_model_path(name, 'workers')}/{worker}/hold?{query}", HeldWorker)

    def release_worker(self, name: str, worker: int, version: str = "") -> HeldWorker:
        """Have a worker serve as before. Raises NotFound."""
        query = f"version={quote(version, safe='')}"
        return self._manage("DELETE", f"{_model_path(name, 'workers')}/{worker}/hold?{query}", HeldWorker)

    def start_profile(self, name: str, asked: ProfileRequest, version: str = "") -> ProfileStatus:
        """Profile a live worker from now on. Raises NotFound, Conflict where one goes on, BadRequest, Unavailable."""
        path = f"{_model_path(name, 'profile')}?version={quote(version, safe='')}"
        return self._manage("POST", path, ProfileStatus, body=msgspec.json.encode(asked))

    def profile_status(self, name: str) -> ProfileStatus:
        """Of the profile that goes on, else of the last. Raises NotFound."""
        return self._manage("GET", _model_path(name, "profile"), ProfileStatus)

    def stop_profile(self, name: str) -> ProfileStatus:
        """End the one that goes on; it is over when `profile_status` says so. Raises NotFound."""
        return self._manage("DELETE", _model_path(name, "profile"), ProfileStatus)

    def profiles(self, name: str) -> list[ProfileStatus]:
        """Those that the gateway keeps, newest first. Raises NotFound."""
        return self._manage("GET", _model_path(name, "profiles"), list[ProfileStatus])

    def profile_record(self, name: str, id_: str = "last") -> ProfileRecord:
        """All of a profile but its trace. Raises NotFound, Conflict while it goes on."""
        return self._manage("GET", f"{_model_path(name, 'profiles')}/{quote(id_, safe='')}", ProfileRecord)

    def profile_trace(self, name: str, id_: str = "last") -> bytes:
        """The trace that torch made, JSON packed by gzip. Raises NotFound where there is none."""
        url = f"{self.management_url}{_model_path(name, 'profiles')}/{quote(id_, safe='')}/trace"
        return self._request("GET", url, timeout_s=_TRACE_TIMEOUT_S).content

    def shutdown(self) -> None:
        """Ask the gateway to drain its models and end."""
        self._request("POST", f"{self.management_url}/shutdown", timeout_s=_ANSWER_TIMEOUT_S)

    def predict(
        self, name: str, body: bytes, content_type: str = "application/json", version: str = ""
    ) -> tuple[str, bytes]:
        """One prediction: (content type, body) of the answer. No time limit of its own: the gateway has one."""
        path = self._predictions(name, version)
        response = self._request("POST", path, body=body, content_type=content_type, timeout_s=None)
        return response.headers.get("Content-Type", ""), response.content

    def _predictions(self, name: str, version: str) -> str:
        path = f"{self.url}/predictions/{quote(name, safe='')}"
        return f"{path}/{quote(version, safe='')}" if version else path

    def ask(self, name: str, body: bytes, content_type: str, version: str = "") -> Answer:
        """One prediction with all that its answer says; a refusal is an answer too. Raises GatewayError only."""
        began_s = time.perf_counter()
        response = self._send("POST", self._predictions(name, version), body, content_type, None)
        return Answer(
            status=response.status_code,
            content_type=response.headers.get("Content-Type", ""),
            body=response.content,
            server_timing=response.headers.get("Server-Timing", ""),
            request_id=response.headers.get("X-Request-Id", ""),
            seconds=time.perf_counter() - began_s,
        )

    def _manage(
        self, method: str, path: str, kind: type[_T], *, body: bytes = b"", timeout_s: float | None = _ANSWER_TIMEOUT_S
    ) -> _T:
        response = self._request(method, self.management_url + path, body=body, timeout_s=timeout_s)
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.MsgspecError as exc:
            raise GatewayError(
                f"{method} {path} was answered with something else than {kind.__name__}: {exc}",
                hint="another version of nbserve may run there: restart it",
            ) from exc

    def _request(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        content_type: str = "application/json",
        timeout_s: float | None,
    ) -> httpx.Response:
        response = self._send(method, url, body, content_type, timeout_s)
        if response.status_code >= 400:
            raise _error_of(response)
        return response

    def _send(self, method: str, url: str, body: bytes, content_type: str, timeout_s: float | None) -> httpx.Response:
        """One exchange. Raises GatewayError where there is no answer."""
        import httpx

        headers = self._headers() | ({"Content-Type": content_type} if method in ("POST", "PUT") else {})
        timeout = httpx.Timeout(timeout_s, connect=_CONNECT_TIMEOUT_S)
        http = self._http()
        try:
            return _aside(lambda: http.request(method, url, content=body or None, headers=headers, timeout=timeout))
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _http(self) -> httpx.Client:
        if self._http_client is None:
            import httpx

            limits = httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=64)
            # Certificates are read only where they are asked for: that takes 0.05 s, and a gateway is local as a rule.
            is_tls = any(url.startswith("https:") for url in (self.url, self.management_url))
            self._http_client = httpx.Client(trust_env=False, limits=limits, verify=is_tls)
            weakref.finalize(self, self._http_client.close)
        return self._http_client

    def _unreachable(self, exc: Exception) -> GatewayError:
        reason = str(exc) or type(exc).__name__
        return GatewayError(
            f"cannot reach the gateway at {self.management_url}: {reason}",
            hint="`nbserve list` shows the gateways that run; in a notebook, run the serving cell again",
        )


def _aside(call: Callable[[], _T]) -> _T:
    """Make this call where Ctrl-C does not strike: in another thread, if this is the main one (0.1 ms).

    Ctrl-C is raised wherever the main thread is. In the moment in which httpcore has taken a lock, it stays locked, and
    every further request of all threads would hang. A call that is not waited for any more goes on by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    done: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            done.put((call(), None))
        except BaseException as exc:
            done.put((None, exc))

    threading.Thread(target=run, name="nbserve-request", daemon=True).start()
    answer, failure = done.get()
    if failure is not None:
        raise failure
    return cast(_T, answer)


def is_log(event: Event, name: str = "", version: str = "") -> bool:
    """Whether an event belongs in a model's log: what handlers printed, and errors."""
    mine = (not name or event.model == name) and (not version or event.version == version)
    return mine and event.kind in ("log", "error")


def _model_path(name: str, version: str) -> str:
    path = f"/models/{quote(name, safe='')}"
    return f"{path}/{quote(version, safe='')}" if version else path


def _error_of(response: httpx.Response) -> NbserveError:
    """The gateway's error body as the exception that it names."""
    body = _error_body(response)
    info = ErrorInfo(
        type=body.type,
        message=body.message,
        status=body.code,
        where=body.where,
        stage=body.stage,
        traceback=body.traceback,
        hint=body.hint,
        details=body.details,
    )
    kind = _class_of(body)
    message = body.message or body.type
    if body.error_id:
        message += f" (error id {body.error_id}: the gateway's log explains it)"
    if kind is errors.HandlerError and body.type != "HandlerError":
        message = f"{body.type}: {message}"
    if issubclass(kind, RequestError):
        return kind(message, hint=body.hint, info=info, retry_after_s=_retry_after_s(response))
    return kind(message, hint=body.hint, info=info)


def _error_body(response: httpx.Response) -> ErrorBody:
    try:
        return msgspec.json.decode(response.content, type=ErrorBody)
    except msgspec.MsgspecError:  # not from a gateway: a proxy, or something else on its port
        text = response.text.strip()[:500] or response.reason_phrase
        return ErrorBody(code=response.status_code, type="", message=f"HTTP {response.status_code}: {text}")


def _class_of(body: ErrorBody) -> type[NbserveError]:
    named: Any = getattr(errors, body.type, None) if body.type in errors.__all__ else None
    if isinstance(named, type) and issubclass(named, NbserveError):
        return named
    return _BY_STATUS.get(body.code, RequestError if body.code < 500 else errors.HandlerError)


_BY_STATUS: dict[int, type[NbserveError]] = {
    kind.status: kind
    for kind in (
        errors.BadRequest,
        errors.Unauthorized,
        errors.NotFound,
        errors.MethodNotAllowed,
        errors.RequestTimeout,
        errors.BodyTooLarge,
        errors.HeadersTooLarge,
        errors.HandlerError,
        errors.Unavailable,
        errors.ResponseTimeout,
        errors.OutOfMemory,
    )
}


def _retry_after_s(response: httpx.Response) -> float | None:
    with contextlib.suppress(KeyError, ValueError):
        return float(response.headers["Retry-After"])
    return None
