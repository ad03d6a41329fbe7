"""The code that a replay runs: the notebook's handler as it is now, and what of it has changed since it was served.

Called by replay.py. Where the notebook does not have the handler (a fresh kernel, an endpoint that was started
elsewhere), it is the code as it was served, out of the bundle.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nbserve.bundle import Bundle
from nbserve.capture import capture
from nbserve.capture.cells import Cells
from nbserve.errors import NbserveError, UsageError
from nbserve.tracebacks import Locate
from nbserve.wire.codec import decode_row
from nbserve.wire.failure import Failure

__all__ = ["Code", "changed_definitions", "find_code"]


class Code(NamedTuple):
    """A handler to run. `values`: live objects that it works with, whose flags are put back afterwards.

    changed: definitions that are not as they were served; None where that cannot be known. note: for the reader.
    """

    target: Any
    values: list[Any]
    locate: Locate
    changed: list[str] | None
    note: str


def find_code(
    failure: Failure,
    bundle: Bundle | None,
    namespace: dict[str, Any],
    cells: Cells,
    sources: Mapping[str, tuple[str, Any]],
) -> Code:
    """What to run again. `sources`: Serving's. Raises UsageError where there is neither a cell nor a bundle of it."""
    name, served = sources.get(failure.model, ("", None))
    if not name and bundle is not None:
        name = bundle.manifest.handler.name
    target = namespace.get(name, served)
    if target is None or isinstance(target, (str, Path)):
        return _as_served(failure, bundle, name)
    try:
        captured = capture(target, name=failure.model, namespace=namespace, cells=cells, sample=_payload(bundle))
    except NbserveError as exc:
        note = f"whether the code has changed since cannot be said: {exc.message}"
        return Code(target, [], cells.locate, None, note)
    then = _source(bundle)
    if then is None:
        note = "whether the code has changed since cannot be said: what was served then is not kept any more"
        return Code(captured.target, list(captured.values.values()), cells.locate, None, note)
    changed = changed_definitions(then, captured.handler_source)
    note = f"changed since: {', '.join(changed)}{_where(target, cells)}" if changed else ""
    return Code(captured.target, list(captured.values.values()), cells.locate, changed, note)


def changed_definitions(then: str, now: str) -> list[str]:
    """Names of functions, classes, methods and values that differ between two handler.py; where they stand is nothing.

    Values that are data (weights, arrays) are not compared.
    """
    before, after = _definitions(then), _definitions(now)
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _as_served(failure: Failure, bundle: Bundle | None, name: str) -> Code:
    if bundle is None:
        raise UsageError(
            f"this notebook has no handler of {failure.model!r}{f': no {name}' if name else ''}",
            hint="run the cell that defines it; what was served then is not kept any more",
        )
    loaded = bundle.load()
    note = f"this notebook has no {name}: replayed with the code as it was served, {bundle.path / 'handler.py'}"
    return Code(loaded.handler, [], loaded.locate, [], note)


def _payload(bundle: Bundle | None) -> Any:
    """The sample's, which tells capture the dtype of a bare module's payloads."""
    sample = bundle.sample if bundle is not None else None
    return decode_row(sample.content_type, sample.body).payload if sample is not None else None


def _source(bundle: Bundle | None) -> str | None:
    try:
        return (bundle.path / "handler.py").read_text(encoding="utf-8") if bundle is not None else None
    except OSError:
        return None


def _where(target: Any, cells: Cells) -> str:
    found = cells.find_class(target) if inspect.isclass(target) else None
    if inspect.isfunction(target):
        found = cells.find(target.__code__)
    return f" (now {found.cell.label})" if found is not None else ""


def _definitions(source: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]
            found |= {f"{node.name}.{each.name}": ast.dump(each) for each in methods}
            node.body = [each for each in node.body if each not in methods]
            found[node.name] = ast.dump(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[node.name] = ast.dump(node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.dump(node)
    return found
