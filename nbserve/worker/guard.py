"""The guarded interrupt: SIGINT ends user code of the one batch that the gateway cancelled, and nothing else.

ipykernel ignores SIGINT outside shell messages and its hooks put that back, so the handler is installed around each
piece of user code. It raises only while that code runs and only if the status page names this very batch: a signal
that comes late, or between recv and send, is dropped.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from nbserve.wire.statuspage import StatusPage

__all__ = ["Cancelled", "Guard"]


class Cancelled(KeyboardInterrupt):
    """Raised inside user code whose batch was cancelled. Not an Exception: handlers do not swallow it by accident."""


class Guard:
    """`with guard(batch_id): user code`. Main thread only."""

    def __init__(self, page: StatusPage) -> None:
        self._page = page
        self._batch_id = 0
        self._active = False
        self._previous: Any = signal.SIG_IGN

    def __call__(self, batch_id: int) -> Guard:
        self._batch_id = batch_id
        return self

    def __enter__(self) -> None:
        self._previous = signal.signal(signal.SIGINT, self._on_sigint)
        self._active = True

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._active = False
        signal.signal(signal.SIGINT, self._previous)

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        if self._active and self._page.cancelled == self._batch_id:
            self._active = False  # once: a second signal must not hit the clean-up
            raise Cancelled
