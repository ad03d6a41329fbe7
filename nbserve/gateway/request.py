"""One request on its way through a version's queue, and what becomes of it.

Made by gateway/inference, moved by gateway/batcher and gateway/rescue.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from nbserve.errors import ErrorInfo
from nbserve.wire.frames import Buffer
from nbserve.wire.messages import RequestItem

if TYPE_CHECKING:
    from nbserve.gateway.rescue import Suspects

__all__ = ["Answered", "Request", "Where"]


class Where(IntEnum):
    """Where a request is: in the queue, with a worker, waiting to be tried again, or done with."""

    QUEUED = 0
    SENT = 1
    AGAIN = 2
    DONE = 3


class Answered(NamedTuple):
    """What became of a request. `error` is set where `status` says so. `server_timing`: the header's value."""

    status: int
    content_type: str
    body: Buffer
    error: ErrorInfo | None = None
    server_timing: str = ""
    retry_after_s: float | None = None
    batch_id: int | None = None
    worker_id: int | None = None


class Request:
    """A request. The owner says in a subclass what to do with the answer.

    tries: how often a worker died at it. group: the lost batch that it is a suspect of. parts: of a streamed answer.
    """

    __slots__ = ("arrived_s", "body", "group", "item", "parts", "state", "tries")

    def __init__(self, item: RequestItem, body: bytes, arrived_s: float) -> None:
        self.item = item
        self.body = body
        self.arrived_s = arrived_s
        self.tries = 0
        self.group: Suspects | None = None
        self.state = Where.QUEUED
        self.parts: list[Buffer] | None = None

    def answered(self, answer: Answered) -> None:
        """Called exactly once for an admitted request, unless it was abandoned."""
        raise NotImplementedError
