"""The guarded interrupt: SIGINT ends user code of the one batch that the gateway cancelled, and nothing else.

ipykernel ignores SIGINT outside shell messages, and around each of those its hooks put back what was there. So our
handler is installed once and looked after: whoever has taken its place (user code may) is replaced before the next
batch. It raises only while user code runs and only if the status page names this very batch: a signal that comes late,
or between recv and send, is dropped.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import signal
from types import FrameType, TracebackType

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
        self._handle = self._on_sigint  # one object: a bound method made anew would not be recognised

    def __call__(self, batch_id: int) -> Guard:
        self._batch_id = batch_id
        return self

    def __enter__(self) -> None:
        # _signal: signal's own function wraps what it finds in enums. Asking costs no system call, setting costs one.
        if _signal.getsignal(signal.SIGINT) is not self._handle:
            signal.signal(signal.SIGINT, self._handle)
        self._active = True

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._active = False

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        if self._active and self._page.cancelled == self._batch_id:
            self._active = False  # once: a second signal must not hit the clean-up
            raise Cancelled
