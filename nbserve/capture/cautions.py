"""What the user should know of what was captured: a large value of which the code reads a part, strings that look like
secrets, absolute paths. Called by `captured.py`; warnings are text, and never hold the secret itself.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nbserve.bundle import secrets
from nbserve.capture.parts import part_of, size_of
from nbserve.tables import megabytes

__all__ = ["LARGE_BYTES", "absolute_paths", "partly_used", "suspect_strings"]

LARGE_BYTES = 10_000_000
"""Less is not worth a change of the notebook: it is written in some 10 ms and held once for all workers."""
_LARGEST_PART = 0.5
"""Where the code reads more than half, taking the part alone gains little."""
_MOST_STRINGS = 50_000
_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/lib", sys.prefix, sys.base_prefix)
_ABSOLUTE = re.compile(r"(?:/|~/|[A-Za-z]:[\\/])[^\0\n]+")

Locate = Callable[[int], str]
"""Line of a text -> where that is, for people."""


# --- a part of a large value


def partly_used(name: str, obj: Any, size_bytes: int, where: str, texts: Iterable[str]) -> str:
    """The warning for a value of `size_bytes` of which these texts read only constant parts; "" for none.

    texts: all captured code. Read are columns, keys, attributes and constant indices: of the global itself, and of what
    it is assigned to as a whole (`self.table = table`).
    """
    if size_bytes < LARGE_BYTES:
        return ""
    parts: dict[str, Any] = {}
    for text in texts:
        for use in _uses(ast.parse(text), name):
            found = part_of(obj, use) if use is not None else None
            if found is None:
                return ""
            parts[f"{name}{found.shown}"] = found.value
    whole = size_of(obj)
    share = sum(map(size_of, parts.values())) / whole if parts and whole else 1.0
    if share > _LARGEST_PART:
        return ""
    shown = sorted(parts)
    place = f", {where}" if where else ""
    return (
        f"{name} ({megabytes(size_bytes)}{place}) is shipped whole, and the code reads only {', '.join(shown)} "
        f"({megabytes(share * size_bytes)}): bind that to a name in a cell (`part = {shown[0]}`) and use the name"
    )


def _uses(tree: ast.AST, name: str) -> Iterator[ast.expr | None]:
    """Subscripts and attributes that are read of the global `name`; None for every other use of it."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    known = {name}
    while more := {alias for node in ast.walk(tree) for alias in _aliases(node, known)} - known:
        known |= more
    for node in ast.walk(tree):
        if not isinstance(node, ast.expr) or _dotted(node) not in known or _is_stored(node):
            continue
        if isinstance(node, ast.Name) and _is_local(node.id, node, parents) and node.id == name:
            continue
        parent = parents.get(node)
        if isinstance(parent, (ast.Subscript, ast.Attribute)) and parent.value is node:
            if _dotted(parent) not in known:
                yield None if _is_stored(parent) else parent
        elif not (isinstance(parent, ast.Assign) and set(map(_dotted, parent.targets)) <= known):
            yield None


def _aliases(node: ast.AST, known: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Assign) and _dotted(node.value) in known:
        yield from filter(None, map(_dotted, node.targets))


def _dotted(node: ast.expr) -> str:
    """ "frame" and "self.frame"; "" for other expressions."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return f"self.{node.attr}"
    return ""


def _is_stored(node: ast.expr) -> bool:
    return not isinstance(getattr(node, "ctx", None), ast.Load)


def _is_local(name: str, node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Is the name an argument, or assigned, in a function around this place?"""
    while (node := parents.get(node)) is not None:  # type: ignore[assignment]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            own = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
            if not isinstance(node, ast.Lambda):
                own |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and _is_stored(each)}
            if name in own:
                return True
    return False


# --- strings


class Text(NamedTuple):
    """A Python text of the bundle. file: its name for people."""

    source: str
    file: str
    locate: Locate


def suspect_strings(texts: Iterable[Text], docs: Mapping[str, Any], where: Callable[[str], str]) -> list[str]:
    """A warning for each string that looks like a secret. docs: trees of values, by name; where: name -> cell."""
    found = [one for text in texts for one in secrets.in_python(text.source, text.file, text.locate)]
    for name, doc in docs.items():
        found += secrets.in_json(doc, name, f"the value {name}{_in(where(name))}")
    return [
        f"{one.name} ({one.where}) looks like a secret ({one.kind}): it is part of the bundle; read it in `initialize` "
        f"from os.environ instead, and give it with --env"
        for one in dict.fromkeys(found)
    ]


def absolute_paths(
    texts: Iterable[Text],
    docs: Mapping[str, Any],
    where: Callable[[str], str],
    exists: Callable[[str], bool] = os.path.exists,
) -> list[str]:
    """A warning for each string, in code or in a value, that is the absolute path of something on this machine."""
    places: dict[str, str] = {}
    for text in texts:
        for node in _strings_in_code(ast.parse(text.source)):
            places.setdefault(node.value, text.locate(node.lineno))
    for name, doc in docs.items():
        for string in _strings_in_data(doc):
            places.setdefault(string, f"the value {name}{_in(where(name))}")
    return [
        f"{place} names {path}, which is of this machine: workers elsewhere do not have it; read the file into a "
        f"variable in a cell, or give its path with --env"
        for path, place in places.items()
        if _is_users(path) and exists(os.path.expanduser(path))
    ]


def _in(cell: str) -> str:
    return f", {cell}" if cell else ""


def _is_users(path: str) -> bool:
    """An absolute path with at least two parts that no installation has anyway."""
    if not _ABSOLUTE.fullmatch(path) or len(path) > 1024:
        return False
    given = Path(os.path.expanduser(path))
    return len(given.parts) > 2 and not any(given.is_relative_to(root) for root in _SYSTEM)


class _String(NamedTuple):
    value: str
    lineno: int


def _strings_in_code(tree: ast.AST) -> Iterator[_String]:
    """String literals, those that stand alone (docstrings) left out."""
    alone = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in alone:
            yield _String(node.value, node.lineno)


def _strings_in_data(doc: Any) -> Iterator[str]:
    todo, left = [doc], _MOST_STRINGS
    while todo and left:
        item = todo.pop()
        if isinstance(item, str):
            left -= 1
            yield item
        elif isinstance(item, Mapping) and str(item.get("v", "")).startswith("pathlib:"):
            yield "/".join(map(str, item.get("args", ()))).replace("//", "/", 1)
        elif isinstance(item, Mapping):
            todo += item.values()
        elif isinstance(item, list):
            todo += item
