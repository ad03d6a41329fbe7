"""Which globals change while a handler serves, and when that is looked for; time is told."""

from __future__ import annotations

import types
from types import SimpleNamespace
from typing import Any

import torch

from nbserve.bundle.manifest import EntryRecord, Provenance
from nbserve.worker.drift import IDLE_S, Drift, Looks

SOURCE = """
import functools
import torch
COUNTS = {"seen": 0, "by_name": {}}
LIMIT = 3
LARGE = torch.zeros(200, 200)
SMALL = torch.zeros(3)

class Net:
    calls = 0
    def go(self):
        return self

def closing():
    held = [1]
    def inner(x):
        held.append(x)
    return inner

add = closing()

def with_default(x, seen=[]):
    seen.append(x)

@functools.wraps(with_default)
def wrapped(x):
    wrapped.times = getattr(wrapped, "times", 0) + 1

net = Net()
"""


def module() -> Any:
    made = types.ModuleType("nbserve_handler_test")
    exec(compile(SOURCE, "handler.py", "exec"), vars(made))
    return made


def drift(made: Any) -> Drift:
    entries = [EntryRecord("COUNTS", "source", "In[7]"), EntryRecord("Net", "source", "In[8]")]
    found = Drift(SimpleNamespace(provenance=Provenance(entries=entries)), made)  # type: ignore[arg-type]
    assert found.look() == []  # the first look is what later ones are compared with
    return found


def test_each_kind_of_state_is_named_with_its_cell_and_once() -> None:
    made = module()
    found = drift(made)
    assert found.look() == []
    made.COUNTS["seen"] += 1
    assert found.look() == ["COUNTS['seen'] changed while serving: each worker has its own; In[7]"]
    made.COUNTS["seen"] += 1
    made.Net.calls += 1
    assert found.look() == ["Net.calls changed while serving: each worker has its own; In[8]"]
    made.LIMIT = 4
    assert [text.split()[0] for text in found.look()] == ["LIMIT"]
    made.add(2)
    assert [text.split()[0] for text in found.look()] == ["add.held"]
    made.with_default(2)
    assert [text.split()[0] for text in found.look()] == ["with_default.__defaults__[0]"]
    made.net.seen = 1
    assert [text.split()[0] for text in found.look()] == ["net.seen"]
    made.SMALL[0] = 1
    assert [text.split()[0] for text in found.look()] == ["SMALL"]
    made.LARGE[0, 1] = 1  # seen by its pages
    assert found.look() == []
    made.LARGE = torch.zeros(200, 200)
    assert [text.split()[0] for text in found.look()] == ["LARGE"]
    assert found.look() == []


def test_it_ends_after_ten() -> None:
    made = module()
    found = drift(made)
    for number in range(30):
        setattr(made, f"new_{number}", number)
    assert len(found.look()) == 10
    assert found.is_over


class ToldTime:
    """The part of an event loop that is asked."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Any, tuple[Any, ...]]] = []

    def call_later(self, delay_s: float, call: Any, *args: Any) -> None:
        self.later.append((delay_s, call, args))

    def pass_by(self) -> None:
        _, call, args = self.later.pop()
        call(*args)


def test_it_is_looked_for_when_there_is_nothing_to_do() -> None:
    said: list[str] = []
    made, loop, busy = module(), ToldTime(), [False]
    found = drift(made)
    looks = Looks(found, loop, busy=lambda: busy[0], say=said.append)  # type: ignore[arg-type]
    assert loop.later == []
    made.LIMIT = 5
    looks.answered()
    looks.answered()
    [(delay_s, _, _)] = loop.later
    assert delay_s >= IDLE_S
    loop.pass_by()  # two answers, one look planned before the second: not idle
    assert said == []
    busy[0] = True
    loop.pass_by()
    assert said == []
    busy[0] = False
    loop.pass_by()
    assert [text.split()[0] for text in said] == ["LIMIT"]
    assert loop.later == []  # nothing to look for before the next answer
    looks.answered()
    assert len(loop.later) == 1


def test_globals_that_take_long_to_look_at_are_looked_at_once() -> None:
    """A request that comes during a look waits for it."""
    quick, slow = drift(module()), module()
    assert not quick.is_over
    slow.VOCABULARY = {f"word{number}": number for number in range(300_000)}
    assert drift(slow).is_over
