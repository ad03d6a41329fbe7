"""What a serving cell shows while its endpoint loads, and what the workers print later: one display, kept up to date.

The display belongs to the cell by its display id, so updates from the events' thread reach that cell whichever one
runs by then. Bounded: a tail of lines, a few updates a second.
"""

from __future__ import annotations

import html
import threading
import time
from collections import deque
from typing import Any

from nbserve.errors import ErrorInfo
from nbserve.tables import log_lines
from nbserve.wire.management import Event

__all__ = ["Board"]

_TAIL_LINES = 100
_LINE_LIMIT = 2000
_UPDATE_INTERVAL_S = 0.2

_WORDS = {
    "capture": "capturing the handler",
    "sample": "running the sample in the notebook",
    "write": "writing the bundle",
    "gateway": "starting the gateway",
    "start": "starting workers",
    "import": "importing",
    "values": "loading values",
    "initialize": "running initialize",
    "warmup": "warming up",
    "proof": "comparing the worker's answer with the notebook's",
}


class Board:
    """Progress and prints of one version. `ip` None or without a kernel: lines are printed as they come."""

    def __init__(self, ip: Any, name: str) -> None:
        self.name = name
        self.version = ""
        self.note = ""
        """Shown with the stages: what loading takes."""
        self.error: ErrorInfo | None = None
        self._live = hasattr(ip, "kernel")
        self._publish = ip.display_pub.publish
        self._display_id = f"nbserve-{name}-{time.monotonic_ns()}"
        self._headline = ""
        self._started = time.monotonic()
        self._started_at = time.time()
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._dropped = 0
        self._changed = threading.Condition()
        self._outcome = ""
        self._timer: threading.Timer | None = None
        self._shown = False
        self._left = False
        self._swap = ""

    def stage(self, stage: str) -> None:
        """Say which stage begins."""
        seconds = time.monotonic() - self._started
        note = f"; {self.note}" if self.note else ""
        self._say(f"{self._title()}: {_WORDS.get(stage, stage)} ... ({seconds:.1f} s{note})")

    def done(self, text: str) -> None:
        """The line that stays."""
        self._say(f"{self._title()}: {text}", now=True)

    def ready(self) -> None:
        """The line that stays when the version serves: how long it took, how an older one was replaced."""
        seconds = time.monotonic() - self._started
        self.done(f"ready in {seconds:.1f} s{self._swap}")

    def leave(self) -> None:
        """The cell ends while the version loads: from here on the outcome is shown by the events' thread."""
        self._left = True
        if self._outcome:
            self._show_outcome()

    def event(self, event: Event) -> None:
        """Take in one event of the gateway; called from the events' thread."""
        if event.model != self.name or event.at < self._started_at - 1:
            return
        if self.version and event.version != self.version:
            return
        if event.kind == "stage":
            self._on_stage(event)
        elif event.kind in ("log", "error"):
            self._print(log_lines(event))
        elif "swap" in event.data:
            self._swap = f", {event.text}"

    def wait(self, timeout_s: float) -> str:
        """Wait for the version's outcome: "ready", "failed", or "" after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._outcome), timeout_s)
            return self._outcome

    def flush(self) -> None:
        """Show now what waits to be shown."""
        if self._cancel_timer():
            self._update()

    def _title(self) -> str:
        return f"{self.name} version {self.version}" if self.version else self.name

    def _on_stage(self, event: Event) -> None:
        if event.stage in ("ready", "failed"):
            with self._changed:
                self._outcome = event.stage
                self.error = event.error or self.error
                self._changed.notify_all()
            if self._left:
                self._show_outcome()
        elif event.stage != "drained" and not self._outcome:
            self.stage(event.stage)

    def _show_outcome(self) -> None:
        if self._outcome == "ready":
            self.ready()
        else:
            self.done("not served; its log and the endpoint's status() say why")

    def _say(self, text: str, *, now: bool = False) -> None:
        self._headline = text
        if not self._live:
            print(text, flush=True)
        elif now or not self._shown:
            self._cancel_timer()
            self._update()
        else:
            self._update_soon()

    def _print(self, lines: list[str]) -> None:
        if not self._live:
            print("\n".join(lines), flush=True)
            return
        with self._changed:
            self._dropped += max(0, len(self._tail) + len(lines) - _TAIL_LINES)
            self._tail.extend(line[:_LINE_LIMIT] for line in lines)
        self._update_soon()

    def _cancel_timer(self) -> bool:
        with self._changed:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return timer is not None

    def _update_soon(self) -> None:
        with self._changed:
            if self._timer is not None:
                return
            self._timer = threading.Timer(_UPDATE_INTERVAL_S, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def _update(self) -> None:
        with self._changed:  # one at a time, or an older state could arrive last
            lines = list(self._tail)
            if self._dropped:
                lines.insert(0, f"({self._dropped} earlier lines: %nbserve logs {self.name})")
            text = "\n".join([self._headline, *lines])
            data = {"text/plain": text, "text/html": _to_html(self._headline, lines)}
            update, self._shown = self._shown, True
            self._publish(data, transient={"display_id": self._display_id}, update=update)


def _to_html(headline: str, lines: list[str]) -> str:
    style = "color:var(--jp-ui-font-color2,#666);font-size:var(--jp-ui-font-size1,13px)"
    parts = [f'<div style="{style}">{html.escape(headline)}</div>']
    if lines:
        text = html.escape("\n".join(lines))
        parts.append(f'<pre style="max-height:16em;overflow:auto;margin:0">{text}</pre>')
    return "".join(parts)
