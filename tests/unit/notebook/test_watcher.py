"""What the watcher hands on of a gateway's counters, with a gateway that answers as recorded."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nbserve.errors import NotFound
from nbserve.notebook.widgets.watcher import Watcher
from nbserve.resolve import Served
from nbserve.wire.management import Event
from nbserve.wire.numbers import Numbers
from tests.unit.notebook.test_widget_rates import counted, worker

GPU: dict[str, Any] = {
    "device": "cuda:0",
    "device_total_bytes": 84_987_740_160,
    "device_free_bytes": 60_129_542_144,
    "device_own_bytes": 18_253_611_008,
    "device_busy": 0.37,
}


class Watched:
    """A watcher over these answers, one after the other; the endpoint is gone after the last."""

    def __init__(self, *answers: Numbers) -> None:
        self.updates: queue.Queue[tuple[dict[str, Any], list[str]]] = queue.Queue()
        self.ends: queue.Queue[str] = queue.Queue()
        self._answers = list(answers)
        served = SimpleNamespace(name="digits", version="", client=SimpleNamespace(numbers=self._numbers))
        self.watcher = Watcher(
            cast(Served, served),
            is_wanted=lambda: True,
            on_look=lambda: self.watcher.wake(),  # at once, not in a second
            on_update=lambda now, lines: self.updates.put((now, lines)),
            on_end=self.ends.put,
        )

    def _numbers(self, name: str, version: str, since: int) -> Numbers:
        if not self._answers:
            raise NotFound("digits is not served")
        return self._answers.pop(0)

    def run(self) -> list[tuple[dict[str, Any], list[str]]]:
        self.watcher.start()
        assert self.ends.get(timeout=30) == "digits is not served"
        return [self.updates.get_nowait() for _ in range(self.updates.qsize())]


def test_a_gpu_is_handed_on_and_its_memory_alone_is_no_news() -> None:
    later = worker(**GPU | {"device_free_bytes": 1})
    updates = Watched(
        *(counted(float(at), workers=[worker(**GPU)]) for at in range(3)), counted(3.0, workers=[later])
    ).run()
    assert len(updates) == 2, "what is new, and once more when it rests"
    [shown] = updates[0][0]["workers"]
    assert {name: shown[name] for name in GPU} == GPU


def test_a_log_is_bounded_in_lines_and_in_width() -> None:
    lines = [f"{number} " + "x" * 10_000 for number in range(400)]
    event = Event(seq=1, at=0.0, kind="log", model="digits", version="1", worker=0, text="\n".join(lines))
    watched = Watched(counted(1.0, events=[event]))
    [(_, handed)] = watched.run()
    assert len(watched.watcher.log) == 300
    assert max(map(len, handed)) <= 500
    assert "399 " in watched.watcher.log[-1][:60]


@pytest.mark.parametrize("fields", [{"state": "DRAINING"}, {"queue_items": 2}], ids=lambda fields: next(iter(fields)))
def test_what_changes_is_handed_on(fields: dict[str, Any]) -> None:
    updates = Watched(counted(1.0), counted(2.0), counted(3.0, **fields)).run()
    assert [now[next(iter(fields))] for now, _ in updates][-1] == next(iter(fields.values()))
