"""The dashboard of an endpoint: the live card of a serving cell. Its front end is labextension/src/widgets/dashboard.

Made by `Endpoint` when a notebook shows it. Traits hold what a browser needs to draw (`facts`, `now`), custom messages
the rest, so that a notebook that saves widget state saves neither logs nor answers; the token is in neither.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anywidget
import traitlets

from nbserve.explanation import explanation, shared_bytes
from nbserve.notebook.card import build
from nbserve.notebook.widgets import bundle_path
from nbserve.notebook.widgets.attention import Attention
from nbserve.notebook.widgets.comms import hear_in_subshells
from nbserve.notebook.widgets.facts import facts
from nbserve.notebook.widgets.job import Job
from nbserve.notebook.widgets.static import new_twin
from nbserve.notebook.widgets.watcher import Watcher

if TYPE_CHECKING:
    from nbserve.endpoint import Endpoint
    from nbserve.notebook.widgets.trace import TraceView

__all__ = ["Dashboard"]

log = logging.getLogger("nbserve.notebook")

MAX_COMPARED_BYTES = 500_000_000
MAX_COMPARE_S = 1.0
"""What is larger, or took longer once, is not compared after each cell any more: `%nbserve explain` does it."""


class Dashboard(anywidget.AnyWidget):
    """One endpoint's dashboard. Raises GatewayError, NotFound where it is not served now."""

    _esm = bundle_path("dashboard")

    facts = traitlets.Dict().tag(sync=True)
    """What stays as long as a version serves (facts.py)."""
    now = traitlets.Dict().tag(sync=True)
    """What the last second was like (watcher.py); empty until it was asked."""
    ended = traitlets.Unicode("").tag(sync=True)
    """Why there are no more updates."""
    twin = traitlets.Unicode(read_only=True).tag(sync=True)
    """What the file keeps beside it (static.py)."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._attention = Attention(time.monotonic())
        self._cell = _RunningCell()
        self._changed: list[str] = []
        self._compares = True
        self._views: list[TraceView] = []
        self.set_trait("twin", new_twin())
        super().__init__(facts=self._facts())
        hear_in_subshells(self.comm)
        self._watcher = Watcher(
            endpoint.served,
            is_wanted=lambda: self._attention.is_given(time.monotonic(), hears=not self._cell.is_running),
            on_look=self._compare,
            on_update=self._on_update,
            on_end=self._on_end,
        )
        self.on_msg(self._on_message)
        self._watcher.start()

    def close(self) -> None:
        """Called by ipywidgets: watch no more."""
        self._watcher.close()
        self._keep([])
        super().close()

    def _facts(self) -> dict[str, Any]:
        served = self._endpoint.served
        model, gateway = served.model(), served.client.status()
        card = build(model, gateway)
        return facts(model, gateway, card, self._changed, can_profile=hasattr(self._endpoint, "profile"))

    # -- from the gateway: called in the watcher's thread --------------------------------------------------------------

    def _on_update(self, now: dict[str, Any], lines: list[str]) -> None:
        if self.facts["version"] != now["version"] or self._has_moved(now):
            self.facts = self._facts()
        self.now = now
        if lines:
            self.send({"kind": "log", "lines": lines})
        self._attention.sent()

    def _compare(self) -> None:
        """After a cell has run: is what was captured another now? Not where it takes long."""
        if self._cell.is_running or not self._cell.has_run or not self._compares:
            return
        self._cell.has_run = False
        model = self._endpoint.served.model()
        if shared_bytes(Path(model.bundle)) > MAX_COMPARED_BYTES:
            return
        began_s = time.monotonic()
        try:
            changed = explanation(model).changed
        except Exception as exc:  # the user's objects are walked while the next cell may begin to change them
            log.debug("comparing %s with the notebook failed: %r", model.name, exc)
            return
        self._compares = time.monotonic() - began_s < MAX_COMPARE_S
        if changed != self._changed:
            self._changed = changed
            self.facts = self.facts | {"changed": changed}

    def _has_moved(self, now: dict[str, Any]) -> bool:
        """Whether what the card says may be another."""
        before = self.now
        return bool(now["state"] != before.get("state") or len(now["workers"]) != len(before.get("workers", [])))

    def _on_end(self, why: str) -> None:
        self.ended = why
        self._cell.forget()

    # -- from the browser: called on whichever thread the kernel has for messages --------------------------------------

    def _on_message(self, _: Any, content: dict[str, Any], buffers: list[memoryview]) -> None:
        kind = content.get("kind")
        if kind == "view":
            self._attention.view(str(content.get("view")), bool(content.get("in_sight")))
            self._watcher.wake()
        elif kind == "seen":
            self._attention.seen()
        elif kind == "hello":
            self.send({"kind": "history", "points": list(self._watcher.history), "lines": list(self._watcher.log)})
        elif kind in ("act", "try"):
            job = Job(self._endpoint, content, bytes(buffers[0]) if buffers else b"", self.send, self._keep)
            threading.Thread(target=self._run, args=(job,), name=f"nbserve-{kind}", daemon=True).start()
        elif kind == "closed":
            self._keep([])

    def _run(self, job: Job) -> None:
        job.run()
        self._watcher.wake()

    def _keep(self, views: list[TraceView]) -> list[str]:
        """Views to be shown inside this one, in place of those before: a trace is too large to let them pile up."""
        before, self._views = self._views, views
        for view in before:
            view.close()
        return [view.model_id for view in views]


class _RunningCell:
    """Whether the user's cell is running: then a message of the browser may have to wait for its end."""

    def __init__(self) -> None:
        from IPython.core.getipython import get_ipython

        self.is_running = True  # it is shown by a cell
        self.has_run = False
        self._ip = cast(Any, get_ipython())
        self._ip.events.register("pre_run_cell", self._begins)
        self._ip.events.register("post_run_cell", self._ends)

    def forget(self) -> None:
        """Listen no more."""
        self.is_running = False
        for event, listener in (("pre_run_cell", self._begins), ("post_run_cell", self._ends)):
            if listener in self._ip.events.callbacks[event]:
                self._ip.events.unregister(event, listener)

    def _begins(self, _: Any) -> None:
        self.is_running = True

    def _ends(self, _: Any) -> None:
        self.is_running, self.has_run = False, True
