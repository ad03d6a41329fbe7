"""Parts of live values: what `table["price"]`, `model.encoder` or `rows[0]` is, and how many bytes it has.

Called by `cautions.py`. Nothing of the user's runs: only containers, tensors, arrays and frames are looked into.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Part", "part_of", "size_of"]

_MOST_ITEMS = 200_000
"""Objects looked at for a size; the rest of a larger tree is left out of the sum."""
_FACTS = ("shape", "dtype", "dtypes", "ndim", "size", "columns", "device")
"""Attributes of arrays and frames that say what they are, without their data."""


class Part(NamedTuple):
    """A part of a value, and how the code names it: '["price"]', ".encoder"."""

    shown: str
    value: Any


def part_of(obj: Any, use: ast.expr) -> Part | None:
    """What a subscript or attribute of `obj` gives; None where it is not constant, or may be all of it."""
    if isinstance(use, ast.Attribute):
        return _attribute(obj, use.attr)
    assert isinstance(use, ast.Subscript)
    try:
        key = _constant(use.slice)
    except ValueError:
        return None
    shown = f"[{ast.unparse(use.slice)}]"
    try:
        if _is(obj, "pandas", "DataFrame"):
            wanted = key if isinstance(key, list) else [key]
            return Part(shown, obj[key]) if all(isinstance(one, str) for one in wanted) else None
        if type(obj) in (dict, list, tuple) or _is(obj, "numpy", "ndarray") or _is(obj, "torch", "Tensor"):
            return Part(shown, obj[key])
    except (LookupError, TypeError, ValueError):
        return None
    return None


def _attribute(obj: Any, name: str) -> Part | None:
    shown = f".{name}"
    if _is(obj, "pandas", "DataFrame"):
        if name in obj.columns and not hasattr(type(obj), name):
            return Part(shown, obj[name])
        return Part(shown, None) if name in _FACTS else None
    if _is(obj, "numpy", "ndarray") or _is(obj, "torch", "Tensor"):
        return Part(shown, None) if name in _FACTS else None
    if _is(obj, "torch.nn", "Module"):
        for held in (obj._modules, obj._parameters, obj._buffers):
            if name in held:
                return Part(shown, held[name])
    held = getattr(obj, "__dict__", {})
    return Part(shown, held[name]) if name in held and not hasattr(type(obj), name) else None


def _constant(node: ast.expr) -> Any:
    """Raises ValueError for what is no constant index."""
    if isinstance(node, ast.Slice):
        return slice(*(ast.literal_eval(each) if each else None for each in (node.lower, node.upper, node.step)))
    if isinstance(node, ast.Tuple):
        return tuple(map(_constant, node.elts))
    return ast.literal_eval(node)


def size_of(obj: Any) -> int:
    """Bytes of the data in a value, each object once. Strings inside frames are not counted."""
    total, todo = 0, [obj]
    seen: set[int] = set()
    while todo and len(seen) < _MOST_ITEMS:
        item = todo.pop()
        if id(item) in seen or item is None or isinstance(item, type):
            continue
        seen.add(id(item))
        if isinstance(item, (str, bytes, bytearray)):
            total += len(item)
        elif isinstance(item, (int, float, complex)):
            total += 8
        elif _is(item, "torch", "Tensor"):
            total += item.numel() * item.element_size()
        elif _is(item, "numpy", "ndarray"):
            total += item.nbytes
        elif _is(item, "pandas", "DataFrame"):
            total += int(item.memory_usage(index=False).sum())
        elif _is(item, "pandas", "Series"):
            total += int(item.memory_usage(index=False))
        elif isinstance(item, Mapping):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset)):
            todo += item
        elif isinstance(held := getattr(item, "__dict__", None), dict):
            todo += held.values()
    return total


def _is(obj: Any, module: str, name: str) -> bool:
    """isinstance, for classes of libraries that may not be imported."""
    cls = getattr(sys.modules.get(module), name, None)
    return cls is not None and isinstance(obj, cls)
