"""The source of one function or class as it goes into handler.py: found text, made true to the live object. Pure.

Called by `walk.py`. A definition that closes over variables, or that needs another name than its own, is wrapped into a
factory; parts whose live value is another than the text says (defaults, data of a class body) are replaced by names.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Mapping
from types import CodeType
from typing import NamedTuple

from nbserve.capture.cells import Found
from nbserve.capture.source import Uses, future_flags, indent, offset_of, uses

__all__ = ["Rendered", "annotation_names", "render_definition"]


class Rendered(NamedTuple):
    """text: statements that bind the name. spans: as in graph.Node. uses: global names the text refers to."""

    text: str
    spans: list[tuple[int, int, str, int]]
    uses: Uses


def render_definition(
    name: str,
    found: Found,
    *,
    code: CodeType,
    replace: Mapping[ast.expr, str],
    free: Mapping[str, str],
    decorators: bool,
) -> Rendered:
    """Source text that binds `name`.

    replace: expressions of the definition -> text that stands in for them. free: closed-over variables -> expressions.
    decorators: keep them.
    """
    node = found.definition.node
    text, first = _cut(found, replace, decorators)
    if isinstance(node, ast.Lambda):
        own, body = name, f"({text})"
        result = body
        lines_before = 0
        column = 0
    else:
        own, column = node.name, len(text) - len(text.lstrip(" \t"))
        result = own
        lines_before = 0
    if isinstance(node, ast.Lambda):
        if free:
            body = f"def _make_{name}({', '.join(free)}):\n    return {result}\n{_call(name, free)}"
            lines_before = 1
        else:
            body = f"{name} = {result}"
    elif free or own != name:
        kept = ""
        if own in _globals_of(found.definition.code):  # inside the factory its own name would be itself, and not that
            text, own = _renamed(text, node), f"_{own}"
            pad = text[:column] if column else "    "
            kept = f"{pad}{own}.__name__ = {own}.__qualname__ = {node.name!r}\n"
        inner = text if column else indent(text)
        pad = text[:column] if column else "    "
        result = f"{kept}{pad}return {own}\n\n\n{_call(name, free)}"
        body = f"def _make_{name}({', '.join(free)}):\n{inner.rstrip()}\n\n{result}"
        lines_before = 1
    elif column:
        body = f"if True:  # indented as in the notebook\n{text}"
        lines_before = 1
    else:
        body = text
    body = body.rstrip() + "\n"
    count = text.rstrip("\n").count("\n") + 1
    spans = [(lines_before + 1, count, found.cell.label, first + found.cell.line_offset)]
    compiled = compile(body, "<handler>", "exec", flags=future_flags(code), dont_inherit=True)
    return Rendered(body, spans, uses(compiled))


def _globals_of(code: CodeType) -> set[str]:
    found = uses(code)
    return {*found.hard, *found.soft}


def _renamed(text: str, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    """The definition under another name, which begins with "_"."""
    return re.sub(
        rf"^([ \t]*(?:async\s+def|def|class)\s+)({re.escape(node.name)})\b", r"\1_\2", text, count=1, flags=re.M
    )


def _call(name: str, free: Mapping[str, str]) -> str:
    arguments = ", ".join(f"{variable}={expression}" for variable, expression in free.items())
    return f"{name} = _make_{name}({arguments})"


def _cut(found: Found, replace: Mapping[ast.expr, str], decorators: bool) -> tuple[str, int]:
    """The text of a definition with its replacements, line for line, and its first line in the cell."""
    node = found.definition.node
    lines = found.cell.source.splitlines(keepends=True)
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    first = found.definition.first_line if decorators else node.lineno
    start = offset_of(lines, first, node.col_offset if isinstance(node, ast.Lambda) else 0)
    end = offset_of(lines, node.end_lineno, node.end_col_offset)
    text = found.cell.source
    for expression in sorted(replace, key=lambda each: (each.lineno, each.col_offset), reverse=True):
        assert expression.end_lineno is not None
        assert expression.end_col_offset is not None
        begin = offset_of(lines, expression.lineno, expression.col_offset)
        stop = offset_of(lines, expression.end_lineno, expression.end_col_offset)
        # Lines stay where they are: tracebacks count on it.
        stand_in = replace[expression] + "\n" * text[begin:stop].count("\n")
        text = text[:begin] + stand_in + text[stop:]
        end += len(stand_in) - (stop - begin)
    return text[start:end], first


def annotation_names(node: ast.AST) -> set[str]:
    """Names in annotations: libraries resolve them even where Python keeps them as text."""
    found: set[str] = set()
    for each in ast.walk(node):
        for annotation in (getattr(each, "annotation", None), getattr(each, "returns", None)):
            if isinstance(annotation, ast.expr):
                found |= _names_in(annotation)
    return found


def _names_in(annotation: ast.AST) -> set[str]:
    """Names, also those in annotations (or parts of one) that are text."""
    found: set[str] = set()
    for each in ast.walk(annotation):
        if isinstance(each, ast.Name):
            found.add(each.id)
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            with contextlib.suppress(SyntaxError, ValueError):
                found |= _names_in(ast.parse(each.value, mode="eval").body)
    return found
