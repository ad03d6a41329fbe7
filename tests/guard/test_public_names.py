"""The public surface, name by name: adding or removing one is a decision, and shows here."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import nbserve
from tests.guard.sources import PACKAGE, module_name, package_files

PUBLIC = {
    "nbserve": ["Context", "Endpoint", "Handler", "NbserveError", "Row", "__version__", "load_ipython_extension"],
}
FILES_WITHOUT_API = {"__main__.py"}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module: str) -> None:
    imported = importlib.import_module(module)
    assert sorted(imported.__all__) == sorted(PUBLIC[module])
    for name in imported.__all__:
        assert getattr(imported, name) is not None


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nbserve.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", package_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_says_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "starts with a docstring: what it owns, who calls it"
    assert len(docstring) >= 20


@pytest.mark.parametrize("path", package_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_functions_and_classes_have_docstrings(path: Path) -> None:
    """What `__all__` names, and their public methods. A method that overrides one inherits its words."""
    tree = ast.parse(path.read_text())
    exported = _exported(tree)
    missing = []
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or node.name not in exported:
            continue
        if not ast.get_docstring(node):
            missing.append(f"{node.lineno} {node.name}")
        if isinstance(node, ast.ClassDef):
            missing += _methods_without_docstring(path, node)
    assert not missing, f"{path.name}: no docstring: {', '.join(missing)}"


def _exported(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    return set()


def _methods_without_docstring(path: Path, node: ast.ClassDef) -> list[str]:
    bare = [
        method
        for method in node.body
        if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not method.name.startswith("_")
        and not ast.get_docstring(method)
        and not _is_listed_only(method)
    ]
    if not bare:
        return []
    live = getattr(importlib.import_module(module_name(path)), node.name)
    return [
        f"{method.lineno} {node.name}.{method.name}"
        for method in bare
        if not inspect.getdoc(getattr(live, method.name)) and not _is_setter(method)
    ]


def _is_listed_only(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """`def told(self) -> None: ...` of a protocol, whose class says what it is about."""
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in method.body)


def _is_setter(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(mark, ast.Attribute) and mark.attr == "setter" for mark in method.decorator_list)
