"""Reading source and code objects: which definitions a text has, what they refer to, whether code is the same. Pure.

Called by `cells.py`, `definitions.py` and `modules.py`.
"""

from __future__ import annotations

import ast
import dis
import inspect
import io
import tokenize
from collections.abc import Iterator, Sequence
from types import CodeType
from typing import NamedTuple, TypeAlias

__all__ = [
    "Definition",
    "FunctionNode",
    "Uses",
    "bound_names",
    "code_equal",
    "definitions",
    "first_line",
    "future_flags",
    "imported_roots",
    "indent",
    "nested_codes",
    "offset_of",
    "uses",
]

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_FUTURE_ANNOTATIONS = 0x1000000  # CO_FUTURE_ANNOTATIONS; sticky over the cells of a notebook


class Definition(NamedTuple):
    """A def, lambda or class in a text: its AST node and the code that compiling it gives."""

    qualname: str
    first_line: int
    """Of the first decorator, where there are any."""
    node: FunctionNode | ast.ClassDef
    code: CodeType


def future_flags(code: CodeType) -> int:
    """Compiler flags under which this code was made, as far as they change code."""
    return code.co_flags & _FUTURE_ANNOTATIONS


def definitions(source: str, flags: int = 0, *, whole: bool = False) -> list[Definition]:
    """All definitions of a text, in order. Raises SyntaxError.

    whole: compiled in one piece, as files and `%%time` bodies are; else statement by statement, as IPython does.
    It matters: calls of what the same piece imports compile to other instructions.
    """
    tree = ast.parse(source)
    pieces = [tree] if whole else [ast.Module([statement], []) for statement in tree.body]
    codes: dict[tuple[str, int], list[CodeType]] = {}
    for piece in pieces:
        code = compile(piece, "<cell>", "exec", flags=flags | _TOP_LEVEL_AWAIT, dont_inherit=True)
        for child in nested_codes(code):
            codes.setdefault((child.co_qualname, child.co_firstlineno), []).append(child)
    found = []
    for qualname, node in _named_nodes(tree.body, ""):
        line = first_line(node)
        if waiting := codes.get((qualname, line)):
            found.append(Definition(qualname, line, node, waiting.pop(0)))
    return found


