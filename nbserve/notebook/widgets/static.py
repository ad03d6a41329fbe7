"""What a notebook's file keeps of a widget: an output of its own before the widget's, with a picture and text.

Called by `Endpoint` and `TraceView` when they are displayed. One output with both would not do: JupyterLab shows the
widget of a bundle that has one, and "model not found" where its kernel is gone. So the widget hides its twin as long as
it is on the page, by a style sheet that goes with it; where it cannot be shown, the twin hides the message about it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

__all__ = ["new_twin", "publish"]

WIDGET = "application/vnd.jupyter.widget-view+json"

_OUTPUT = ".jp-OutputArea-child"
_STYLE = f"<style>{_OUTPUT}:has(.nbserve-static) + {_OUTPUT} > .jupyter-widgets:not(:has(*)) {{display: none}}</style>"
"""JupyterLab marks the place of a widget whose model is gone so, and puts nothing but its message there."""


def new_twin() -> str:
    """A name for widget and twin, of letters and digits."""
    return secrets.token_hex(8)


def publish(twin: str, model_id: str, text: str, page: str) -> None:
    """Show a widget as two outputs: `text` and `page` (HTML) for the file, then the widget itself."""
    from IPython.display import publish_display_data

    static = f'<div class="nbserve-static nbserve-static-{twin}">{_STYLE}{page}</div>'
    view = {"version_major": 2, "version_minor": 0, "model_id": model_id}
    bundles: list[Mapping[str, Any]] = [{"text/plain": text, "text/html": static}, {"text/plain": "", WIDGET: view}]
    for bundle in bundles:
        publish_display_data(bundle)  # type: ignore[no-untyped-call]
