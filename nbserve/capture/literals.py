"""Small plain data as Python text: what becomes `NAME = ...` in handler.py instead of a file. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

__all__ = ["MAX_CHARS", "MUTABLE", "NotLiteral", "literal", "mutable_parts"]

MAX_CHARS = 2000
"""Longer data is a value: handler.py is for reading."""
MUTABLE = (list, dict, set, bytearray)
_LINE = 100


class NotLiteral(Exception):
    """It has no short text, or not one that gives it back exactly."""


def literal(obj: Any, refer: Callable[[Any], str | None] = lambda _obj: None) -> str:
    """Text that evaluates to an equal object. refer: names for functions, classes and modules inside containers.

    Raises NotLiteral for other types, for shared or endless containers, and where it would be too long.
    """
    text = _Text(refer).of(obj, 0)
    if len(text) > MAX_CHARS:
        raise NotLiteral("too long")
    return text


def mutable_parts(obj: Any) -> list[Any]:
    """Lists, dicts and sets in plain data, itself included; each once."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    todo = [obj]
    while todo:
        item = todo.pop()
        kind = type(item)
        if id(item) in seen or kind not in (list, dict, set, tuple, frozenset, bytearray):
            continue
        seen.add(id(item))
        if kind in MUTABLE:
            found[id(item)] = item
        if kind is dict:
            todo += [*item, *item.values()]
        elif kind is not bytearray:
            todo += item
    return list(found.values())


class _Text:
    def __init__(self, refer: Callable[[Any], str | None]) -> None:
        self._refer = refer
        self._seen: set[int] = set()
        self._left = MAX_CHARS

    def of(self, obj: Any, depth: int) -> str:
        kind = type(obj)
        if obj is None or kind in (bool, int, str, bytes):
            return self._spend(repr(obj))
        if kind is float:
            return self._spend(repr(obj) if math.isfinite(obj) else f'float("{obj}")')
        if depth and kind in MUTABLE and (name := self._refer(obj)) is not None:
            return self._spend(name)
        if kind in (list, tuple, dict, set, frozenset):
            return self._container(obj, kind, depth)
        name = self._refer(obj)
        if name is None:
            raise NotLiteral(kind.__name__)
        return name

    def _spend(self, text: str) -> str:
        self._left -= len(text)
        if self._left < 0:
            raise NotLiteral("too long")
        return text

    def _container(self, obj: Any, kind: type, depth: int) -> str:
        if id(obj) in self._seen and obj:
            raise NotLiteral("shared")
        if len(obj) > self._left:
            raise NotLiteral("too long")
        self._seen.add(id(obj))
        if kind is dict:
            parts = [f"{self.of(key, depth + 1)}: {self.of(value, depth + 1)}" for key, value in obj.items()]
            return _join("{", parts, "}", depth)
        parts = [self.of(item, depth + 1) for item in obj]
        if kind is list:
            return _join("[", parts, "]", depth)
        if kind is tuple:
            return _join("(", [*parts, ""] if len(parts) == 1 else parts, ")", depth)
        parts.sort()  # the order of a set is chance
        if kind is frozenset:
            return f"frozenset({_join('{', parts, '}', depth)})" if parts else "frozenset()"
        return _join("{", parts, "}", depth) if parts else "set()"


def _join(left: str, parts: list[str], right: str, depth: int) -> str:
    line = left + ", ".join(parts).rstrip() + right
    if len(line) <= _LINE:
        return line
    pad = "    " * (depth + 1)
    return left + "\n" + "".join(f"{pad}{part},\n" for part in parts if part) + "    " * depth + right