def first_line(node: ast.AST) -> int:
    """Line of a definition, decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return int(min([node.lineno, *(each.lineno for each in decorators)]))  # type: ignore[attr-defined]


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """Code objects inside a code object, at any depth."""
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield const
            yield from nested_codes(const)


_COMPREHENSION_NODES: dict[type[ast.AST], str] = {
    ast.ListComp: "listcomp",
    ast.SetComp: "setcomp",
    ast.DictComp: "dictcomp",
    ast.GeneratorExp: "genexpr",
}
_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _named_nodes(nodes: Sequence[ast.AST], prefix: str) -> Iterator[tuple[str, FunctionNode | ast.ClassDef]]:
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield prefix + node.name, node
            outer = [*node.decorator_list, *_header(node)]
            yield from _named_nodes(outer, prefix)
            inner = f"{prefix}{node.name}." + ("" if isinstance(node, ast.ClassDef) else "<locals>.")
            yield from _named_nodes(list(node.body), inner)
        elif isinstance(node, ast.Lambda):
            yield prefix + "<lambda>", node
            yield from _named_nodes([node.body], f"{prefix}<lambda>.<locals>.")
        elif type(node) in _COMPREHENSION_NODES:
            # A scope of its own, as far as this Python does not put it into the one around it (PEP 709).
            inside = list(ast.iter_child_nodes(node))
            yield from _named_nodes(inside, f"{prefix}<{_COMPREHENSION_NODES[type(node)]}>.")
            yield from _named_nodes(inside, prefix)
        else:
            yield from _named_nodes(list(ast.iter_child_nodes(node)), prefix)


def _header(node: _Scope) -> list[ast.AST]:
    if isinstance(node, ast.ClassDef):
        return [*node.bases, *(keyword.value for keyword in node.keywords)]
    return [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]


def code_equal(a: CodeType, b: CodeType) -> bool:
    """Same instructions, names and constants; where they stand does not matter."""
    if (
        a.co_code != b.co_code
        or a.co_names != b.co_names
        or a.co_varnames != b.co_varnames
        or a.co_freevars != b.co_freevars
        or a.co_cellvars != b.co_cellvars
        or a.co_flags != b.co_flags
        or a.co_argcount != b.co_argcount
        or a.co_posonlyargcount != b.co_posonlyargcount
        or a.co_kwonlyargcount != b.co_kwonlyargcount
        or len(a.co_consts) != len(b.co_consts)
    ):
        return False
    return all(_const_equal(x, y) for x, y in zip(a.co_consts, b.co_consts, strict=True))


def _const_equal(x: object, y: object) -> bool:
    if isinstance(x, CodeType):
        return isinstance(y, CodeType) and code_equal(x, y)
    if type(x) is not type(y):
        return False
    if isinstance(x, frozenset) and isinstance(y, frozenset):  # its order is chance
        return sorted(map(repr, x)) == sorted(map(repr, y))
    # repr tells 1, 1.0 and True apart, and -0.0 from 0.0.
    return repr(x) == repr(y)


class Uses(NamedTuple):
    """Global names that code refers to. hard: needed when the definition runs; soft: when its body is called.

    chains: attribute chains read from a global, {"np": {("linalg", "norm")}}. imports: modules imported in bodies.
    """

    hard: dict[str, None]
    soft: dict[str, None]
    chains: dict[str, set[tuple[str, ...]]]
    imports: set[str]


def uses(code: CodeType, *, executed: bool = True) -> Uses:
    """What code refers to; executed: it runs at definition time (a statement), or only when called (a body)."""
    found = Uses({}, {}, {}, set())
    _scan(code, executed, found)
    for name in found.hard:
        found.soft.pop(name, None)
    return found


_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_READS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")
_WRITES = ("STORE_GLOBAL", "DELETE_GLOBAL")


def _scan(code: CodeType, executed: bool, found: Uses) -> None:
    target = found.hard if executed else found.soft
    own: set[str] = set()
    instructions = list(dis.get_instructions(code))
    for index, instruction in enumerate(instructions):
        name = instruction.opname
        if name == "STORE_NAME":
            own.add(instruction.argval)
        elif name in _READS and not (name == "LOAD_NAME" and instruction.argval in own):
            target[instruction.argval] = None
            if chain := _chain(instructions, index + 1):
                found.chains.setdefault(instruction.argval, set()).add(chain)
        elif name in _WRITES:
            target[instruction.argval] = None
        elif name == "IMPORT_NAME":
            found.imports.add(instruction.argval)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            _scan(const, executed and _runs_at_once(const), found)


def _chain(instructions: list[dis.Instruction], index: int) -> tuple[str, ...]:
    parts: list[str] = []
    while index < len(instructions) and instructions[index].opname in (*_ATTRIBUTES, "CACHE"):
        if instructions[index].opname != "CACHE":
            parts.append(str(instructions[index].argval))
        index += 1
    return tuple(parts)


_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


def _runs_at_once(code: CodeType) -> bool:
    """Class bodies and comprehensions run with the code around them; so do the factories that rendering adds."""
    return (
        not code.co_flags & inspect.CO_OPTIMIZED or code.co_name in _COMPREHENSIONS or code.co_name.startswith("_make_")
    )


def bound_names(tree: ast.Module) -> dict[str, int]:
    """Names that a cell's top level binds -> line (the last one)."""
    found: dict[str, int] = {}
    _bound(tree.body, found)
    return found


def _bound(nodes: Sequence[ast.AST], found: dict[str, int]) -> None:
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[node.name] = node.lineno
        elif isinstance(node, ast.Lambda):
            continue
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = node.lineno
        else:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found[node.id] = node.lineno
            elif isinstance(node, ast.ExceptHandler) and node.name:
                found[node.name] = node.lineno
            _bound(list(ast.iter_child_nodes(node)), found)


def imported_roots(source: str) -> set[str]:
    """Top-level packages that a file imports anywhere (relative imports left out). Raises SyntaxError."""
    roots: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            roots.add(node.module.partition(".")[0])
    return roots


def offset_of(source_lines: list[str], line: int, byte_column: int) -> int:
    """Position in the joined text (lines keep their ends) of an AST position, whose columns count UTF-8 bytes."""
    before = sum(len(each) for each in source_lines[: line - 1])
    return before + len(source_lines[line - 1].encode()[:byte_column].decode())


def indent(text: str, prefix: str = "    ") -> str:
    """Indent code, but not the inner lines of strings."""
    keep: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _STRING_TOKENS:
            keep |= set(range(token.start[0] + 1, token.end[0] + 1))
    lines = text.splitlines(keepends=True)
    return "".join(
        line if number in keep or not line.strip() else prefix + line for number, line in enumerate(lines, start=1)
    )


_STRING_TOKENS = tuple(
    getattr(tokenize, name) for name in ("STRING", "FSTRING_MIDDLE", "FSTRING_END") if hasattr(tokenize, name)
)
