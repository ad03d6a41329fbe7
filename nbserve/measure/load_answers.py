"""What an answer, or a connection that did not come to be, says: stages, classes of errors. Pure. Used by `load.py`."""

from __future__ import annotations

import contextlib
import http
import os
import re
import ssl

import msgspec

from nbserve.measure.load_connection import Answer

__all__ = ["connect_error", "stages_of", "status_error"]

_TIMING = re.compile(r"""([\w.!#$%&'*+^`|~-]+)((?:\s*;\s*\w+\s*(?:=\s*(?:"[^"]*"|[^\s;,"]*))?)*)""", re.ASCII)
_PARAMETER = re.compile(r';\s*(\w+)\s*=\s*("[^"]*"|[^\s;,"]*)', re.ASCII)
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,12})?", re.ASCII)
"""A name with its parameters; one of these, whose value may be quoted; a duration (no infinities)."""


class _ErrorType(msgspec.Struct):
    type: str = ""


def stages_of(timing: bytes) -> dict[str, float]:
    """A Server-Timing header (W3C Server Timing) as {name: milliseconds}; entries without a duration are left out."""
    stages: dict[str, float] = {}
    for name, parameters in _TIMING.findall(timing.decode("latin-1")):
        for key, value in _PARAMETER.findall(parameters):
            if key.lower() == "dur" and _NUMBER.fullmatch(number := value.strip('"')):
                stages[name] = float(number)
    return stages


def status_error(answer: Answer) -> str:
    """ "503 Unavailable": the status with the type that the body names, else with its usual phrase."""
    kind = ""
    if answer.error_body.startswith(b"{"):
        with contextlib.suppress(msgspec.MsgspecError):
            kind = msgspec.json.decode(answer.error_body, type=_ErrorType).type[:60]
    with contextlib.suppress(ValueError):
        kind = kind or http.HTTPStatus(answer.status).phrase
    return f"{answer.status} {kind}".rstrip()


def connect_error(exc: Exception) -> str:
    """Why no connection came to be."""
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused"
    if isinstance(exc, TimeoutError):
        return "connect timeout"
    if isinstance(exc, ssl.SSLError):
        return f"TLS: {exc.reason or exc}"
    return f"cannot connect: {os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else exc}"
