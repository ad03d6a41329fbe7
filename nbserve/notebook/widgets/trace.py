"""The trace view: a profile's timeline in a notebook. Its front end is labextension/src/widgets/trace.

Shown by a profile's result where `can_show("trace")`. The trace goes to the browser as one buffer of columns, never as
JSON of spans; what a front end saves with the notebook has a picture and words, no trace.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any, Literal

import anywidget
import traitlets

from nbserve.errors import NbserveError
from nbserve.measure.trace import Trace
from nbserve.notebook.widgets import bundle_path, static
from nbserve.notebook.widgets.comms import hear_in_subshells
from nbserve.notebook.widgets.trace_picture import as_html, as_text

__all__ = ["TraceView", "packed"]


class TraceView(anywidget.AnyWidget):
    """One trace, to be looked into.

    `title`: default made of the trace's `meta`. `raw`: called when the reader wants the raw trace; its bytes (gzip of
    Chrome's JSON) are saved as `filename`. Without it there is no such button. What `raw` raises is shown beside it.
    `tab`: which one below the timeline is open at first.
    """

    _esm = bundle_path("trace")

    data = traitlets.Bytes(read_only=True).tag(sync=True)
    title = traitlets.Unicode(read_only=True).tag(sync=True)
    filename = traitlets.Unicode(read_only=True).tag(sync=True)
    """Empty: there is no raw trace."""
    tab = traitlets.Unicode(read_only=True).tag(sync=True)
    twin = traitlets.Unicode(read_only=True).tag(sync=True)
    """What the file keeps beside it (static.py)."""

    def __init__(
        self,
        trace: Trace,
        *,
        title: str = "",
        raw: Callable[[], bytes] | None = None,
        filename: str = "trace.json.gz",
        tab: Literal["Operators", "Flame graph", "Threads"] = "Operators",
    ) -> None:
        self._trace = trace
        self._raw = raw
        self.set_trait("data", packed(trace))
        self.set_trait("title", title or _title(trace))
        self.set_trait("filename", filename if raw else "")
        self.set_trait("tab", tab)
        self.set_trait("twin", static.new_twin())
        super().__init__()
        hear_in_subshells(self.comm)
        self.on_msg(self._on_message)

    def __repr__(self) -> str:
        return as_text(self._trace, self.title)

    def _ipython_display_(self) -> None:
        static.publish(self.twin, self.model_id, as_text(self._trace, self.title), as_html(self._trace, self.title))

    def _on_message(self, _: Any, content: dict[str, Any], buffers: list[memoryview]) -> None:
        """From the browser: it wants the raw trace."""
        if content.get("kind") != "raw" or self._raw is None:
            return
        try:
            raw = self._raw()
        except (NbserveError, OSError) as exc:
            self.send({"kind": "raw", "error": str(exc)})
        else:
            self.send({"kind": "raw"}, buffers=[raw])


def packed(trace: Trace) -> bytes:
    """A trace as one buffer: length of the header (u32, little-endian), header as JSON, columns at multiples of 8."""
    header, columns = trace.to_bytes()
    text = json.dumps(header, default=str, separators=(",", ":")).encode()
    head = struct.pack("<I", len(text)) + text
    return head + bytes(-len(head) % 8) + columns


def _title(trace: Trace) -> str:
    name, version = trace.meta.get("name", ""), trace.meta.get("version", "")
    return f"Trace of {name}{f' version {version}' if version else ''}" if name else "Trace"
