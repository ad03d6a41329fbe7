"""One press of a button, or one request of the try-it box, and what the browser hears of it while it goes on.

Made by `dashboard.py` for each, in a thread of its own. The browser hears of its begin, of its progress at most five
times a second, and of its end; the last word and the last lines always arrive before the end does.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nbserve.errors import NbserveError
from nbserve.notebook.widgets import actions
from nbserve.notebook.widgets.build_log import readable

if TYPE_CHECKING:
    from nbserve.endpoint import Endpoint
    from nbserve.notebook.widgets.trace import TraceView

__all__ = ["Job", "Teller"]

MAX_BODY_BYTES = 50_000_000
"""Of a request from the try-it box; the gateway has its own limit."""
TELL_INTERVAL_S = 0.2
MAX_LINES = 200
"""In one message; of more, the last ones are sent, and how many were left out."""

Tell = Callable[[str, Mapping[str, Any]], None]
"""Sends one message: its state, and what else there is to say."""


class Teller:
    """Takes in progress as fast as it comes and hands it on at a pace that a browser likes. Any thread may call it."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._said: dict[str, Any] = {}
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._left_out = 0
        self._told_s = float("-inf")
        self._timer: threading.Timer | None = None

    def say(self, text: str, done: float | None = None) -> None:
        """What goes on, and how much of it is done (0 to 1; None where that is not known)."""
        with self._lock:
            self._said = {"text": text, "done": done}
        self._soon()

    def line(self, line: str) -> None:
        """One line of what a program printed."""
        with self._lock:
            self._left_out += len(self._lines) == MAX_LINES
            self._lines.append(readable(line))
        self._soon()

    def flush(self) -> None:
        """Tell now what waits."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not self._said and not self._lines:
                return
            message = {**self._said, "lines": list(self._lines), "left_out": self._left_out}
            self._said, self._left_out, self._told_s = {}, 0, time.monotonic()
            self._lines.clear()
            self._tell("running", message)  # under the lock: in their order

    def _soon(self) -> None:
        with self._lock:
            if self._timer is not None:
                return
            wait_s = self._told_s + TELL_INTERVAL_S - time.monotonic()
            if wait_s > 0:
                self._timer = threading.Timer(wait_s, self.flush)
                self._timer.daemon = True
                self._timer.start()
                return
        self.flush()


class Job:
    """`run` does it, in whichever thread calls it. `keep` takes the views of a result and says their ids."""

    def __init__(
        self,
        endpoint: Endpoint,
        content: Mapping[str, Any],
        body: bytes,
        send: Callable[[dict[str, Any]], None],
        keep: Callable[[list[TraceView]], list[str]],
    ) -> None:
        self._endpoint = endpoint
        self._content = content
        self._body = body
        self._send = send
        self._keep = keep

    def run(self) -> None:
        """Do it, and tell the browser of its begin, progress and end."""
        self._tell("accepted", {})
        teller = Teller(self._tell)
        end: tuple[str, dict[str, Any]]
        try:
            result = self._do(teller)
            if views := result.pop("views", []):
                result["views"] = self._keep(views)
            end = "done", {"result": result}
        except NbserveError as exc:
            end = "failed", {"text": exc.message, "hint": exc.hint or ""}
        except Exception as exc:  # of a verb, where nobody else would hear of it
            end = "failed", {"text": f"{type(exc).__name__}: {exc}", "hint": ""}
        teller.flush()
        self._tell(*end)

    def _do(self, teller: Teller) -> dict[str, Any]:
        content = self._content
        if content["kind"] == "try":
            return self._try()
        return actions.run(self._endpoint, str(content.get("action")), dict(content.get("params") or {}), teller)

    def _try(self) -> dict[str, Any]:
        content, endpoint = self._content, self._endpoint
        if content.get("sample"):
            from nbserve.explanation import read_sample

            sample = read_sample(endpoint.served.model().bundle)
            if sample is not None:
                return actions.try_it(endpoint, sample.content_type, sample.body)
        return actions.try_it(endpoint, str(content.get("content_type")), self._body[:MAX_BODY_BYTES])

    def _tell(self, state: str, more: Mapping[str, Any]) -> None:
        self._send({"kind": "job", "id": str(self._content.get("id")), "state": state} | dict(more))
