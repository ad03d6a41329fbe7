"""A bundle served as a worker does it, and which lines of its handler.py ran. Runs in a zygote's child."""

from __future__ import annotations

import base64
import inspect
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.capture.session import answers

__all__ = ["serve"]


def serve(bundle: str, questions: list[list[str]], trace: bool = True, compare: bool = True) -> dict[str, Any]:
    """Load the bundle, ask it each (base64 body, content type); `lines` that did not run, by function.

    compare: what it rebuilds with what the notebook had, as a first worker does.
    """
    from nbserve.pipeline import Item
    from nbserve.wire.messages import Load
    from nbserve.worker.session import Session, seed_everything

    handler = str(Path(bundle) / "handler.py")
    lines = _Lines(handler)
    cores = sorted(os.sched_getaffinity(0))
    load = Load(bundle=bundle, name="x", version="1", worker=0, threads=1, cores=cores, device="cpu", compare=compare)
    session = Session(load, lambda _stage: None)
    if trace:
        sys.settrace(lines.trace)
        threading.settrace(lines.trace)  # of threads that are started from now on
    try:
        seed_everything(0)
        started = session.load()
        items = [Item(base64.b64decode(body), kind) for body, kind in questions]
        found = answers(session.pipeline, started, items)
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
    return {"answers": found, "unreached": lines.missed() if trace else {}}


class _Lines:
    """Lines of functions of one file: which there are, and which ran."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._seen: dict[tuple[str, int], set[int]] = {}

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if code.co_filename != self._file:
            return None
        seen = self._seen.setdefault((code.co_qualname, code.co_firstlineno), set())

        def local(frame: FrameType, event: str, arg: Any) -> Any:
            if event == "line":
                seen.add(frame.f_lineno)
            return local

        return local

    def missed(self) -> dict[str, list[int]]:
        """Qualified name of a function -> its lines that did not run."""
        source = Path(self._file).read_text("utf-8")
        found: dict[str, list[int]] = {}
        for code in _functions(compile(source, self._file, "exec", dont_inherit=True)):
            every = {line for _, _, line in code.co_lines() if line is not None and line != code.co_firstlineno}
            if code.co_name == "<lambda>" or not every:
                every = {line for _, _, line in code.co_lines() if line is not None}
            left = every - self._seen.get((code.co_qualname, code.co_firstlineno), set())
            if left:
                found.setdefault(code.co_qualname, []).extend(sorted(left))
        return found


def _functions(code: CodeType) -> Iterator[CodeType]:
    for const in code.co_consts:
        if isinstance(const, CodeType):
            if const.co_flags & inspect.CO_OPTIMIZED:
                yield const
            yield from _functions(const)
