"""What user code prints, out of the messages of its kernel's iopub channel.

Called by kernel.py for each message. jupyter_client's own reading verifies and parses all of every message, dates
included: 0.1 ms of the gateway's loop, a second for ten thousand lines. This looks at four parts of those that matter.
Source: "Messaging in Jupyter", the wire protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec

__all__ = ["Printed", "printed"]

_DELIMITER = b"<IDS|MSG>"


class Printed(NamedTuple):
    """What user code printed; `batch_id` and `request_ids` as the worker marked it."""

    text: str
    stream: str
    batch_id: int | None
    request_ids: list[str]


class _Header(msgspec.Struct):
    msg_type: str = ""


class _Parent(msgspec.Struct):
    nbserve_batch: int | None = None
    nbserve_requests: str | None = None


class _Content(msgspec.Struct):
    text: str
    name: str = "stdout"


_read_header = msgspec.json.Decoder(_Header)
_read_parent = msgspec.json.Decoder(_Parent)
_read_content = msgspec.json.Decoder(_Content)
_T = TypeVar("_T")


def printed(parts: Sequence[bytes]) -> Printed | None:
    """The print that a message holds; None for other messages, and for ones that cannot be read."""
    try:
        at = parts.index(_DELIMITER) + 2  # the signature comes between: only the kernel can publish on its own socket
        header, parent, _, content = parts[at : at + 4]
        if _read_header.decode(header).msg_type != "stream":
            return None
        mark, what = _decode(_read_parent, parent), _decode(_read_content, content)
    except (ValueError, msgspec.MsgspecError):
        return None
    ids = mark.nbserve_requests.split(",") if mark.nbserve_requests else []
    return Printed(what.text, what.name, mark.nbserve_batch, ids)


def _decode(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T:
    """File names that are not UTF-8 are printed, and sent, as they are."""
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, msgspec.DecodeError):
        return decoder.decode(data.decode("utf-8", "replace"))
