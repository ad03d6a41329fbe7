"""What capture saw and did not take, and why: for `explain`. Called by `captured.py`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from nbserve.bundle.manifest import SkippedRecord
from nbserve.capture.cells import Cells

__all__ = ["not_taken"]


def not_taken(
    taken: Collection[str],
    places: Collection[str],
    undefined: Mapping[str, str],
    unneeded: Mapping[str, str],
    imported: Collection[str],
    objects: Mapping[str, Any],
    cells: Cells,
) -> list[SkippedRecord]:
    """Sorted by name.

    taken: captured names. places: labels of the cells that they come from. undefined: names that code uses and nobody
    defined -> who uses them. unneeded: names that the walk met and the result does not need -> cell. imported: packages
    that the bundle needs. objects: captured live objects.
    """
    found = {name: SkippedRecord(name, f"{user} uses it, and nothing defines it") for name, user in undefined.items()}
    for name, where in unneeded.items():
        found.setdefault(name, SkippedRecord(name, "nothing that is served uses it", where))
    for cell in cells:
        if cell.label in places:
            for name in cell.binds:
                if name not in taken and name not in imported and not name.startswith("_"):
                    why = "bound in the same cell, but nothing that is served uses it"
                    found.setdefault(name, SkippedRecord(name, why, cell.label))
    for name, obj in objects.items():
        if name in taken:
            found |= {one.name: one for one in _left_behind(name, obj)}
    return [found[name] for name in sorted(found)]


def _left_behind(name: str, obj: Any) -> Iterator[SkippedRecord]:
    if isinstance(obj, functools._lru_cache_wrapper) and (kept := obj.cache_info().currsize):
        yield SkippedRecord(f"{name}.cache", f"each worker fills its own cache; {kept} answers are in the notebook's")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(obj, torch.nn.Module):
        if any(each.grad is not None for each in obj.parameters()):
            yield SkippedRecord(f"{name}.grad", "gradients belong to training")
    elif torch is not None and isinstance(obj, torch.Tensor) and obj.is_leaf and obj.grad is not None:
        yield SkippedRecord(f"{name}.grad", "gradients belong to training")
