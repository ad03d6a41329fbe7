"""The walk: from the live handler to everything it refers to, each thing captured in the form that fits it.

Called by `captured.py`. The live objects are the truth; cells are where source is looked up. Every global that captured
code refers to becomes a node of the graph: an import, source, a literal, or a value.
"""

from __future__ import annotations

import ast
import builtins
import collections
import functools
import inspect
import itertools
import keyword
import sys
import types
from collections.abc import Mapping
from typing import Any

from nbserve.bundle.structure import global_path
from nbserve.capture.cells import Cells, Found, own_functions
from nbserve.capture.definitions import Rendered, annotation_names, render_definition
from nbserve.capture.graph import Graph, Node
from nbserve.capture.literals import NotLiteral, literal
from nbserve.capture.live import changed_defaults, class_data, closed_over, earlier_bases
from nbserve.capture.modules import check_unchanged, files_of, origin
from nbserve.capture.refusals import NoSource, chain_text, refusal
from nbserve.capture.savers import Saver
from nbserve.capture.source import code_equal, future_flags, imported_roots
from nbserve.errors import CaptureError

__all__ = ["Walker"]

_ATOMS = (type(None), bool, int, float, complex, str, bytes)
_MODULE_NAMES = frozenset({"__name__", "__file__", "__doc__", "__spec__", "__builtins__", "__package__"})
_MISSING = object()

Chain = tuple[str, ...]


