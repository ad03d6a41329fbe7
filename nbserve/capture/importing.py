"""What is imported: modules and objects that have a home in one, and the user's own modules, which are copied.

Called by `walk.py`. Adds import lines to the graph; keeps which distributions are needed and which files go along.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

from nbserve.bundle.structure import global_path
from nbserve.capture.graph import Node
from nbserve.capture.modules import check_unchanged, files_of, origin, origin_of_name
from nbserve.capture.refusals import chain_text
from nbserve.capture.source import imported_roots
from nbserve.errors import CaptureError

if TYPE_CHECKING:
    from nbserve.capture.walk import Chain, Walker

__all__ = ["ATOMS", "Imports"]

ATOMS = (type(None), bool, int, float, complex, str, bytes)
_MISSING = object()


class Imports:
    """The imports of one capture. roots: top-level packages. files: the user's own, by their place in `modules/`."""

    def __init__(self, walker: Walker) -> None:
        self._walker = walker
        self.roots: set[str] = set()
        self.files: dict[str, bytes] = {}
        self._checked: set[type] = set()

    def module(self, name: str, module: types.ModuleType, chain: Chain) -> None:
        """`import module as name`."""
        full = module.__name__
        self.require(module, chain)
        parent, _, last = full.rpartition(".")
        if name == full:
            text = f"import {full}"
        elif parent and last == name and getattr(sys.modules.get(parent), last, None) is module:
            text = f"from {parent} import {name}"
        else:
            text = f"import {full} as {name}"
        self._walker.add(Node(name, "import", chain, text))

    def submodules(self, name: str, module: types.ModuleType, chains: set[tuple[str, ...]], chain: Chain) -> None:
        """`import sklearn` does not import sklearn.metrics, which `sklearn.metrics.f1_score` needs.

        Raises CaptureError where the notebook put something of its own into the module.
        """
        node = self._walker.graph.nodes[name]
        for attributes in sorted(chains):
            current: Any = module
            for part in attributes:
                holder, current = current, getattr(current, part, None)
                if not isinstance(current, types.ModuleType):
                    if self._walker.is_own(current) and origin(holder) != "local":
                        raise CaptureError(
                            f"{holder.__name__}.{part} was replaced by the notebook, which workers do not see: "
                            f"{chain_text((*chain, name, part))}",
                            hint=f"call your own function by its name instead of {holder.__name__}.{part}",
                        )
                    break
                full = current.__name__
                if full.startswith(module.__name__ + ".") and sys.modules.get(full) is current:
                    named = name == full.partition(".")[0]
                    line = f"import {full}" if named else f"import {full} as _{full.replace('.', '_')}"
                    if line not in node.text.splitlines():
                        node.text += f"\n{line}"

    def inside(self, imported: set[str], chain: Chain) -> None:
        """Modules that a function's body imports."""
        for name in sorted(imported):
            self._named(name.partition(".")[0], (*chain, name))

    def require(self, module: types.ModuleType, chain: Chain) -> None:
        """An imported module: note its distribution, or copy its files where it is the user's own.

        Raises CaptureError for modules without a file, and for files that are not what was imported.
        """
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
        self._copy(root, chain)

    def _named(self, root: str, chain: Chain) -> None:
        """A top-level package that some code imports when it is called; it may not have been imported yet."""
        if root in self.roots:
            return
        if root in sys.modules:
            self.require(sys.modules[root], chain)
            return
        self.roots.add(root)
        if origin_of_name(root) == "local":
            self._copy(root, chain)

    def _copy(self, root: str, chain: Chain) -> None:
        """The files of a local module, and what they import."""
        for place, path in files_of(root).items():
            self.files[place] = path.read_bytes()
            node = Node(f"{place}", "module file", chain, where=str(path.name))
            self._walker.graph.nodes[node.name] = node
            if path.suffix == ".py":
                for other in sorted(imported_roots(path.read_text("utf-8"))):
                    self._named(other, (*chain, other))

    def object(self, name: str, obj: Any, chain: Chain) -> bool:
        """`from m import n`, where that gives this very object. False where it has no home."""
        path = self._home(obj, name)
        if path is None:
            self._check_current(name, obj, chain)
            return False
        if isinstance(obj, type):
            self.check_class(obj, chain)
        module, attribute = path
        self.require(sys.modules[module], chain)
        head, _, rest = attribute.partition(".")
        if not rest:
            renamed = "" if attribute == name else f" as {name}"
            self._walker.add(Node(name, "import", chain, f"from {module} import {attribute}{renamed}"))
        else:
            holder = getattr(sys.modules[module], head)
            needed = self._walker.refer(holder, head, chain[:-1])
            self._walker.add(Node(name, "source", chain, f"{name} = {needed}.{rest}", hard={needed}))
        return True

    def check_class(self, cls: type, chain: Chain) -> None:
        """Raises CaptureError where the notebook replaced a method of a library's class."""
        if cls in self._checked:
            return
        self._checked.add(cls)
        for base in cls.__mro__[:-1]:
            module = sys.modules.get(base.__module__)
            if self._walker.is_own(base) or module is None:
                continue
            for key, value in vars(base).items():
                own = isinstance(value, types.FunctionType) and value.__globals__ is self._walker.namespace
                if own and value.__module__ != base.__module__ and origin(module) != "local":
                    where = self._walker.cells.where(value.__name__)
                    raise CaptureError(
                        f"{base.__name__}.{key} was replaced by the notebook, which workers do not see: "
                        f"{chain_text((*chain, base.__name__, key), where)}",
                        hint=f"make a class of your own with that method: class My{base.__name__}({base.__name__})",
                    )

    def _check_current(self, name: str, obj: Any, chain: Chain) -> None:
        """Raises CaptureError for what a local module had before it was loaded again."""
        if not isinstance(obj, (type, types.FunctionType)) or "." in obj.__qualname__ or self._walker.is_own(obj):
            return
        module = sys.modules.get(obj.__module__)
        now = getattr(module, obj.__name__, None)
        if module is not None and now is not None and now is not obj and origin(module) == "local":
            raise CaptureError(
                f"{name} is not what {module.__name__}.{obj.__name__} is now, since the module was loaded again: "
                f"{chain_text(chain, self._walker.cells.where(name))}",
                hint=f"run the cell that imports {name} again",
            )

    def _home(self, obj: Any, name: str) -> tuple[str, str] | None:
        told = self._walker.cells.imported(name)
        if told is not None and told[0] != "__main__":
            module = sys.modules.get(told[0])
            if module is not None and getattr(module, told[1], _MISSING) is obj:
                return told
        if isinstance(obj, ATOMS) or self._walker.is_own(obj):
            return None
        path = global_path(obj)
        if path is None or path.startswith("builtins:"):
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
