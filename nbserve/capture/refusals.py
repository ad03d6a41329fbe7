"""What cannot be shipped, said so that the user can mend it: the chain, the cell, the mend. Pure.

Called by `walk.py` and `savers.py`.
"""

from __future__ import annotations

import io
import socket
import sqlite3
import types
from typing import Any

from nbserve.bundle.structure import kind_of
from nbserve.errors import CaptureError

__all__ = ["NoSource", "chain_text", "mend_for", "refusal"]


class NoSource(Exception):
    """A function or class whose source is in no recorded cell."""

    def __init__(self, obj: Any) -> None:
        super().__init__(getattr(obj, "__qualname__", repr(obj)))
        self.obj = obj


_MENDS: list[tuple[tuple[type, ...], str]] = [
    ((io.IOBase,), "open the file in `initialize`, or read what you need into a variable first"),
    (
        (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType),
        "make a list of it first, or make it in `initialize`",
    ),
    ((socket.socket, sqlite3.Connection, sqlite3.Cursor), "connect in `initialize`: each worker needs its own"),
]


def mend_for(obj: Any) -> str:
    """What to do about an object of this type."""
    for types_, mend in _MENDS:
        if isinstance(obj, types_):
            return mend
    if isinstance(obj, (type, types.FunctionType)):
        return "run the cell that defines it again, or move it to a .py file and import it"
    return "make it in `initialize`, where each worker makes its own"


def chain_text(chain: tuple[str, ...], where: str = "") -> str:
    """ "Digits -> featurize -> LOCK, In[5]"."""
    text = " -> ".join(chain)
    return f"{text}, {where}" if where else text


def refusal(obj: Any, chain: tuple[str, ...], reason: str, where: str = "", mend: str = "") -> CaptureError:
    """The error for an object at the end of a chain; reason completes "X cannot be shipped: ". mend: a special one."""
    name = chain[-1] if chain else kind_of(obj)
    return CaptureError(f"{name} cannot be shipped: {reason}: {chain_text(chain, where)}", hint=mend or mend_for(obj))
