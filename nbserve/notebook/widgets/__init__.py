"""Widgets of the notebook: each a Python file here, which imports anywidget, and a bundle nbserve/static/NAME.js.

Imported by `Endpoint` and the magics at the point of use. Where anywidget or a bundle is missing, what is shown is the
text and HTML that there is without widgets.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

__all__ = ["bundle_path", "can_show"]

_STATIC = Path(__file__).resolve().parents[2] / "static"


def bundle_path(name: str) -> Path:
    """The JavaScript of a widget."""
    return _STATIC / f"{name}.js"


def can_show(name: str) -> bool:
    """Whether this process is a notebook's kernel that can show the widget `name`."""
    if "IPython" not in sys.modules or importlib.util.find_spec("anywidget") is None:
        return False
    from IPython.core.getipython import get_ipython

    return hasattr(get_ipython(), "kernel") and bundle_path(name).is_file()
