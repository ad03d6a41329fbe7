"""Bodies of replies that are errors: ErrorInfo -> ErrorBody, with or without what only a developer may see.

Called by gateway/inference, gateway/management and gateway/http.
"""

from __future__ import annotations

import logging
import secrets

import msgspec

from nbserve.errors import ErrorInfo, NbserveError
from nbserve.wire.management import ErrorBody

__all__ = ["JSON", "SAFE_TYPES", "encode_json", "error_body", "error_json", "internal_error"]

log = logging.getLogger("nbserve.gateway")

JSON = "application/json"
encode_json = msgspec.json.Encoder().encode

SAFE_TYPES = frozenset({"ResponseTimeout", "OutOfMemory", "WorkerDied", "Unavailable"})
"""Errors of status 500 and above whose message is ours, and holds nothing of the handler."""


def error_json(error: NbserveError) -> bytes:
    """Body for an error of the gateway itself, whose message is meant for the client."""
    return encode_json(ErrorBody(code=error.status, type=type(error).__name__, message=error.message, hint=error.hint))


def error_body(info: ErrorInfo, *, development: bool, who: str = "") -> ErrorBody:
    """Body for an error that came from a worker.

    development: all of it. Otherwise the client gets its own faults (4xx) and the names of ours; what the handler
    raised goes to the log under an error id. `who`: model, version and request id, for the log.
    """
    if development:
        return ErrorBody(
            code=info.status,
            type=info.type,
            message=info.message,
            where=info.where,
            traceback=info.traceback,
            hint=info.hint,
            stage=info.stage,
            details=info.details,
        )
    if info.status < 500:
        return ErrorBody(code=info.status, type=info.type, message=info.message)
    error_id = secrets.token_hex(6)
    log.error("error %s: %s: %s", error_id, who, describe(info))
    if info.type in SAFE_TYPES:
        return ErrorBody(code=info.status, type=info.type, message=info.message, error_id=error_id)
    return ErrorBody(
        code=info.status,
        type="HandlerError",
        message="the handler failed; the gateway's log explains it under this error id",
        error_id=error_id,
    )


def internal_error(exc: BaseException, *, development: bool, doing: str) -> ErrorBody:
    """Body for a bug of the gateway itself; the stack goes to the log under an error id."""
    error_id = secrets.token_hex(6)
    log.error("error %s: %s", error_id, doing, exc_info=exc)
    detail = f": {type(exc).__name__}: {exc}" if development else ""
    return ErrorBody(
        code=500,
        type="GatewayError",
        message=f"the gateway failed{detail}; its log explains it under this error id",
        error_id=error_id,
    )


def describe(info: ErrorInfo) -> str:
    """An ErrorInfo as text for a log."""
    where = f" ({info.where})" if info.where else ""
    stage = f" in {info.stage}" if info.stage else ""
    return "\n".join([f"{info.type}: {info.message}{where}{stage}", *info.traceback])
