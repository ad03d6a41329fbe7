"""The line of a magic -> options. Pure: text in, values out.

Options are click's, as in the CLI; what is special here are Python expressions, which stand in the line as they are:
`%%serve_handler digits --sample {"image": x[0]} --workers 2` needs no quoting.
"""

from __future__ import annotations

import ast
import re
import shlex
from typing import Any

import click

from nbserve.errors import UsageError

__all__ = ["parse", "split_data", "split_sample", "take_expression"]

_OPTION = re.compile(r"\s+--?[a-zA-Z]")
_SAMPLE = re.compile(r"(?:^|\s)--sample(?:\s+|=|$)")
_DATA = re.compile(r"(?:^|\s)--data(?:\s+|=|$)")


def take_expression(text: str) -> tuple[str, str]:
    """(expression, rest): the shortest start of `text` that is an expression before ` --option` or the end.

    Raises UsageError where there is none.
    """
    ends = [match.start() for match in _OPTION.finditer(text)] + [len(text)]
    for end in ends:
        expression = text[:end].strip()
        if expression and _is_expression(expression):
            return expression, text[end:].strip()
    raise UsageError(f"not an expression: {text.strip() or '(nothing)'}")


def split_sample(line: str) -> tuple[str, str | None]:
    """(line without it, the expression of --sample or None). Raises UsageError."""
    match = _SAMPLE.search(line)
    if match is None:
        return line.strip(), None
    try:
        expression, rest = take_expression(line[match.end() :])
    except UsageError as exc:
        raise UsageError(f"--sample: {exc.message}", hint="e.g. --sample x_test[0]") from None
    return f"{line[: match.start()]} {rest}".strip(), expression


def split_data(line: str) -> tuple[str, str | None]:
    """(line without it, the expression of --data or None). What is no expression is left: it may be a file's path."""
    match = _DATA.search(line)
    if match is None:
        return line, None
    try:
        expression, rest = take_expression(line[match.end() :])
    except UsageError:
        return line, None
    return f"{line[: match.start()]} {rest}".strip(), expression


def parse(command: click.Command, line: str, *, target_is_expression: bool = False) -> dict[str, Any]:
    """The options of one magic line. Raises UsageError, click.exceptions.Exit where help was asked for and shown.

    `target_is_expression`: the line may start with an expression, which becomes the first argument as it is.
    """
    rest, sample = split_sample(line) if any(p.name == "sample" for p in command.params) else (line, None)
    rest, data = split_data(rest) if any(p.name == "data" for p in command.params) else (rest, None)
    first: list[str] = []
    if target_is_expression and rest and not rest.startswith("-"):
        expression, rest = take_expression(rest)
        first = [expression]
    try:
        words = first + shlex.split(rest)
    except ValueError as exc:
        raise UsageError(f"{exc} in: {rest}") from exc
    try:
        with command.make_context(command.name, words) as context:
            params = dict(context.params)
    except click.UsageError as exc:
        raise UsageError(exc.format_message().replace("\n", " ")) from exc
    expressions = {"sample": sample, "data": data}
    return params | {name: text for name, text in expressions.items() if text is not None}


def _is_expression(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return False
    return True
