"""Functions and classes of the notebook -> source in handler.py, made true to what is live.

Called by `walk.py`. The text comes from the cells; defaults, closures, attributes and registrations that are another
thing now than the text would make of them are written out.
"""

from __future__ import annotations

import ast
import builtins
import collections
import dis
import functools
import inspect
import itertools
import types
import typing
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nbserve.capture.cells import Found, own_functions
from nbserve.capture.definitions import Rendered, annotation_names, render_definition
from nbserve.capture.graph import Node
from nbserve.capture.importing import ATOMS
from nbserve.capture.literals import NotLiteral, literal, mutable_parts
from nbserve.capture.live import changed_defaults, class_data, closed_over, earlier_bases
from nbserve.capture.refusals import NoSource, chain_text
from nbserve.capture.source import code_equal, future_flags
from nbserve.errors import CaptureError

if TYPE_CHECKING:
    from nbserve.capture.walk import Chain, Walker

__all__ = ["Sources"]

_MODULE_NAMES = frozenset(
    {"__name__", "__file__", "__doc__", "__spec__", "__builtins__", "__package__", "__annotations__"}
)
_MISSING = object()
_TYPE_NAMES = (typing.TypeVar, typing.ParamSpec, typing.NewType)


class Sources:
    """The definitions of one capture. future: does handler.py need `from __future__ import annotations`?"""

    def __init__(self, walker: Walker) -> None:
        self._walker = walker
        self.future = False

    def write(self, name: str, obj: Any, chain: Chain) -> None:
        """A function or class of the notebook, or its decorated form. Raises NoSource, CaptureError."""
        if isinstance(obj, type):
            self._class(name, obj, chain)
            return
        found = self._walker.cells.find(obj.__code__) if isinstance(obj, types.FunctionType) else None
        inner = inspect.unwrap(obj)
        if inner is not obj and isinstance(inner, types.FunctionType):
            defined = self._walker.cells.find(inner.__code__)
            if found is not None and any(map(_keeps_state, _wrappers(obj))):
                self._wrapper(name, obj, found, chain)
                return
            if defined is not None and getattr(defined.definition.node, "decorator_list", None):
                self._function(name, inner, defined, chain, decorators=True)
                self._registered(name, obj, chain)
                return
        if found is None:
            raise NoSource(obj)
        # A decorator that gave back the function itself left nothing but attributes.
        keep = bool(vars(obj)) and bool(getattr(found.definition.node, "decorator_list", None))
        self._function(name, obj, found, chain, decorators=keep)

    def type_name(self, name: str, obj: Any, chain: Chain) -> bool:
        """`T = TypeVar("T", bound=int)` and its kin; False for everything else."""
        if not isinstance(obj, _TYPE_NAMES) or not self._walker.is_own(obj):
            return False
        parts = [repr(obj.__name__)]
        node = Node(name, "source", chain)
        with self._walker.needed_by(node):
            if isinstance(obj, typing.NewType):
                parts.append(self._expression(obj.__supertype__, f"{name}_type", chain))
            else:
                parts += [self._expression(each, f"{name}_type", chain) for each in getattr(obj, "__constraints__", ())]
                if obj.__bound__ is not None:
                    parts.append(f"bound={self._expression(obj.__bound__, f'{name}_bound', chain)}")
                flags = ("covariant", "contravariant")
                parts += [f"{flag}=True" for flag in flags if getattr(obj, f"__{flag}__")]
            maker = self._expression(type(obj), str(type(obj).__name__), chain)
        node.text = f"{name} = {maker}({', '.join(parts)})"
        self._walker.add(node)
        return True

    # --- functions

    def _function(
        self, name: str, function: types.FunctionType, found: Found, chain: Chain, *, decorators: bool
    ) -> Node:
        node = self._walker.add(Node(name, "source", chain, where=found.cell.label, definition=True))
        environment = function.__globals__
        definition = found.definition.node
        assert not isinstance(definition, ast.ClassDef)
        with self._walker.needed_by(node):
            replace = self._defaults(name, function, definition, environment, chain)
            free = self._closure(name, function, _def_name(definition), chain)
        rendered = render_definition(
            name, found, code=function.__code__, replace=replace, free=free, decorators=decorators
        )
        self._finish(node, rendered, environment, definition, function.__code__, chain)
        if not decorators:
            for key, value in vars(function).items():
                if key != "__wrapped__":
                    self._patch(node, key, value, chain)
        return node

    def _wrapper(self, name: str, obj: types.FunctionType, found: Found, chain: Chain) -> None:
        """What a decorator of the notebook made and keeps state in: as it is, not decorated once more."""
        node = self._function(name, obj, found, chain, decorators=False)
        for key in ("__wrapped__", "__name__", "__qualname__", "__doc__"):
            self._patch(node, key, getattr(obj, key), chain)

    def _registered(self, name: str, obj: Any, chain: Chain) -> None:
        """What was registered with a `functools.singledispatch` function since it was defined."""
        registry = getattr(obj, "registry", None)
        if not isinstance(registry, types.MappingProxyType) or not callable(getattr(obj, "register", None)):
            return
        owner = self._walker.graph.nodes[name]
        for kind, function in registry.items():
            if kind is object:
                continue
            key = f"register[{kind.__name__}]"
            call = self._walker.add(Node(f"{name}.{key}", "source", (*chain, key), where=owner.where, hard={name}))
            with self._walker.needed_by(call):
                kind_text = self._expression(kind, kind.__name__, chain)
                function_text = self._expression(function, f"{name}_{kind.__name__}", (*chain, key))
            call.text = f"{name}.register({kind_text}, {function_text})"
            self._walker.last(call)
            owner.soft.add(call.name)

    def _finish(
        self,
        node: Node,
        rendered: Rendered,
        environment: Mapping[str, Any],
        definition: ast.AST,
        code: types.CodeType,
        chain: Chain,
    ) -> None:
        """Text and map into the node, and everything that the text names."""
        node.text, node.spans = rendered.text, rendered.spans
        self.future = self.future or bool(future_flags(code))
        for name in [*rendered.uses.hard, *rendered.uses.soft]:
            hard = name in rendered.uses.hard
            if hard and self._walker.holds(name):
                node.hard.add(name)
            if self._global(node, name, environment, chain, hard=hard):
                value = self._walker.held(name)
                if isinstance(value, types.ModuleType) and name in rendered.uses.chains:
                    self._walker.imports.submodules(name, value, rendered.uses.chains[name], chain)
        for name in sorted(annotation_names(definition)):
            if name in environment and not self._walker.holds(name):
                self._global(node, name, environment, chain, hard=False)
        self._walker.imports.inside(rendered.uses.imports, chain)

    def _global(self, node: Node, name: str, environment: Mapping[str, Any], chain: Chain, *, hard: bool) -> bool:
        """A global name that a definition uses: bind what it is now. False where it is nothing to bind."""
        if name == node.name or name in _MODULE_NAMES or (name in self._walker.graph.nodes and name not in environment):
            pass
        elif name == "get_ipython" and name in environment:
            self._walker.warnings.append(
                f"get_ipython is used in {node.name} ({node.where or 'unknown cell'}): workers run no notebook, and do "
                f"not define it"
            )
            return False
        elif name not in environment:
            if not hasattr(builtins, name):
                self._walker.undefined[name] = node.name
                self._walker.warnings.append(
                    f"{name} is used in {node.name} ({node.where or 'unknown cell'}) but was not defined when it was "
                    f"captured: {chain_text((*chain, name))}"
                )
            return False
        elif not _is_builtin(name, environment[name]):
            self._walker.bind(name, environment[name], (*chain, name))
        else:
            return False
        (node.hard if hard else node.soft).add(name)
        return True

    def _defaults(
        self,
        name: str,
        function: types.FunctionType,
        definition: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        environment: Mapping[str, Any],
        chain: Chain,
    ) -> dict[ast.expr, str]:
        """Defaults whose live value is not what the text would give when handler.py is imported."""
        try:
            changed = changed_defaults(function, definition, environment)
        except ValueError:
            raise CaptureError(
                f"the defaults of {name} were changed after its def: "
                f"{chain_text(chain, self._walker.cells.where(name))}",
                hint="write them into the def",
            ) from None
        return {
            expression: self._expression(value, f"{name}_{argument}", chain)
            for expression, (argument, value) in changed.items()
        }

    def _closure(self, name: str, function: types.FunctionType, own: str, chain: Chain) -> dict[str, str]:
        """Closed-over variables -> expressions for what they hold."""
        held = closed_over(function, own)
        return {variable: self._expression(value, f"{name}_{variable}", chain) for variable, value in held.items()}

    def _expression(self, value: Any, hint: str, chain: Chain) -> str:
        """Text for a value inside a definition: a literal, or the global that holds it."""
        if isinstance(value, typing.ForwardRef):
            return repr(value.__forward_arg__)
        if isinstance(value, (*ATOMS, tuple)) and not any(mutable_parts(value)):
            try:
                return literal(value)
            except NotLiteral:
                pass
        if isinstance(value, property):
            accessors = [value.fget, value.fset, value.fdel]
            return f"property({', '.join(self._expression(each, hint, chain) for each in accessors)})"
        if isinstance(value, (staticmethod, classmethod)):
            return f"{type(value).__name__}({self._expression(value.__func__, hint, chain)})"
        natural = getattr(value, "__name__", None)
        if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)) and isinstance(natural, str):
            if getattr(builtins, natural, None) is value:
                return natural
            if self._walker.namespace.get(natural) is value or natural.isidentifier():
                hint = natural
        if isinstance(value, types.ModuleType):
            hint = value.__name__.replace(".", "_")
        name = self._walker.refer(value, hint, chain)
        self._walker.need(name)
        return name

    def _patch(self, node: Node, key: str, value: Any, chain: Chain) -> None:
        """`name.key = value` after the definition, for what was set on it later."""
        patch = Node(f"{node.name}.{key}", "source", (*chain, key), where=node.where, hard={node.name})
        self._walker.add(patch)
        with self._walker.needed_by(patch):
            expression = self._expression(value, f"{node.name}_{key.strip('_')}", (*chain, key))
        patch.text = f"{node.name}.{key} = {expression}"
        self._walker.last(patch)
        node.soft.add(patch.name)

    # --- classes

    def _class(self, name: str, cls: type, chain: Chain) -> None:
        found = self._walker.cells.find_class(cls)
        if found is None:
            self._made_class(name, cls, chain)
            return
        definition = found.definition.node
        assert isinstance(definition, ast.ClassDef)
        functions = own_functions(cls)
        own = (each.__globals__ for each in functions.values() if self._walker.is_own(each))
        environment = next(own, self._walker.namespace)
        node = self._walker.add(Node(name, "source", chain, where=found.cell.label, definition=True))
        with self._walker.needed_by(node):
            free, later = self._methods(name, cls, found, chain)
            data = class_data(cls, definition, environment)
            replace = {
                expression: self._expression(value, f"{name}_{attribute}", (*chain, attribute))
                for expression, (attribute, value) in data.made.items()
            }
            for variable, base in earlier_bases(cls, definition, environment).items():
                free[variable] = self._expression(base, variable, chain)
        rendered = render_definition(
            name, found, code=found.definition.code, replace=replace, free=free, decorators=True
        )
        self._finish(node, rendered, environment, definition, found.definition.code, chain)
        for key, value in (data.changed | later).items():
            self._patch(node, key, value, chain)

    def _methods(self, name: str, cls: type, found: Found, chain: Chain) -> tuple[dict[str, str], dict[str, Any]]:
        """(closed-over variables, methods that were set after the class statement). Raises CaptureError."""
        definition = found.definition.node
        variants = found.cell.definitions(future_flags(found.definition.code))
        inside = [each.code for each in itertools.chain(*variants)]
        free: dict[str, str] = {}
        later: dict[str, Any] = {}
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        in_source = {each.name: each for each in getattr(definition, "body", ()) if isinstance(each, kinds)}
        for attribute, function in own_functions(cls).items():
            if any(code_equal(function.__code__, code) for code in inside):
                held = closed_over(function, name)
                held.pop("__class__", None)
                free |= {key: self._expression(value, f"{name}_{key}", chain) for key, value in held.items()}
            elif attribute in in_source and in_source[attribute].decorator_list:
                continue
            elif self._walker.cells.find(function.__code__) is not None:
                later[attribute] = vars(cls)[attribute]
            elif attribute in in_source:
                raise CaptureError(
                    f"{name}.{attribute} differs from its cell: {chain_text((*chain, attribute), found.cell.label)}",
                    hint=f"run the cell that defines {name} again",
                )
        return free, later

    def _made_class(self, name: str, cls: type, chain: Chain) -> None:
        """A class without a class statement: `namedtuple(...)` or `type(name, bases, attributes)`."""
        node = Node(name, "source", chain)
        if (text := _named_tuple(cls)) is not None:
            with self._walker.needed_by(node):
                maker = self._expression(collections.namedtuple, "namedtuple", chain)
            node.text = f"{name} = {maker}{text}"
        elif (attributes := self._plain_attributes(cls)) is not None:
            with self._walker.needed_by(node):
                bases = [self._expression(base, base.__name__, chain) for base in cls.__bases__]
                items = [
                    f"{key!r}: {self._expression(value, f'{name}_{key}', (*chain, key))}"
                    for key, value in attributes.items()
                ]
            inherited = f"({', '.join(bases)},)" if bases != ["object"] else "()"
            node.text = f"{name} = type({cls.__name__!r}, {inherited}, {{{', '.join(items)}}})"
        else:
            raise NoSource(cls)
        self._walker.add(node)

    def _plain_attributes(self, cls: type) -> dict[str, Any] | None:
        """What `type` was given; None where some of it has no source."""
        hidden = ("__module__", "__dict__", "__weakref__", "__doc__")
        attributes = {key: value for key, value in vars(cls).items() if key not in hidden}
        functions = own_functions(cls)
        known = all(self._walker.cells.find(each.__code__) is not None for each in functions.values())
        others = [value for key, value in attributes.items() if key not in functions and hasattr(value, "__get__")]
        by_hand = cls.__module__ in ("__main__", self._walker.namespace.get("__name__"))
        return attributes if type(cls) is type and known and not others and by_hand else None


