"""The walk: from the live handler to everything it refers to, each thing captured in the form that fits it.

Called by `captured.py`. The live objects are the truth; cells are where source is looked up. Every global that captured
code refers to becomes a node of the graph: an import (`importing.py`), source (`sourcing.py`), a literal, or a value.
"""

from __future__ import annotations

import builtins
import functools
import keyword
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from nbserve.capture.cells import Cells
from nbserve.capture.graph import Graph, Node
from nbserve.capture.importing import ATOMS, Imports
from nbserve.capture.literals import MUTABLE, NotLiteral, literal, mutable_parts
from nbserve.capture.refusals import NoSource, chain_text, refusal
from nbserve.capture.savers import Saver
from nbserve.capture.sourcing import Sources
from nbserve.errors import CaptureError

__all__ = ["Chain", "Walker"]

_MISSING = object()

Chain: TypeAlias = tuple[str, ...]
"""Names from the handler to something that it needs."""


class Walker:
    """One capture. `bind` is the way in; then `graph`, `saver`, `imports`, `sources` and `warnings` are read."""

    def __init__(self, namespace: Mapping[str, Any], cells: Cells) -> None:
        self.namespace, self.cells = namespace, cells
        self.graph = Graph()
        self.saver = Saver(self._reference)
        self.imports = Imports(self)
        self.sources = Sources(self)
        self.warnings: list[str] = []
        self.undefined: dict[str, str] = {}
        """Names that captured code uses and nobody defined -> the global whose code it is."""
        self._objects: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._inside: dict[int, tuple[str, Any]] = {}
        """Containers inside a literal, by id -> the global whose literal that is, and the container."""
        self._order = 0
        self._chain: Chain = ()
        self._node: Node | None = None
        self._source_only: set[int] = set()
        """Ids of what must not become a pickle of its own."""
        self._saving: Any = _MISSING

    def capture_target(self, name: str, obj: Any) -> None:
        """The handler itself. Like bind, but a missing source is an error."""
        self._source_only.add(id(obj))
        try:
            self.bind(name, obj, (name,))
        except NoSource as exc:
            raise refusal(exc.obj, (name,), "its source was not found", self.cells.where(name)) from None

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
            self.add(Node(name, self.graph.nodes[known].how, chain, f"{name} = {known}", hard={known}))
            return
        natural = getattr(obj, "__name__", None)
        if (
            isinstance(obj, (type, types.FunctionType))
            and natural != name
            and isinstance(natural, str)
            and self.namespace.get(natural) is obj
            and self.is_own(obj)
        ):
            self.bind(natural, obj, chain)
            self.bind(name, obj, chain)
            return
        self._objects[name] = obj
        if not isinstance(obj, (*ATOMS, types.ModuleType)):
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
        self.last(self.graph.nodes[name])  # what it needs reads first

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

    def holds(self, name: str) -> bool:
        """Is it a global of handler.py already?"""
        return name in self._objects

    def held(self, name: str) -> Any:
        """What a global of handler.py is; None where there is none."""
        return self._objects.get(name)

    def add(self, node: Node) -> Node:
        """Into the graph, in the order of discovery."""
        self.last(node)
        node.where = node.where or self.cells.where(node.name)
        self.graph.nodes[node.name] = node
        return node

    def last(self, node: Node) -> None:
        """Behind all that was found so far."""
        self._order += 1
        node.order = self._order

    def need(self, name: str) -> None:
        """The node in hand needs this global when its line runs."""
        if self._node is not None:
            self._node.hard.add(name)

    @contextmanager
    def needed_by(self, node: Node) -> Iterator[None]:
        """What is found in here is needed by the node's line."""
        outer, self._node = self._node, node
        try:
            yield
        finally:
            self._node = outer

    def is_own(self, obj: Any) -> bool:
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

    def _capture(self, name: str, obj: Any, chain: Chain) -> None:
        if isinstance(obj, types.ModuleType):
            self.imports.module(name, obj, chain)
        elif isinstance(obj, (type, types.FunctionType, functools._lru_cache_wrapper)) and self.is_own(obj):
            try:
                self.sources.write(name, obj, chain)
            except NoSource as exc:
                if id(obj) in self._source_only or exc.obj is not obj:
                    raise
                self._value(name, obj, chain)
        elif not (
            self.sources.type_name(name, obj, chain)
            or self.imports.object(name, obj, chain)
            or self._literal(name, obj, chain)
        ):
            self._value(name, obj, chain)

    # --- data

    def _literal(self, name: str, obj: Any, chain: Chain) -> bool:
        """`name = [1, 2]`, where no part of it is part of something else too: a copy would no longer be the same."""
        parts = [part for part in mutable_parts(obj) if part is not obj]
        bound = isinstance(obj, types.BuiltinFunctionType)  # `push = words.append`: a name, which would be its own
        if bound or self._shared_elsewhere(obj, parts):
            return False
        hard: set[str] = set()

        def refer(item: Any) -> str | None:
            if isinstance(item, MUTABLE):
                held = self._names.get(id(item))
                if held is not None and item is not obj:
                    hard.add(held)
                    return held
                return None
            if isinstance(item, _NAMED):
                hint = getattr(item, "__name__", "captured").replace(".", "_")
                if item is obj and getattr(builtins, hint, None) is not item:
                    return None
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
        self._inside |= {id(part): (name, part) for part in parts if id(part) not in self._names}
        self.add(Node(name, "source", chain, f"{name} = {text}", hard=hard))
        return True

    def _shared_elsewhere(self, obj: Any, parts: list[Any]) -> bool:
        """Is it, or a part of it, inside another global? Then both become values, which keep that they are one."""
        shared = False
        for part in [obj, *parts]:
            if id(part) in self._inside:
                self._make_value(self._inside[id(part)][0])
                shared = True
            shared = shared or self.saver.holds(part)
        return shared

    def _make_value(self, name: str) -> None:
        """A literal turns out to share a container with something else."""
        before = self.graph.nodes[name]
        self._inside = {key: held for key, held in self._inside.items() if held[0] != name}
        with self.needed_by(before):
            self._value(name, self._objects[name], before.chain)
        self.graph.nodes[name].order = before.order

    def _value(self, name: str, obj: Any, chain: Chain) -> None:
        node = self.add(Node(name, "value", chain))
        node.text = f'{name} = value("{name}")'
        outer, self._saving = self._saving, obj
        try:
            with self.needed_by(node):
                saved = self.saver.save(name, obj, chain, self.cells.where)
        finally:
            self._saving = outer
        node.bytes, node.note = saved.bytes, saved.note
        node.hard |= saved.needs
        for module in sorted(saved.modules):
            if module in sys.modules and module not in ("builtins", "handler", "__main__"):
                self.imports.require(sys.modules[module], chain)
        if saved.live_only:
            node.how = "pickle (live only)"
            self.warnings.append(
                f"{name} is live only: {saved.note}; it is pickled and cannot be exported: "
                f"{chain_text(chain, self.cells.where(name))}"
            )

    def _reference(self, obj: Any) -> str | None:
        """A class, function or literal of handler.py inside a value -> "handler:Net"; None for everything else."""
        if isinstance(obj, types.ModuleType):
            self.imports.require(obj, (*self._chain, obj.__name__))
            return None
        if isinstance(obj, MUTABLE):
            return self._container(obj)
        if isinstance(obj, type):
            self.imports.check_class(obj, self._chain)
        callables = (type, types.FunctionType, functools._lru_cache_wrapper)
        if not isinstance(obj, callables) or not self.is_own(obj) or obj is self._saving:
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
        self.need(name)
        return f"handler:{name}"

    def _container(self, obj: Any) -> str | None:
        """The global whose literal this container is. One that is inside a literal makes that a value first."""
        if obj is self._saving:
            return None
        if id(obj) in self._inside:
            self._make_value(self._inside[id(obj)][0])
            return None
        name = self._names.get(id(obj))
        if name is None or name not in self.graph.nodes or self.graph.nodes[name].how != "source":
            return None
        self.need(name)
        return f"handler:{name}"


_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


def _dry(item: Any) -> str | None:
    return "name" if isinstance(item, _NAMED) else None


def _same(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, ATOMS) and type(a) is type(b) and repr(a) == repr(b))
