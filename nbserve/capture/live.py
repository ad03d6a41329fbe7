"""How a live function or class differs from its text: defaults, closures, class data, bases. Pure.

Called by `walk.py`, which makes the source true to the live object again.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

from nbserve.capture.literals import NotLiteral, literal

__all__ = ["ClassData", "changed_defaults", "class_data", "closed_over", "earlier_bases"]


def changed_defaults(
    function: types.FunctionType,
    definition: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
    names: Mapping[str, Any],
) -> dict[ast.expr, tuple[str, Any]]:
    """Default expressions whose text would give another value now -> (argument, live value).

    Raises ValueError where the function has more or fewer defaults than its text.
    """
    arguments = [*definition.args.posonlyargs, *definition.args.args]
    live, given = function.__defaults__ or (), definition.args.defaults
    if len(live) != len(given):
        raise ValueError(f"{len(given)} defaults in the text, {len(live)} in the function")
    found = [
        (expression, argument.arg, value)
        for argument, expression, value in zip(arguments[len(arguments) - len(given) :], given, live, strict=True)
    ]
    by_name = function.__kwdefaults__ or {}
    found += [
        (expression, argument.arg, by_name[argument.arg])
        for argument, expression in zip(definition.args.kwonlyargs, definition.args.kw_defaults, strict=True)
        if expression is not None and argument.arg in by_name
    ]
    return {
        expression: (argument, value) for expression, argument, value in found if not _gives(expression, names, value)
    }


def closed_over(function: types.FunctionType, own: str) -> dict[str, Any]:
    """Variables that a function closes over -> what they hold. Left out: those not assigned yet, and itself (`own`)."""
    found: dict[str, Any] = {}
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            held = cell.cell_contents
        except ValueError:
            continue
        itself = variable == own and callable(held) and (held is function or inspect.unwrap(held) is function)
        if not itself:
            found[variable] = held
    return found


_NAMED_TUPLE = ("_fields", "_field_defaults")
"""What a NamedTuple is given when it is made."""


class ClassData(NamedTuple):
    """made: expressions of the body that ran something -> (attribute, live value): data, to be stored as such.
    changed: attributes that were set to something else since, or added.
    """

    made: dict[ast.expr, tuple[str, Any]]
    changed: dict[str, Any]


def class_data(cls: type, definition: ast.ClassDef, names: Mapping[str, Any]) -> ClassData:
    """Data of a class. Only for plain classes: what decorators and metaclasses make of a body is theirs."""
    data = ClassData({}, {})
    fields = vars(cls).get("__dataclass_fields__", {})
    if type(cls).__name__ not in ("type", "ABCMeta") or (definition.decorator_list and not fields):
        return data
    for statement in definition.body:
        attribute, expression = _assigned(statement)
        if attribute is None or expression is None or attribute not in vars(cls):
            continue
        value = vars(cls)[attribute]
        if attribute in fields and isinstance(expression, ast.Call) and _is_field(fields[attribute]):
            continue  # `field(...)`
        if hasattr(value, "__get__") or _gives(expression, names, value):
            continue
        if any(isinstance(each, (ast.Call, ast.Await, ast.Yield)) for each in ast.walk(expression)):
            data.made[expression] = (attribute, value)
        else:
            data.changed[attribute] = value
    known = _names_in(definition)
    for attribute, value in vars(cls).items():
        hidden = attribute.startswith(("__", "_abc_")) or attribute in _NAMED_TUPLE or hasattr(value, "__get__")
        if attribute not in known and not hidden:
            data.changed[attribute] = value
    return data


def _is_field(field: Any) -> bool:
    """Of a dataclass: no ClassVar."""
    return getattr(field._field_type, "name", "") == "_FIELD"


def earlier_bases(cls: type, definition: ast.ClassDef, names: Mapping[str, Any]) -> dict[str, type]:
    """Bases whose names have been bound to other classes since: the class keeps those it was made with."""
    found: dict[str, type] = {}
    for expression in definition.bases:
        now = names.get(expression.id) if isinstance(expression, ast.Name) else None
        known = (
            isinstance(now, type) and now is not cls and now in cls.__mro__
        )  # `class A(A)`: the base is an earlier A
        if isinstance(expression, ast.Name) and isinstance(now, type) and not known:
            own = next((base for base in cls.__bases__ if base.__name__ == expression.id), None)
            if own is not None:
                found[expression.id] = own
    return found


def _names_in(definition: ast.ClassDef) -> set[str]:
    names: set[str] = set()
    for each in ast.walk(definition):
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(each.name)
        elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            names.add(each.id)
    return names


def _gives(expression: ast.expr, names: Mapping[str, Any], value: Any) -> bool:
    """Does the text, run when handler.py is imported, give this value?"""
    try:
        given = _static_value(expression, names)
    except LookupError:
        return False
    if given is value:
        return True
    try:
        return type(given) is type(value) and literal(given) == literal(value)
    except NotLiteral:
        return False


def _assigned(statement: ast.stmt) -> tuple[str | None, ast.expr | None]:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target: ast.expr = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    else:
        return None, None
    return (target.id, statement.value) if isinstance(target, ast.Name) else (None, None)


def _static_value(expression: ast.expr, names: Mapping[str, Any]) -> Any:
    """What an expression that runs nothing gives: a literal, a name, or attributes of one. Raises LookupError."""
    if isinstance(expression, ast.Name):
        return names[expression.id]
    if isinstance(expression, ast.Attribute):
        try:
            return getattr(_static_value(expression.value, names), expression.attr)
        except AttributeError as exc:
            raise LookupError(expression.attr) from exc
    try:
        return ast.literal_eval(expression)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as exc:
        raise LookupError("not static") from exc
