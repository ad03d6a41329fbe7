"""Imported modules: which are installed, which are files of the user's, and whether those files are what is loaded.

Called by `walk.py`. Local modules are copied into the bundle; a file that changed since it was imported is refused,
because workers would run something else than the notebook does.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal

from nbserve.capture.cells import own_functions
from nbserve.capture.requirements import editable_at, packages
from nbserve.capture.source import code_equal, nested_codes
from nbserve.errors import CaptureError

__all__ = ["Origin", "check_unchanged", "files_of", "origin", "origin_of_name"]

Origin = Literal["standard", "installed", "local", "unknown"]


def origin(module: ModuleType) -> Origin:
    """Where a module comes from. unknown: it has no file (made by hand, or `__main__`)."""
    root = module.__name__.partition(".")[0]
    path = _path(sys.modules.get(root, module)) or _path(module)
    if path is None and getattr(module, "__spec__", None) is None and root not in sys.stdlib_module_names:
        return "unknown"
    return _origin(root, path)


def origin_of_name(root: str) -> Origin:
    """Of a top-level module that is not imported yet, and is not by this; unknown: there is none of this name."""
    try:
        spec = importlib.util.find_spec(root)
    except (ImportError, ValueError):
        spec = None
    return "unknown" if spec is None else _origin(root, _spec_path(spec))


def _origin(root: str, path: Path | None) -> Origin:
    if root == "__main__":
        return "unknown"
    if root in sys.stdlib_module_names or root in sys.builtin_module_names:
        return "standard"
    if root == "nbserve" or path is None:
        return "installed"
    if {"site-packages", "dist-packages"} & set(path.parts) or _in_target(root, path):
        return "installed"
    if _is_compiled_editable(path):
        return "installed"
    standard = Path(sysconfig.get_path("stdlib"))
    return "standard" if path.is_relative_to(standard) else "local"


def _spec_path(spec: importlib.machinery.ModuleSpec) -> Path | None:
    folders = list(spec.submodule_search_locations or ())
    if spec.has_location and spec.origin:
        return Path(spec.origin).absolute()
    return Path(folders[0]).absolute() if folders else None


def _path(module: ModuleType) -> Path | None:
    if file := getattr(module, "__file__", None):
        return Path(file).absolute()
    folders = list(getattr(module, "__path__", []))
    return Path(folders[0]).absolute() if folders else None


def _in_target(root: str, path: Path) -> bool:
    """In a folder of another name that an installer wrote into: `pip install --target`."""
    for name in packages().get(root, ()):
        found = importlib.metadata.distribution(name)
        if found.read_text("INSTALLER") and path.is_relative_to(Path(str(found.locate_file(""))).absolute()):
            return True
    return False


def _is_compiled_editable(path: Path) -> bool:
    """Of `pip install -e`, with parts that are no Python text: it cannot be copied, so export builds its wheel."""
    if editable_at(path) is None:
        return False
    folder = path if path.is_dir() else path.parent
    is_package = path.is_dir() or path.name.startswith("__init__.")
    endings = importlib.machinery.EXTENSION_SUFFIXES
    return is_package and any(each.name.endswith(tuple(endings)) for each in folder.rglob("*"))


def files_of(root: str) -> dict[str, Path]:
    """Files of a local top-level module or package, data that lies in it included, by their place under `modules/`.

    It need not be imported yet. Raises LookupError where there is none of this name.
    """
    module = sys.modules.get(root)
    spec = None if module is not None else importlib.util.find_spec(root)
    if module is None and spec is None:
        raise LookupError(root)
    folders = getattr(module, "__path__", None) if spec is None else spec.submodule_search_locations
    if folders is None:
        path = _path(module) if module is not None else Path(str(spec.origin)) if spec is not None else None
        assert path is not None
        return {path.name: path}
    found: dict[str, Path] = {}
    for folder in map(Path, folders):
        for path in sorted(folder.rglob("*")):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts)
            if hidden or not path.is_file() or path.suffix in (".pyc", ".ipynb"):
                continue
            found.setdefault(str(Path(root) / path.relative_to(folder)), path)
    return found


def check_unchanged(root: str, chain: tuple[str, ...]) -> None:
    """Raises CaptureError where a file of this local module is not what is loaded."""
    for name, module in sorted(sys.modules.items()):
        if name == root or name.startswith(f"{root}."):
            path = _path(module)
            if path is None or path.is_dir():
                continue
            if path.suffix != ".py":
                raise CaptureError(
                    f"the local module {name} is no Python file ({path.name}): {' -> '.join(chain)}",
                    hint="install it as a package",
                )
            if what := _difference(module, path):
                raise CaptureError(
                    f"{path.name} is not what is loaded: {what} ({' -> '.join(chain)})",
                    hint=f"run importlib.reload({name}) and the cells that use it, or restart the kernel",
                )


def _difference(module: ModuleType, path: Path) -> str:
    """What differs between a file and the module loaded from it; "" for nothing."""
    try:
        source = path.read_text("utf-8")
        code = compile(source, str(path), "exec", dont_inherit=True)
    except OSError as exc:
        return f"the file cannot be read ({exc.strerror})"
    except (SyntaxError, ValueError) as exc:
        return f"the file does not compile ({exc})"
    codes: dict[str, list[CodeType]] = {}
    for child in nested_codes(code):
        codes.setdefault(child.co_qualname, []).append(child)
    for live in _live_codes(module, path):
        # %autoreload makes methods under a class name of its own.
        same = codes.get(live.co_qualname) or [each for each in nested_codes(code) if each.co_name == live.co_name]
        if not any(code_equal(live, one) for one in same):
            return f"{live.co_qualname} was changed"
    for name, value in _constants(source):
        live_value = vars(module).get(name, value)
        if type(live_value) is not type(value) or live_value != value:
            return f"{name} is {live_value!r}, in the file {value!r}"
    return ""


def _live_codes(module: ModuleType, path: Path) -> Iterator[CodeType]:
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        functions = own_functions(value) if isinstance(value, type) else own_functions(_Holder.of(value))
        for function in functions.values():
            if Path(function.__code__.co_filename).absolute() == path:
                yield function.__code__


class _Holder:
    """Lets one function be looked at as a class's methods are."""

    @staticmethod
    def of(value: Any) -> type:
        return type("_Held", (), {"held": value})


def _constants(source: str) -> Iterator[tuple[str, Any]]:
    """Top-level `NAME = literal` of a file, for names assigned once and never written to otherwise."""
    tree = ast.parse(source)
    stored = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    shared = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if stored.count(name) == 1 and name not in shared and isinstance(node.value, ast.Constant):
                yield name, node.value.value
