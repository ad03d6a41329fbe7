"""`nbserve demo`: runs the quickstart notebook for real, makes the image of its endpoint, returns the facts.

The notebook ships in the wheel. Its last cell, tagged `demo-summary`, prints the line `demo-summary` and then one line
of JSON: url, prediction, label, requests_per_s, median_ms, bundle.
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from nbserve.errors import ExportError, NbserveError, UsageError
from nbserve.tables import megabytes

__all__ = ["run_demo"]

_NOTEBOOK = "01_quickstart.ipynb"
_CELL_TIMEOUT_S = 600
_MARK = "demo-summary"
_IMAGE = "nbserve-demo:latest"


def run_demo(output: Path, *, image: bool = True, base_image: str = "") -> dict[str, Any]:
    """Execute the quickstart into `output` (made where missing); its facts, and where the executed notebook lies.

    image: also build the image of what the notebook served, run it and compare its answer, where docker or podman
    answers; where that does not come off the facts say why.

    Raises UsageError where a package of the demo is missing, NbserveError where a cell fails.
    """
    source = find_notebook()
    nbformat, client_type, cell_error = _notebook_packages()
    output.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(source, as_version=4)
    client = client_type(
        notebook,
        timeout=_CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(output.resolve())}},
    )
    executed = output / _NOTEBOOK
    try:
        _execute(client)
    except cell_error as exc:
        raise NbserveError(f"the quickstart failed, see {executed}:\n{exc}") from exc
    finally:
        nbformat.write(notebook, executed)
    facts = summary(notebook.cells) | {"notebook": str(executed)}
    return facts | ship(Path(facts["bundle"]), output / "digits-image", base_image) if image else facts


def find_notebook() -> Path:
    """The quickstart: inside the installed package, else in the source tree. Raises UsageError where it is neither."""
    package = Path(str(resources.files("nbserve")))
    for place in (package / "_notebooks" / _NOTEBOOK, package.parent / "notebooks" / _NOTEBOOK):
        if place.is_file():
            return place
    raise UsageError(f"{_NOTEBOOK} is not part of this installation", hint="install jupyter-nbserve from a wheel")


def summary(cells: list[Any]) -> dict[str, Any]:
    """The facts that the tagged cell printed. Raises NbserveError where there are none."""
    for cell in cells:
        if _MARK not in cell.get("metadata", {}).get("tags", []):
            continue
        text = "".join(output.get("text", "") for output in cell.get("outputs", []))
        _, found, rest = text.partition(f"{_MARK}\n")
        if found:
            facts: dict[str, Any] = json.loads(rest.strip().splitlines()[0])
            return facts
    raise NbserveError(f"the quickstart has no cell tagged {_MARK} that printed its facts")


def ship(bundle: Path, context: Path, base_image: str = "") -> dict[str, Any]:
    """Build and prove the image of a bundle, with its wheels beside it; the facts about it."""
    from nbserve.export.engine import find_engine
    from nbserve.export.image import Asked, export_image

    if find_engine() is None:
        return {"image": "not built: neither docker nor podman answers here"}
    asked = Asked("digits", bundle, context, tag=_IMAGE, base_image=base_image, vendor=True, proof="image")
    try:
        made = export_image(asked, lambda line: print(line, file=sys.stderr, flush=True))
    except ExportError as exc:
        return {"image": f"not built: {exc.message}"}
    same = f"answers as {made.proof.against} did, largest difference {made.proof.max_difference or 0.0:.2g}"
    return {
        "image": f"{made.tag}, {megabytes(made.image_bytes)}, {same}",
        "run": made.run_command,
    }


def _execute(client: Any) -> None:
    """Over unix sockets: a kernel on TCP warns of it. Their paths must be short, so they get a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="nbs-") as sockets:
        kernel = client.create_kernel_manager()
        kernel.transport, kernel.ip = "ipc", f"{sockets}/kernel"
        client.execute()


def _notebook_packages() -> tuple[Any, Any, type[Exception]]:
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ImportError as exc:
        raise UsageError(f"the demo needs the package {exc.name}", hint='pip install "jupyter-nbserve[torch]"') from exc
    return nbformat, NotebookClient, CellExecutionError
