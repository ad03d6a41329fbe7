"""Which frames of a traceback are the user's, and a traceback that begins and ends there. Called by replay.py. Pure."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import NamedTuple

__all__ = ["IsUser", "Part", "is_users", "user_part"]

IsUser = Callable[[CodeType], bool]

_PACKAGE = str(Path(__file__).parent.parent) + os.sep
_LIBRARIES = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Part(NamedTuple):
    """A traceback without our frames: `shown` goes on into the libraries, `debugged` ends at the user's last line."""

    shown: TracebackType
    debugged: TracebackType


def is_users(locate: Callable[[str, int], str | None], folder: str) -> IsUser:
    """Code of a cell, or of a file in the notebook's folder that is no library's."""

    def decide(code: CodeType) -> bool:
        file = code.co_filename
        if locate(file, code.co_firstlineno) is not None:
            return True
        return file.startswith(folder + os.sep) and not file.startswith((_PACKAGE, *_LIBRARIES))

    return decide


def user_part(tb: TracebackType | None, is_user: IsUser) -> Part | None:
    """From the user's first frame on, nbserve's own left out; None where the user's code has no part in it."""
    entries = [each for each in _entries(tb) if not each[0].f_code.co_filename.startswith(_PACKAGE)]
    mine = [place for place, each in enumerate(entries) if is_user(each[0].f_code)]
    if not mine:
        return None
    shown, debugged = _chain(entries[mine[0] :]), _chain(entries[mine[0] : mine[-1] + 1])
    assert shown is not None
    assert debugged is not None
    return Part(shown, debugged)


_Entry = tuple[FrameType, int, int]


def _entries(tb: TracebackType | None) -> Iterator[_Entry]:
    while tb is not None:
        yield tb.tb_frame, tb.tb_lasti, tb.tb_lineno
        tb = tb.tb_next


def _chain(entries: Sequence[_Entry]) -> TracebackType | None:
    tb: TracebackType | None = None
    for frame, lasti, line in reversed(entries):
        tb = TracebackType(tb, frame, lasti, line)
    return tb
