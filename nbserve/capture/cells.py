"""The cells that ran: finds the source of a live object, and says which cell bound a name.

Filled by `notebook/history.py` as cells run; read by capture and by tracebacks. Used to find source and to explain,
never as the truth: what is found is compared with the live code before it is used.
"""

from __future__ import annotations

import ast
import itertools
import linecache
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from nbserve.capture.source import Definition, bound_names, code_equal, definitions, first_line, future_flags

__all__ = ["Cell", "Cells", "Found", "own_functions"]


class Cell:
    """One text that was compiled: a cell, or the body of a cell magic (then `line_offset` lines stand above it)."""

    def __init__(self, number: int, source: str, filename: str | None, line_offset: int = 0) -> None:
        self.number, self.source, self.filename, self.line_offset = number, source, filename, line_offset
        try:
            self.tree: ast.Module = ast.parse(source)
        except (SyntaxError, ValueError):
            self.tree = ast.Module(body=[], type_ignores=[])
        self.binds = bound_names(self.tree)
        self._definitions: dict[int, list[list[Definition]]] = {}

    @property
    def label(self) -> str:
        """ "In[5]"; a cell whose number nobody told is "a cell"."""
        return f"In[{self.number}]" if self.number > 0 else "a cell"

    def definitions(self, flags: int = 0) -> list[list[Definition]]:
        """Definitions of the text, compiled under these flags: statement by statement, and in one piece."""
        if flags not in self._definitions:
            try:
                self._definitions[flags] = [definitions(self.source, flags, whole=each) for each in (False, True)]
            except (SyntaxError, ValueError):
                self._definitions[flags] = []
        return self._definitions[flags]


class Found(NamedTuple):
    """Where a live function or class was written."""

    cell: Cell
    definition: Definition

    @property
    def text(self) -> str:
        """Whole lines of the definition, decorators included."""
        end = self.definition.node.end_lineno or self.definition.first_line
        return "".join(self.cell.source.splitlines(keepends=True)[self.definition.first_line - 1 : end])


