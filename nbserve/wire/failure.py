"""Requests that failed, as the gateway hands them out, and workers that somebody holds for a look inside.

Made by gateway/failures and gateway/debugging; read by failures.py, attach.py and notebook/replay.py. JSON; bodies are
base64 there, as msgspec writes bytes.
"""

from __future__ import annotations

import msgspec

from nbserve.errors import ErrorInfo

__all__ = ["Failure", "FailureDetail", "HeldWorker", "KeptRequest"]


class Failure(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request that a handler, or the decoding of its body, failed at. Of the request itself only the size."""

    id: str
    """The model's name and a number, as `digits-3`: what `replay` takes."""
    model: str
    version: str
    at: float
    """Unix time of the answer."""
    request_id: str
    status: int
    error: ErrorInfo
    """With stage, cell and line."""
    content_type: str = ""
    body_bytes: int = 0
    bundle: str = ""
    """Folder of the version's bundle: the source as it was served then."""
    worker: int | None = None
    batch_id: int | None = None
    row: int = 0
    """Place in its batch, from 0."""
    batch: list[str] = msgspec.field(default_factory=list)
    """Request ids of that batch, in order."""
    alone: bool = True
    """It failed without its neighbours, too; False: with them, and nobody knows whether it does without."""


class KeptRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request as it came. `body` None: `withheld` says why it is not here."""

    request_id: str
    content_type: str = ""
    route: str = "predict"
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    body: bytes | None = None
    withheld: str = ""


class FailureDetail(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A failure with its request; `batch`: all requests of its batch, in order, where all of them are kept."""

    failure: Failure
    request: KeptRequest
    batch: list[KeptRequest] = msgspec.field(default_factory=list)


class HeldWorker(msgspec.Struct, kw_only=True):
    """A worker that gets no requests while somebody looks at it, or (`serves`) gets them with no time limit."""

    model: str
    version: str
    worker: int
    connection_file: str
    """Of its Jupyter kernel."""
    pid: int | None
    state: str
    held: bool
    serves: bool
    seconds: float
    """Until it is given back by itself; 0 where it is not held."""
    others: int
    """Workers that take the requests meanwhile; with none the requests wait."""
