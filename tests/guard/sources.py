"""What the guards look at: tracked files, package modules, and the imports that a module makes."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "nbserve"


def tracked_files() -> list[Path]:
    """Files that git has or would add; in an unpacked source distribution, those of the folders we ship."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    names = [name for name in listing.decode().split("\0") if name]
    return [path for name in names if (path := ROOT / name).is_file()]


def package_files() -> list[Path]:
    """Every Python file of the distribution."""
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """nbserve/wire/frames.py -> nbserve.wire.frames"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@dataclass(frozen=True)
class Import:
    """One imported module; `at_import` = it is loaded when the importing module is."""

    module: str
    line: int
    at_import: bool

    @property
    def top(self) -> str:
        """torch.nn -> torch"""
        return self.module.partition(".")[0]


def imports(path: Path) -> list[Import]:
    """All imports of a file, without those that only a type checker sees. Relative ones are made absolute."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    return list(_walk(ast.parse(path.read_text()), package, at_import=True))


def _walk(node: ast.AST, package: list[str], *, at_import: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno, at_import) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        # `from nbserve import gateway` imports a module, `from nbserve.config import ModelConfig` does not:
        # both names are given, and a rule about modules sees the one that it knows.
        yield Import(module, node.lineno, at_import)
        yield from (Import(f"{module}.{alias.name}", node.lineno, at_import) for alias in node.names)
    else:
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        unseen = isinstance(node, ast.If) and _is_type_checking(node.test)
        for child in node.orelse if unseen else ast.iter_child_nodes(node):
            yield from _walk(child, package, at_import=at_import and not inside)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )
