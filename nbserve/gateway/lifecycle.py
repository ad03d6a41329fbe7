"""The lives of workers, pools and versions as tables: which event moves what from which state to which. Pure.

Used by gateway/pool/worker, gateway/pool/supervisor and gateway/registry, which act on the moves; drawn into
docs/lifecycle.md from these very tables. An illegal move is a bug of ours; the error tells the story.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Generic, Literal, TypeVar

from nbserve.wire.management import VersionState, WorkerState

__all__ = ["POOL_MOVES", "VERSION_MOVES", "WORKER_MOVES", "IllegalMove", "Lifecycle", "PoolState"]

PoolState = Literal["STARTING", "SERVING", "RESTARTING", "FAILED", "STOPPING", "STOPPED"]

State = TypeVar("State", bound=str)

WORKER_MOVES: dict[WorkerState, dict[str, WorkerState]] = {
    "STARTING": {"hello": "LOADING", "died": "STOPPED", "drain": "DRAINING"},
    "LOADING": {"ready": "READY", "died": "STOPPED", "drain": "DRAINING"},
    "READY": {"sent": "BUSY", "paused": "PAUSED", "drain": "DRAINING", "died": "STOPPED"},
    "BUSY": {"answered": "READY", "sent": "BUSY", "paused": "PAUSED", "drain": "DRAINING", "died": "STOPPED"},
    "PAUSED": {
        "resumed": "READY",
        "resumed_busy": "BUSY",
        "answered": "PAUSED",
        "drain": "DRAINING",
        "died": "STOPPED",
    },
    "DRAINING": {"hello": "DRAINING", "ready": "DRAINING", "answered": "DRAINING", "died": "STOPPED"},
    "STOPPED": {"start": "STARTING", "gave_up": "FAILED"},
    "FAILED": {"start": "STARTING"},
}
"""State -> event -> next state. "answered" is the answer that leaves nothing in hand; "resumed_busy": something still
is. What a worker has sent before it reads DRAIN still comes."""

POOL_MOVES: dict[PoolState, dict[str, PoolState]] = {
    "STARTING": {"started": "SERVING", "gave_up": "FAILED", "stop": "STOPPING"},
    "SERVING": {"lost_last": "RESTARTING", "stop": "STOPPING"},
    "RESTARTING": {"came_back": "SERVING", "gave_up": "FAILED", "stop": "STOPPING"},
    "FAILED": {"stop": "STOPPING"},
    "STOPPING": {"stopped": "STOPPED"},
    "STOPPED": {},
}
"""State -> event -> next state. SERVING: at least one worker is loaded and alive. RESTARTING: none is, but one is on
its way, and requests wait for it. FAILED: none is, and none will be."""

VERSION_MOVES: dict[VersionState, dict[str, VersionState]] = {
    "LOADING": {"serve": "READY", "fail": "FAILED", "drain": "DRAINING"},
    "READY": {"drain": "DRAINING", "make_room": "LOADING", "fail": "FAILED"},
    "FAILED": {"drain": "DRAINING"},
    "DRAINING": {},
}
"""State -> event -> next state. "make_room": stop-first swap, the version may have to come back. "fail" while READY:
its last worker was given up."""


class IllegalMove(RuntimeError):
    """An event that its state does not know; the message is the whole story so far."""


class Lifecycle(Generic[State]):
    """The state of one worker or version, and how it came there."""

    def __init__(self, who: str, moves: Mapping[State, Mapping[str, State]], start: State) -> None:
        self._who = who
        self._moves = moves
        self.state: State = start
        self._start = start
        self._story: deque[tuple[str, State]] = deque(maxlen=60)

    def move(self, event: str) -> State:
        """Apply an event; raises IllegalMove where the table has no such move."""
        target = self._moves[self.state].get(event)
        if target is None:
            raise IllegalMove(f"{self._who}: {event!r} in {self.state}; so far: {self._told()}")
        self.state = target
        story, step = self._story, (event, target)
        if len(story) > 1 and story[-2] == step:  # READY and BUSY in turns for hours are two entries
            del story[-2]
        story.append(step)
        return target

    def _told(self) -> str:
        return " ".join([self._start, *(f"-{event}-> {target}" for event, target in self._story)])
