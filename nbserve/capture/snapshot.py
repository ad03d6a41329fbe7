"""Whether what is served from a notebook is still what is live there. Made by `notebook/serve.py`, asked by `explain`.

The live handler is captured once more and compared with the bundle, byte by byte, so that one element changed through
`p.data` is noticed (some 0.05 s for 400 MB).
"""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbserve.bundle.requirements import asked
from nbserve.bundle.values import read_manifest
from nbserve.capture.captured import capture
from nbserve.capture.cells import Cells
from nbserve.errors import CaptureError

__all__ = ["Snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """One serve. target: gives the live handler as it is now. sample: as for `capture`."""

    bundle: Path
    created_at: float
    """Unix time."""
    target: Callable[[], Any]
    namespace: dict[str, Any]
    cells: Cells
    sample: Any = None

    def changes(self) -> list[str]:
        """A line for each captured name that is another now; nothing where all is as served. Raises BundleError."""
        manifest = read_manifest(self.bundle)
        since = f"snapshot of {_clock(self.created_at)}"
        try:
            now = capture(
                self.target(), name=manifest.name, namespace=self.namespace, cells=self.cells, sample=self.sample
            )
        except CaptureError as exc:
            return [f"{since}; it can no longer be captured: {exc.message}"]
        before = _definitions((self.bundle / "handler.py").read_text("utf-8"))
        after = _definitions(now.handler_source)
        names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        files = now.differing(self.bundle)
        values = {name for name, record in now.manifest.values.items() if files & set(record.files)}
        names += sorted(values - set(names))
        places = {entry.name: entry.where for entry in now.entries}
        lines = [f"{since}; {name} {_how(name, before, after, places)}" for name in names]
        return lines + [f"{since}; {text}" for text in _reinstalled(manifest.requirements, now.manifest.requirements)]

    def statement(self, name: str, label: str) -> str:
        """The statement of a cell that bound a name; "" where that is not known any more."""
        return self.cells.statement(name, label)


def _how(name: str, before: Mapping[str, str], after: Mapping[str, str], places: Mapping[str, str]) -> str:
    place = f" ({places[name]})" if places.get(name) else ""
    if name not in after:
        return "is no longer needed"
    return f"{'has changed since' if name in before else 'is needed now'}{place}"


def _reinstalled(before: list[str], after: list[str]) -> list[str]:
    known = {asked(line).name: line for line in after}
    return [
        f"{line} was installed then, now {known[name]}"
        for line in before
        if known.get(name := asked(line).name, line) != line
    ]


def _definitions(source: str) -> dict[str, str]:
    """Global of a handler.py -> its statement, without regard to how it is laid out."""
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[node.name] = ast.dump(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            found["the environment"] = ast.dump(node)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and "open_values" not in ast.unparse(node.value):
            found[ast.unparse(node.targets[0])] = ast.dump(node)
    return found


def _clock(created_at: float) -> str:
    """ "14:02", with the day where it was another one."""
    when, today = time.localtime(created_at), time.localtime()
    return time.strftime("%H:%M" if when[:3] == today[:3] else "%Y-%m-%d %H:%M", when)
