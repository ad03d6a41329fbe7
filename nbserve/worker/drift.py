"""Which globals of the handler change while it serves: each worker has its own copy, so that their answers drift apart.

Called by `loop.py` when the worker has nothing to do; never on the way of a request. The first look is taken when the
warm-up is over, so that what is filled once, in the same way everywhere, is not reported. Writes into large tensors
are not looked for here: the gateway sees them by their pages.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nbserve.bundle import Bundle
from nbserve.bundle.fingerprint import NAMED, Fingerprint, differences, fingerprint, names_of

__all__ = ["Drift", "Looks"]

IDLE_S = 1.0
"""So long after the last answer a worker counts as idle."""
_SHARE = 0.002
"""Of the time may go into looking: after a look of 20 ms none for 10 s."""
LONGEST_LOOK_S = 0.05
"""A look that takes longer is the last: a request that comes then waits for it. (0.45 s for a dict of a million.)"""
_MOST = 10
"""Paths that are reported; the looking ends then."""


class Drift:
    """Looks at one handler's module, again and again; says of each path once that it changed."""

    def __init__(self, bundle: Bundle, module: types.ModuleType) -> None:
        self._module = module
        self._cells = {entry.name: entry.where for entry in bundle.provenance.entries}
        self._last: Fingerprint | None = None
        self._told: set[str] = set()
        self.pause_s = IDLE_S
        """How long after the last look the next may be."""
        self._takes_too_long = False

    @property
    def is_over(self) -> bool:
        """Enough was said, or looking holds up requests."""
        return self._takes_too_long or len(self._told) >= _MOST

    def look(self) -> list[str]:
        """What has changed since the last look, in words; nothing the first time."""
        began_s = time.thread_time()
        now = fingerprint(dict(_state(self._module)), names_of(vars(self._module)), by_address=True)
        paths = [path for path, _ in differences(self._last, now, most=_MOST)] if self._last is not None else []
        self._last = now
        took_s = time.thread_time() - began_s  # its own work: others may have the core meanwhile
        self.pause_s = max(IDLE_S, took_s / _SHARE)
        self._takes_too_long = took_s > LONGEST_LOOK_S
        new = [path for path in paths if path not in self._told][: _MOST - len(self._told)]
        self._told |= set(new)
        return [self._said(path) for path in new]

    def _said(self, path: str) -> str:
        where = next((self._cells[name] for name in _owners(path) if self._cells.get(name)), "")
        return f"{path} changed while serving: each worker has its own{f'; {where}' if where else ''}"


class Looks:
    """When to look: some time after an answer, if no other came since. `answered` is all that a batch pays."""

    def __init__(
        self, drift: Drift, loop: asyncio.AbstractEventLoop, *, busy: Callable[[], bool], say: Callable[[str], None]
    ) -> None:
        self._drift, self._loop, self._busy, self._say = drift, loop, busy, say
        self._answers = 0
        self._planned = False

    def answered(self) -> None:
        """A batch was answered."""
        self._answers += 1
        if not self._planned:
            self._plan()

    def _plan(self) -> None:
        self._planned = True
        self._loop.call_later(self._drift.pause_s, self._look, self._answers)

    def _look(self, answers: int) -> None:
        if self._busy() or answers != self._answers:
            self._plan()
            return
        for text in self._drift.look():
            self._say(text)
        self._planned = self._drift.is_over  # else the next answer plans the next


def _owners(path: str) -> Iterator[str]:
    """ "Net.seen['a']" -> "Net.seen", "Net": the captured names that it may be of."""
    head = path.partition("[")[0]
    while head:
        yield head
        head = head.rpartition(".")[0]


def _state(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """Data of a module's globals, and of the classes and functions that are its own."""
    for name, value in vars(module).items():
        if name.startswith("__") or isinstance(value, types.ModuleType):
            continue
        if not isinstance(value, NAMED):
            if not type(value).__module__.startswith("nbserve."):
                yield name, value
        elif getattr(value, "__module__", None) == module.__name__:
            yield from _of_class(name, value) if isinstance(value, type) else _of_function(name, value)


def _of_class(name: str, cls: type) -> Iterator[tuple[str, Any]]:
    for key, value in vars(cls).items():
        if not key.startswith(("__", "_abc_")) and not isinstance(value, NAMED) and not hasattr(value, "__get__"):
            yield f"{name}.{key}", value


def _of_function(name: str, function: Any) -> Iterator[tuple[str, Any]]:
    inner = inspect.unwrap(function)
    for each in dict.fromkeys((function, inner)):
        if not isinstance(each, types.FunctionType):
            continue
        attributes: Mapping[str, Any] = {key: value for key, value in vars(each).items() if key != "__wrapped__"}
        yield from ((f"{name}.{key}", value) for key, value in attributes.items() if not isinstance(value, NAMED))
        if each.__defaults__:
            yield f"{name}.__defaults__", each.__defaults__
        for variable, cell in zip(each.__code__.co_freevars, each.__closure__ or (), strict=True):
            try:
                held = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if not isinstance(held, (*NAMED, types.ModuleType)):
                yield f"{name}.{variable}", held
