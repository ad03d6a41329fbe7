"""An exception -> ErrorInfo that reads in the user's terms: their cells and lines, not our internals.

Called by `pipeline.py`, the worker's session and the notebook's proof run. Pure but for reading source lines.
"""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from nbserve.errors import ErrorInfo, NbserveError

__all__ = ["Locate", "describe"]

Locate = Callable[[str, int], str | None]
"""(file name, line) -> "In[5], line 3" for the user's code, None for other people's."""

_PACKAGE = str(Path(__file__).parent)
_MAX_FRAMES = 20


def describe(exc: BaseException, locate: Locate, *, stage: str = "", status: int | None = None) -> ErrorInfo:
    """An exception as data: class, message, the innermost place in the user's code, and a short traceback."""
    if isinstance(exc, NbserveError) and exc.info is not None:
        return exc.info
    lines, where = _frames(exc.__traceback__, locate)
    for cause in _causes(exc):
        more, place = _frames(cause.__traceback__, locate)
        if place:  # a cause that never touched the user's code explains our internals, not theirs
            lines = [*more, f"{type(cause).__name__}: {cause}", "", *lines]
            where = place
    message = exc.message if isinstance(exc, NbserveError) else _message(exc)
    name = type(exc).__name__
    return ErrorInfo(
        type=name,
        message=message,
        status=status if status is not None else _status(exc),
        where=where,
        stage=stage,
        traceback=[*lines, f"{name}: {message}"] if lines else [],
        hint=exc.hint if isinstance(exc, NbserveError) else "",
    )


def _status(exc: BaseException) -> int:
    if isinstance(exc, NbserveError):
        return exc.status
    # torch.OutOfMemoryError is a RuntimeError; naming it here would import torch.
    if isinstance(exc, MemoryError) or type(exc).__name__ == "OutOfMemoryError":
        return 507
    return 500


def _message(exc: BaseException) -> str:
    if isinstance(exc, KeyError) and exc.args:
        return repr(exc.args[0])
    if isinstance(exc, SyntaxError):
        return f"{exc.msg} (line {exc.lineno})"
    if isinstance(exc, MemoryError):
        return str(exc) or "cannot allocate memory"
    return str(exc)


def _causes(exc: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    cause = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    while cause is not None and cause not in chain and len(chain) < 3:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return chain


def _frames(tb: TracebackType | None, locate: Locate) -> tuple[list[str], str]:
    """Lines for the user's frames, then for the last library frame below them; and the innermost user place."""
    lines: list[str] = []
    where = ""
    tail: list[str] = []
    for summary in traceback.extract_tb(tb)[-200:]:
        line = summary.lineno or 0
        place = locate(summary.filename, line)
        if place is not None:
            where, tail = place, []
            lines.append(f"{place}, in {summary.name}")
            if source := linecache.getline(summary.filename, line).strip():
                lines.append(f"    {source}")
        elif not summary.filename.startswith(_PACKAGE):
            tail = [f"{_short(summary.filename)}, line {line}, in {summary.name}"]
    return [*lines[-2 * _MAX_FRAMES :], *tail], where


def _short(filename: str) -> str:
    """Library file without the machine's folders in front: torch/nn/modules/linear.py."""
    _, found, rest = filename.rpartition("site-packages/")
    return rest if found else Path(filename).name
