"""The trace that a request belongs to, out of its `traceparent` header. Pure; called by gateway/inference.

Source: W3C Trace Context, section 3.2, "Traceparent Header". nbserve makes no spans of its own: it hands the header to
the handler, and names the trace where it says something of the request (logs, error bodies, error events).
"""

from __future__ import annotations

import re

__all__ = ["TRACEPARENT", "trace_id"]

TRACEPARENT = "traceparent"
"""The header's name, also among the headers that a handler sees."""

_VALUE = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.ASCII)
_LONGEST = 512
"""Versions to come may be longer than the 55 characters of version 00; nobody needs to be handed a page."""


def trace_id(traceparent: str) -> str:
    """The 32 hexadecimal digits of the trace; empty where the header is not valid, and so is not there (4.3)."""
    match = _VALUE.fullmatch(traceparent) if len(traceparent) <= _LONGEST else None
    if match is None or (match[1] == "00" and match[3] is not None):
        return ""
    return match[2]