class Walker:
    """One capture. `bind` is the way in; then `graph`, `saver`, `local_files`, `roots` and `warnings` are read."""

    def __init__(self, namespace: Mapping[str, Any], cells: Cells) -> None:
        self.namespace, self.cells = namespace, cells
        self.graph = Graph()
        self.saver = Saver(self._reference)
        self.local_files: dict[str, Any] = {}
        self.roots: set[str] = set()
        """Top-level packages that handler.py, the values or the local modules import."""
        self.warnings: list[str] = []
        self.future = False
        self._objects: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._order = 0
        self._chain: Chain = ()
        self._node: Node | None = None
        self._source_only: set[int] = set()
        """Ids of what must not become a pickle of its own."""
        self._saving: Any = _MISSING

    def bind(self, name: str, obj: Any, chain: Chain) -> None:
        """Make handler.py's global `name` be `obj`. chain: from the handler to it, itself included.

        Raises CaptureError where it cannot be shipped, or where the name already is something else.
        """
        if name in self._objects:
            if not _same(self._objects[name], obj):
                raise CaptureError(
                    f"{name} is two different things: {chain_text(chain, self.cells.where(name))}",
                    hint=f"rename one of them, or run the cells that use {name} again",
                )
            return
        known = self._names.get(id(obj))
        if known is not None:
            self._objects[name] = obj
            self._add(Node(name, self.graph.nodes[known].how, chain, f"{name} = {known}", hard={known}))
            return
        natural = getattr(obj, "__name__", None)
        if (
            isinstance(obj, (type, types.FunctionType))
            and natural != name
            and isinstance(natural, str)
            and self.namespace.get(natural) is obj
            and self._is_own(obj)
        ):
            self.bind(natural, obj, chain)
            self.bind(name, obj, chain)
            return
        self._objects[name] = obj
        if not isinstance(obj, (*_ATOMS, types.ModuleType)):
            self._names[id(obj)] = name
        outer = self._chain, self._node
        self._chain = chain
        try:
            self._capture(name, obj, chain)
        except NoSource:
            del self._objects[name]
            self._names.pop(id(obj), None)
            raise
        finally:
            self._chain, self._node = outer
        self.graph.nodes[name].order = self._next_order()  # what it needs reads first

    def refer(self, obj: Any, hint: str, chain: Chain) -> str:
        """The global that holds `obj`; makes one, named like `hint`, where there is none."""
        if id(obj) in self._names:
            return self._names[id(obj)]
        name = hint if hint.isidentifier() and not keyword.iskeyword(hint) else "function"
        base, number = name, 1
        while name in self._objects or self.namespace.get(name, obj) is not obj or hasattr(builtins, name):
            number += 1
            name = f"{base}_{number}"
        self.bind(name, obj, (*chain, hint))
        return name

    def _next_order(self) -> int:
        self._order += 1
        return self._order

    def _add(self, node: Node) -> Node:
        node.order = self._next_order()
        node.where = node.where or self.cells.where(node.name)
        self.graph.nodes[node.name] = node
        return node

    def _capture(self, name: str, obj: Any, chain: Chain) -> None:
        if isinstance(obj, types.ModuleType):
            self._module(name, obj, chain)
        elif isinstance(obj, (type, types.FunctionType, functools._lru_cache_wrapper)) and self._is_own(obj):
            try:
                self._own(name, obj, chain)
            except NoSource as exc:
                if id(obj) in self._source_only or exc.obj is not obj:
                    raise
                self._value(name, obj, chain)
        elif not self._import(name, obj, chain) and not self._literal(name, obj, chain):
            self._value(name, obj, chain)

    # --- modules and what can be imported

    def _module(self, name: str, module: types.ModuleType, chain: Chain) -> None:
        full = module.__name__
        self._require(module, chain)
        parent, _, last = full.rpartition(".")
        if name == full:
            text = f"import {full}"
        elif parent and last == name and getattr(sys.modules.get(parent), last, None) is module:
            text = f"from {parent} import {name}"
        else:
            text = f"import {full} as {name}"
        self._add(Node(name, "import", chain, text))

    def _submodules(self, name: str, module: types.ModuleType, chains: set[tuple[str, ...]]) -> None:
        """`import sklearn` does not import sklearn.metrics, which `sklearn.metrics.f1_score` needs."""
        node = self.graph.nodes[name]
        for chain in sorted(chains):
            current: Any = module
            for part in chain:
                current = getattr(current, part, None)
                if not isinstance(current, types.ModuleType):
                    break
                full = current.__name__
                if full.startswith(module.__name__ + ".") and sys.modules.get(full) is current:
                    line = (
                        f"import {full}"
                        if name == full.partition(".")[0]
                        else f"import {full} as _{full.replace('.', '_')}"
                    )
                    if line not in node.text.splitlines():
                        node.text += f"\n{line}"

    def _require(self, module: types.ModuleType, chain: Chain) -> None:
        """An imported module: note its distribution, or copy its files where it is the user's own."""
        root = module.__name__.partition(".")[0]
        if root in self.roots:
            return
        kind = origin(module)
        if kind == "unknown":
            raise CaptureError(
                f"the module {module.__name__} has no file: {chain_text(chain)}",
                hint="write it to a .py file beside the notebook and import that",
            )
        self.roots.add(root)
        if kind != "local":
            return
        check_unchanged(root, chain)
        for place, path in files_of(root).items():
            self.local_files[place] = path.read_bytes()
            node = Node(f"{place}", "module file", chain, where=str(path.name))
            self.graph.nodes[node.name] = node
            for other in sorted(imported_roots(path.read_text("utf-8"))):
                if other in sys.modules:
                    self._require(sys.modules[other], (*chain, other))

    def _import(self, name: str, obj: Any, chain: Chain) -> bool:
        """`from m import n`, where that gives this very object."""
        path = self._importable(obj, name)
        if path is None:
            return False
        module, attribute = path
        self._require(sys.modules[module], chain)
        head, _, rest = attribute.partition(".")
        if not rest:
            renamed = "" if attribute == name else f" as {name}"
            self._add(Node(name, "import", chain, f"from {module} import {attribute}{renamed}"))
        else:
            holder = getattr(sys.modules[module], head)
            needed = self.refer(holder, head, chain[:-1])
            self._add(Node(name, "source", chain, f"{name} = {needed}.{rest}", hard={needed}))
        return True

    def _importable(self, obj: Any, name: str) -> tuple[str, str] | None:
        told = self.cells.imported(name)
        if told is not None and told[0] != "__main__":
            module = sys.modules.get(told[0])
            if module is not None and getattr(module, told[1], _MISSING) is obj:
                return told
        if isinstance(obj, _ATOMS) or self._is_own(obj):
            return None
        path = global_path(obj)
        if path is None:
            return None
        full, _, attribute = path.partition(":")
        head = attribute.partition(".")[0]
        # The shortest public home: torch.nn rather than torch.nn.modules.linear.
        parts = full.split(".")
        for length in range(1, len(parts)):
            module = sys.modules.get(".".join(parts[:length]))
            if getattr(module, head, None) is getattr(sys.modules[full], head):
                return ".".join(parts[:length]), attribute
        return full, attribute

    def _is_own(self, obj: Any) -> bool:
        """Is it the notebook's: defined in a cell?"""
        if isinstance(obj, types.FunctionType) and obj.__globals__ is self.namespace:
            return True
        module = getattr(obj, "__module__", None)
        if module in (None, "__main__"):
            return isinstance(obj, (type, types.FunctionType, functools._lru_cache_wrapper)) or module is not None
        return (
            isinstance(obj, type) and module == self.namespace.get("__name__", _MISSING) and self._in_namespace(module)
        )

    def _in_namespace(self, module: str) -> bool:
        found = sys.modules.get(module)
        return found is None or vars(found) is self.namespace

    # --- source

    def _own(self, name: str, obj: Any, chain: Chain) -> None:
        """A function or class of the notebook, or its decorated form."""
        if isinstance(obj, type):
            self._class(name, obj, chain)
            return
        inner = inspect.unwrap(obj)
        if inner is not obj and isinstance(inner, types.FunctionType):
            found = self.cells.find(inner.__code__)
            if found is not None and getattr(found.definition.node, "decorator_list", None):
                self._function(name, inner, found, chain, decorators=True)
                return
        found = self.cells.find(obj.__code__) if isinstance(obj, types.FunctionType) else None
        if found is None:
            raise NoSource(obj)
        # A decorator that gave back the function itself left nothing but attributes.
        keep = bool(vars(obj)) and bool(getattr(found.definition.node, "decorator_list", None))
        self._function(name, obj, found, chain, decorators=keep)

    def _function(
        self, name: str, function: types.FunctionType, found: Found, chain: Chain, *, decorators: bool
    ) -> None:
        node = self._add(Node(name, "source", chain, where=found.cell.label, definition=True))
        self._node = node
        environment = function.__globals__
        definition = found.definition.node
        assert not isinstance(definition, ast.ClassDef)
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
        future = bool(future_flags(code))
        self.future = self.future or future
        node.hard |= rendered.uses.hard.keys() & self._objects.keys()
        for name in [*rendered.uses.hard, *rendered.uses.soft]:
            hard = name in rendered.uses.hard
            if self._global(node, name, environment, chain, hard=hard):
                value = self._objects.get(name)
                if isinstance(value, types.ModuleType) and name in rendered.uses.chains:
                    self._submodules(name, value, rendered.uses.chains[name])
        for name in sorted(annotation_names(definition)):
            if name in environment and name not in self._objects:
                self._global(node, name, environment, chain, hard=False)
        for imported in sorted(rendered.uses.imports):
            root = sys.modules.get(imported.partition(".")[0])
            if root is not None:
                self._require(root, (*chain, imported))
            else:
                self.roots.add(imported.partition(".")[0])

    def _global(self, node: Node, name: str, environment: Mapping[str, Any], chain: Chain, *, hard: bool) -> bool:
        """A global name that a definition uses: bind what it is now. False where it is nothing to bind."""
        if name == node.name or name in _MODULE_NAMES or (name in self.graph.nodes and name not in environment):
            pass
        elif name not in environment:
            if not hasattr(builtins, name):
                self.warnings.append(
                    f"{name} is used in {node.name} ({node.where or 'unknown cell'}) but was not defined when it was "
                    f"captured: {chain_text((*chain, name))}"
                )
            return False
        elif not _is_builtin(name, environment[name]):
            self.bind(name, environment[name], (*chain, name))
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
                f"the defaults of {name} were changed after its def: {chain_text(chain, self.cells.where(name))}",
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
        if isinstance(value, (*_ATOMS, tuple)):
            try:
                return literal(value)
            except NotLiteral:
                pass
        natural = getattr(value, "__name__", None)
        if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)) and isinstance(natural, str):
            if getattr(builtins, natural, None) is value:
                return natural
            if self.namespace.get(natural) is value or natural.isidentifier():
                hint = natural
        if isinstance(value, types.ModuleType):
            hint = value.__name__.replace(".", "_")
        name = self.refer(value, hint, chain)
        if self._node is not None:
            self._node.hard.add(name)
        return name

    def _patch(self, node: Node, key: str, value: Any, chain: Chain) -> None:
        """`name.key = value` after the definition, for what was set on it later."""
        patch = self._add(Node(f"{node.name}.{key}", "source", (*chain, key), where=node.where, hard={node.name}))
        self._node = patch
        expression = self._expression(value, f"{node.name}_{key}", (*chain, key))
        patch.text = f"{node.name}.{key} = {expression}"
        patch.order = self._next_order()
        node.soft.add(patch.name)

    # --- classes

    def _class(self, name: str, cls: type, chain: Chain) -> None:
        found = self.cells.find_class(cls)
        if found is None:
            if (text := _named_tuple(cls)) is None:
                raise NoSource(cls)
            maker = self.refer(collections.namedtuple, "namedtuple", chain)
            self._add(Node(name, "source", chain, f"{name} = {maker}{text}", hard={maker}))
            return
        definition = found.definition.node
        assert isinstance(definition, ast.ClassDef)
        functions = own_functions(cls)
        environment = next((each.__globals__ for each in functions.values() if self._is_own(each)), self.namespace)
        node = self._add(Node(name, "source", chain, where=found.cell.label, definition=True))
        self._node = node
        variants = found.cell.definitions(future_flags(found.definition.code))
        inside = [each.code for each in itertools.chain(*variants)]
        free: dict[str, str] = {}
        later: dict[str, Any] = {}
        in_source = {
            each.name: each for each in definition.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        for attribute, function in functions.items():
            if any(code_equal(function.__code__, code) for code in inside):
                held = closed_over(function, name)
                held.pop("__class__", None)
                free |= {key: self._expression(value, f"{name}_{key}", chain) for key, value in held.items()}
            elif attribute in in_source and in_source[attribute].decorator_list:
                continue
            elif self.cells.find(function.__code__) is not None:
                later[attribute] = vars(cls)[attribute]
            elif attribute in in_source:
                raise CaptureError(
                    f"{name}.{attribute} differs from its cell: {chain_text((*chain, attribute), found.cell.label)}",
                    hint=f"run the cell that defines {name} again",
                )
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
            self._node = node
            self._patch(node, key, value, chain)

    # --- data

    def _literal(self, name: str, obj: Any, chain: Chain) -> bool:
        hard: set[str] = set()

        def refer(item: Any) -> str | None:
            if isinstance(item, (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)):
                hint = getattr(item, "__name__", "captured").replace(".", "_")
                if getattr(builtins, hint, None) is item:
                    return hint
                found = self.refer(item, hint, chain)
                hard.add(found)
                return found
            return None

        try:
            literal(obj, _dry)  # first without binding anything
            text = literal(obj, refer)
        except (NotLiteral, NoSource):
            return False
        self._add(Node(name, "source", chain, f"{name} = {text}", hard=hard))
        return True

    def _value(self, name: str, obj: Any, chain: Chain) -> None:
        node = self._add(Node(name, "value", chain))
        self._node = node
        node.text = f'{name} = value("{name}")'
        outer, self._saving = self._saving, obj
        try:
            saved = self.saver.save(name, obj, chain, self.cells.where)
        finally:
            self._saving = outer
        node.bytes, node.note = saved.bytes, saved.note
        node.hard |= saved.needs
        for module in sorted(saved.modules):
            if module in sys.modules and module not in ("builtins", "handler", "__main__"):
                self._require(sys.modules[module], chain)
        if saved.live_only:
            node.how = "pickle (live only)"
            self.warnings.append(
                f"{name} is live only: {saved.note}; it is pickled and cannot be exported: "
                f"{chain_text(chain, self.cells.where(name))}"
            )

    def _reference(self, obj: Any) -> str | None:
        """A class or function inside a value -> "handler:Net"; None for what can be imported or has no source."""
        if isinstance(obj, types.ModuleType):
            self._require(obj, (*self._chain, obj.__name__))
            return None
        callables = (type, types.FunctionType, functools._lru_cache_wrapper)
        if not isinstance(obj, callables) or not self._is_own(obj) or obj is self._saving:
            return None
        node, chain = self._node, self._chain
        self._source_only.add(id(obj))
        try:
            name = self.refer(obj, getattr(obj, "__name__", "captured"), chain)
        except NoSource:
            return None
        finally:
            self._node, self._chain = node, chain
            self._source_only.discard(id(obj))
        if node is not None:
            node.hard.add(name)
        return f"handler:{name}"

    def capture_target(self, name: str, obj: Any) -> None:
        """The handler itself. Like bind, but a missing source is an error."""
        self._source_only.add(id(obj))
        try:
            self.bind(name, obj, (name,))
        except NoSource as exc:
            raise refusal(exc.obj, (name,), "its source was not found", self.cells.where(name)) from None


def _dry(item: Any) -> str | None:
    shippable = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
    return "name" if isinstance(item, shippable) else None


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


def _same(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, _ATOMS) and type(a) is type(b) and repr(a) == repr(b))


def _is_builtin(name: str, obj: Any) -> bool:
    """The builtin of this name, also where IPython put a wrapper of its own in its place."""
    if getattr(builtins, name, _MISSING) is obj:
        return True
    return name == "open" and getattr(obj, "__module__", "") == "IPython.core.interactiveshell"
