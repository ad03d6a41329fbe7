"""The life of a worker as a table: which event moves it from which state to which. Pure.

Used by gateway/pool/worker.py, which acts on the moves. An illegal move is a bug of ours; the error tells the story.
"""

from __future__ import annotations

from nbserve.wire.management import WorkerState

__all__ = ["MOVES", "IllegalMove", "Lifecycle"]

MOVES: dict[WorkerState, dict[str, WorkerState]] = {
    "STARTING": {"hello": "LOADING", "died": "STOPPED", "gave_up": "FAILED", "drain": "DRAINING"},
    "LOADING": {"ready": "READY", "died": "STOPPED", "gave_up": "FAILED", "drain": "DRAINING"},
    "READY": {"sent": "BUSY", "paused": "PAUSED", "drain": "DRAINING", "died": "STOPPED"},
    "BUSY": {"answered": "READY", "sent": "BUSY", "paused": "PAUSED", "drain": "DRAINING", "died": "STOPPED"},
    "PAUSED": {"resumed": "READY", "answered": "PAUSED", "drain": "DRAINING", "died": "STOPPED"},
    "DRAINING": {"answered": "DRAINING", "paused": "DRAINING", "resumed": "DRAINING", "died": "STOPPED"},
    "STOPPED": {"start": "STARTING", "gave_up": "FAILED"},
    "FAILED": {"start": "STARTING"},
}
"""State -> event -> next state. "answered" is the answer that leaves nothing in hand."""


class IllegalMove(RuntimeError):
    """An event that its state does not know; the message is the whole story so far."""


class Lifecycle:
    """The state of one worker and how it came there."""

    def __init__(self, who: str) -> None:
        self._who = who
        self.state: WorkerState = "STOPPED"
        self._story: list[str] = ["STOPPED"]

    def move(self, event: str) -> WorkerState:
        """Apply an event; raises IllegalMove where the table has no such move."""
        target = MOVES[self.state].get(event)
        if target is None:
            raise IllegalMove(f"{self._who}: {event!r} in {self.state}; so far: {' '.join(self._story[-30:])}")
        self.state = target
        if self._story[-2:] != [f"-{event}->", target]:  # READY/BUSY for hours is one entry
            self._story = [*self._story[-58:], f"-{event}->", target]
        return target