def _wrappers(obj: Any) -> Iterator[Any]:
    """A decorated function and what it wraps, the innermost left out."""
    while isinstance(obj, types.FunctionType) and hasattr(obj, "__wrapped__"):
        yield obj
        obj = obj.__wrapped__


_CODE = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, functools._lru_cache_wrapper)
_STATELESS = (*ATOMS, *_CODE)


def _keeps_state(wrapper: types.FunctionType) -> bool:
    """Would decorating again lose something: a container in its closure, a variable that it counts up?"""
    code = wrapper.__code__
    if any(each.opname == "STORE_DEREF" and each.argval in code.co_freevars for each in dis.get_instructions(code)):
        return True
    kept = vars(wrapper).keys() - {"__wrapped__"} - vars(inspect.unwrap(wrapper)).keys()
    held = closed_over(wrapper, code.co_name).values()
    return bool(kept) or any(not isinstance(value, _STATELESS) and value != () for value in held)


def _named_tuple(cls: type) -> str | None:
    """`Point = namedtuple("Point", "x y")` has no class statement, and needs none."""
    fields = getattr(cls, "_fields", None)
    if cls.__bases__ != (tuple,) or not isinstance(fields, tuple):
        return None
    defaults = tuple(getattr(cls, "_field_defaults", {}).values())
    try:
        return f"({cls.__name__!r}, {list(fields)!r}, defaults={literal(defaults)})"
    except NotLiteral:
        return None


def _def_name(definition: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> str:
    return "" if isinstance(definition, ast.Lambda) else definition.name


def _is_builtin(name: str, obj: Any) -> bool:
    """The builtin of this name, also where IPython put a wrapper of its own in its place."""
    if getattr(builtins, name, _MISSING) is obj:
        return True
    return name == "open" and getattr(obj, "__module__", "") == "IPython.core.interactiveshell"
