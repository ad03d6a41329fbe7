"""nbserve: model serving that lives in the notebook. Public names only; see docs/architecture.md for the rooms.

`%load_ext nbserve` in a notebook, `nbserve --help` in a terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbserve.errors import NbserveError
from nbserve.handler import Context, Handler, Row

if TYPE_CHECKING:
    from nbserve.endpoint import Endpoint

__version__ = "0.1.0"

__all__ = ["Context", "Endpoint", "Handler", "NbserveError", "Row", "__version__", "load_ipython_extension"]


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext nbserve`: registers the magics."""
    from nbserve.notebook.magics import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """`%unload_ext nbserve`: takes them away; endpoints keep serving."""
    from nbserve.notebook.magics import unload

    unload(ipython)


def __getattr__(name: str) -> Any:
    if name == "Endpoint":  # loads httpx: only where asked for
        from nbserve.endpoint import Endpoint

        return Endpoint
    raise AttributeError(f"module 'nbserve' has no attribute {name!r}")


def _warn_of_namesake() -> None:
    """Another project's distribution is called "nbserve", and its files and ours overwrite each other."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        other = distribution("nbserve")
    except PackageNotFoundError:
        return
    import warnings

    warnings.warn(
        f"two projects share the import name nbserve: jupyter-nbserve (this one) and nbserve {other.version}; "
        "keep one of them: pip uninstall nbserve, then pip install --force-reinstall jupyter-nbserve",
        stacklevel=2,
    )


_warn_of_namesake()
