"""Whether anybody looks at a widget: no message is sent for nobody, so that a Hub may end what is idle. Pure.

The browser says when a view comes into sight and when it leaves, and acknowledges updates: a tab that was closed says
nothing more. While a cell runs, some front ends hand on no message of the browser; then silence means nothing.
"""

from __future__ import annotations

__all__ = ["Attention"]

PRESUMED_S = 30.0
"""For so long after it is shown, a widget is taken as looked at: a page with many outputs needs some seconds."""
UNSEEN = 15
"""Updates without an acknowledgement after which the reader counts as gone; browsers answer every fifth."""


class Attention:
    """Of one widget. Times are monotonic seconds."""

    def __init__(self, now_s: float) -> None:
        self._shown_s = now_s
        self._views: set[str] = set()
        self._has_heard = False
        self._unseen = 0

    def view(self, view: str, in_sight: bool) -> None:
        """The browser says that one view came into sight, or left it."""
        self._has_heard = True
        self._unseen = 0
        (self._views.add if in_sight else self._views.discard)(view)

    def sent(self) -> None:
        """An update went out."""
        self._unseen += 1

    def seen(self) -> None:
        """The browser acknowledged."""
        self._unseen = 0

    def is_given(self, now_s: float, *, hears: bool) -> bool:
        """Whether to send. `hears`: whether messages of the browser would have arrived."""
        if not self._has_heard:
            return not hears or now_s - self._shown_s < PRESUMED_S
        return bool(self._views) and (not hears or self._unseen < UNSEEN)