class Cells:
    """Record of the executed cells, in order."""

    def __init__(self) -> None:
        self._cells: list[Cell] = []

    def __len__(self) -> int:
        return len(self._cells)

    def add(self, number: int, source: str, filename: str | None, *, line_offset: int = 0) -> None:
        """Record a cell that is about to run, or ran.

        number: of In[number]. source: transformed (plain Python). filename: what its code objects carry; None where
        unknown. line_offset: lines of the cell above this text, for bodies of cell magics. The body of a cell magic
        (`%%time`) is recorded too, without being told.
        """
        cell = Cell(number, source, filename, line_offset)
        self._cells.append(cell)
        for body in _magic_bodies(cell.tree):
            self._cells.append(Cell(number, body, None, line_offset + 1))

    def find(self, code: CodeType) -> Found | None:
        """The definition of a function's code: the same code, in the latest cell that has it."""
        name, flags = code.co_qualname, future_flags(code)
        moved: Found | None = None
        for cell in self._candidates(code.co_filename):
            for definition in itertools.chain(*cell.definitions(flags)):
                if definition.qualname != name or not code_equal(definition.code, code):
                    continue
                found = Found(cell, definition)
                if cell.filename in (None, code.co_filename) and definition.first_line == code.co_firstlineno:
                    return found
                moved = moved or found
        return moved

    def find_class(self, cls: type) -> Found | None:
        """The class statement with the live class's methods; for a class without methods, the latest of its name."""
        written = (each for each in own_functions(cls).values() if each.__module__ == cls.__module__)  # not by enum
        codes = [each.__code__ for each in written if not each.__code__.co_filename.startswith("<string>")]
        flags = future_flags(codes[0]) if codes else 0
        best: tuple[int, Found | None] = (0, None)
        for cell in self._candidates(codes[0].co_filename if codes else None):
            for inside in cell.definitions(flags):
                for definition in inside:
                    if not isinstance(definition.node, ast.ClassDef) or definition.qualname != cls.__qualname__:
                        continue
                    if not codes and set(_class_names(definition.code)) <= set(vars(cls)) | set(_annotations(cls)):
                        return Found(cell, definition)
                    matches = _matches(codes, inside)
                    if matches > best[0]:
                        best = (matches, Found(cell, definition))
        return best[1]

    def binding(self, name: str) -> Cell | None:
        """The cell that bound a name last; None where no recorded cell did."""
        return next((cell for cell in reversed(self._cells) if name in cell.binds), None)

    def __iter__(self) -> Iterator[Cell]:
        return iter(self._cells)

    def bindings(self, name: str) -> list[tuple[str, int]]:
        """Cells that bound a name, in the order in which they ran: (label, line of the cell)."""
        return [(cell.label, cell.binds[name] + cell.line_offset) for cell in self._cells if name in cell.binds]

    def statement(self, name: str, label: str) -> str:
        """The last statement of a cell that binds a name, as it was run; "" where there is none."""
        cell = next((cell for cell in reversed(self._cells) if name in cell.binds and cell.label == label), None)
        if cell is None:
            return ""
        line = cell.binds[name]
        node = next((each for each in cell.tree.body if each.lineno <= line <= (each.end_lineno or line)), None)
        first = first_line(node) if node is not None else line
        last = (node.end_lineno or line) if node is not None else line
        return "\n".join(cell.source.splitlines()[first - 1 : last])

    def where(self, name: str) -> str:
        """ "In[5]", or "" where unknown."""
        cell = self.binding(name)
        return cell.label if cell is not None else ""

    def imported(self, name: str) -> tuple[str, str] | None:
        """(module, attribute) where the name was last bound by `from module import attribute`."""
        cell = self.binding(name)
        if cell is None:
            return None
        for node in ast.walk(cell.tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return node.module, alias.name
        return None

    def mention(self, word: str) -> bool:
        """Is the word in any cell?"""
        return any(word in cell.source for cell in self._cells)

    def locate(self, filename: str, line: int) -> str | None:
        """Place in a traceback -> "In[5], line 3"; None for files that are no cell's."""
        for cell in reversed(self._cells):
            if cell.filename is not None and cell.filename == filename:
                return f"{cell.label}, line {line + cell.line_offset}"
        return None

    def _candidates(self, filename: str | None) -> Iterator[Cell]:
        """Cells to look in: those of this file first, the latest first."""
        same = [cell for cell in self._cells if filename is not None and cell.filename == filename]
        if not same and filename is not None and (cell := _from_linecache(filename)) is not None:
            # A magic compiled its body under a name of its own: %%capture does.
            same = [body for body in self._cells if body.filename is None and body.source == cell.source]
            for body in same:
                body.filename = filename
            same = same or [cell]
        yield from reversed(same)
        yield from (cell for cell in reversed(self._cells) if cell not in same)


def _matches(codes: list[CodeType], inside: list[Definition]) -> int:
    """How many of these codes are among the definitions."""
    return sum(any(one.qualname == code.co_qualname and code_equal(one.code, code) for one in inside) for code in codes)


def own_functions(cls: type) -> dict[str, FunctionType]:
    """Functions that a class body made: methods, and what static methods, properties and decorators wrap."""
    found: dict[str, FunctionType] = {}
    for name, attribute in vars(cls).items():
        inner = _function_in(attribute)
        if inner is not None:
            found[name] = inner
    return found


def _function_in(attribute: Any) -> FunctionType | None:
    for _ in range(20):
        if isinstance(attribute, FunctionType):
            inner = vars(attribute).get("__wrapped__")
            if inner is None:
                return attribute
        elif isinstance(attribute, property):
            inner = attribute.fget
        else:
            inner = getattr(attribute, "__func__", None) or getattr(attribute, "func", None)
            inner = inner or getattr(attribute, "__wrapped__", None)
        if inner is None or isinstance(attribute, type):
            return None
        attribute = inner
    return None


def _class_names(body: CodeType) -> Iterator[str]:
    """Names that a class body binds."""
    return (name for name in body.co_names if name in _stored(body) and not name.startswith("__"))


def _stored(body: CodeType) -> set[str]:
    import dis

    return {each.argval for each in dis.get_instructions(body) if each.opname == "STORE_NAME"}


def _annotations(cls: type) -> dict[str, Any]:
    return vars(cls).get("__annotations__") or {}


def _magic_bodies(tree: ast.Module) -> Iterator[str]:
    """Bodies of `get_ipython().run_cell_magic(name, line, body)`, as plain Python."""
    for node in tree.body:
        call = node.value if isinstance(node, ast.Expr) else None
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "run_cell_magic"
            and len(call.args) == 3
            and isinstance(call.args[2], ast.Constant)
            and isinstance(call.args[2].value, str)
        ):
            yield _transformed(call.args[2].value)


def _transformed(body: str) -> str:
    try:
        from IPython.core.inputtransformer2 import TransformerManager
    except ImportError:
        return body
    try:
        return str(TransformerManager().transform_cell(body))  # type: ignore[no-untyped-call]
    except SyntaxError:
        return body


def _from_linecache(filename: str) -> Cell | None:
    """A cell that ran before anybody listened: IPython keeps its text for tracebacks."""
    if not ("ipython" in filename or "ipykernel" in filename or filename.startswith("<")):
        return None
    lines = linecache.getlines(filename)
    return Cell(0, "".join(lines), filename) if lines else None
