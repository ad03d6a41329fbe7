"""The body of a `%%serve_handler` cell: run it in the user's namespace, then pick what is to be served.

The body is compiled under the cell's own file name with the magic line as line 1, so tracebacks, `inspect`, the
debugger and capture all speak of the cell that the user sees.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import inspect
import linecache
from collections.abc import Coroutine, Iterator, Mapping
from types import CodeType, TracebackType
from typing import Any

from nbserve.errors import UsageError
from nbserve.handler import Handler
from nbserve.notebook.await_body import ALLOW_AWAIT, awaits
from nbserve.notebook.history import CurrentCell, History

__all__ = ["CellSyntaxError", "pick_handler", "run_body"]

_METHODS = ("inference", "handle", "predict")
_MAGIC = "%%serve_handler"


class CellSyntaxError(UsageError):
    """The cell's body is no Python; rendered as IPython shows a syntax error, at the cell's line."""

    def __init__(self, message: str, rendered: list[str]) -> None:
        super().__init__(message)
        self._rendered = rendered

    def _render_traceback_(self) -> list[str]:
        return self._rendered


def run_body(ip: Any, history: History, line: str, body: str) -> ast.Module | Coroutine[Any, Any, ast.Module]:
    """Run the body as the cell's code; its syntax tree, or a coroutine of that where the body awaits at its top level.

    Raises CellSyntaxError, or what the body raised, which then shows the body's frames only.
    """
    transformed = ip.transform_cell(body) if body.strip() else ""
    current, before = _place(history.current, body)
    source = "\n" * before + f"# {_MAGIC} {line}".rstrip() + "\n" + "\n" * _blank_lines(body) + transformed
    filename = _cache(ip, current, source)
    history.cells.add(current.number if current else ip.execution_count, source, filename)
    try:
        tree = ip.transform_ast(ip.compile.ast_parse(source, filename=filename))
        with ip.compile.extra_flags(ALLOW_AWAIT if ip.autoawait else 0):
            code = ip.compile(tree, filename, "exec")
    except SyntaxError as exc:
        rendered = ip.SyntaxTB.structured_traceback(type(exc), exc, [])
        raise CellSyntaxError(f"{exc.msg} (line {exc.lineno})", rendered) from None
    ran = ast.Module(tree.body, [])
    if awaits(code):
        return _run_async(ip, code, ran)
    with _shown_from(ip, filename):
        exec(code, ip.user_global_ns, ip.user_ns)
    return ran


async def _run_async(ip: Any, code: CodeType, ran: ast.Module) -> ast.Module:
    with _shown_from(ip, code.co_filename):
        await eval(code, ip.user_global_ns, ip.user_ns)
    return ran


def pick_handler(tree: ast.Module, namespace: Mapping[str, Any], wanted: str | None = None) -> tuple[str, Any]:
    """What the cell defines for serving: (name, class or function). Raises UsageError naming what was found.

    A class that subclasses Handler, else one with `inference`, `handle` or `predict`; else a function `predict`.
    `wanted` (`--handler`) names it instead, and may name anything of the notebook.
    """
    defined = {name: namespace[name] for name in _definitions(tree.body) if name in namespace}
    if wanted:
        if wanted in namespace:
            return wanted, namespace[wanted]
        near = difflib.get_close_matches(wanted, defined or namespace, n=1)
        raise UsageError(f"--handler {wanted}: no such name{f'; did you mean {near[0]}?' if near else ''}")
    classes = {name: found for name, found in defined.items() if inspect.isclass(found)}
    candidates = _candidates(classes)
    if len(candidates) == 1:
        return candidates.popitem()
    if len(candidates) > 1:
        names = ", ".join(candidates)
        raise UsageError(
            f"several classes of this cell can be served: {names}", hint=f"say which: --handler {[*candidates][-1]}"
        )
    if inspect.isroutine(predict := defined.get("predict")):
        return "predict", predict
    raise UsageError(f"no handler in this cell: {_found(defined)}", hint=_advice(defined))


def _candidates(classes: Mapping[str, type]) -> dict[str, type]:
    """Classes that can be served; a base of another one of them is not meant, and Handler's children go first."""
    able = {
        name: found
        for name, found in classes.items()
        if issubclass(found, Handler) or any(callable(getattr(found, method, None)) for method in _METHODS)
    }
    leaves = {
        name: found
        for name, found in able.items()
        if not any(other is not found and issubclass(other, found) for other in able.values())
    }
    return {name: found for name, found in leaves.items() if issubclass(found, Handler)} or leaves


def _found(defined: Mapping[str, Any]) -> str:
    if not defined:
        return "it defines no class and no function"
    kinds = [f"{'class' if inspect.isclass(found) else 'function'} {name}" for name, found in defined.items()]
    return f"found {', '.join(kinds)}"


def _advice(defined: Mapping[str, Any]) -> str:
    modules = [name for name, found in defined.items() if inspect.isclass(found) and hasattr(found, "forward")]
    if modules:
        return f"a module is served as an object: model = {modules[0]}(...), then %nbserve serve model --sample x[0]"
    served = "define a class with an `inference` method (see nbserve.Handler) or a function `predict(batch)`"
    return f"{served}; or name another one: --handler {[*defined][-1]}" if defined else served


def _definitions(statements: list[ast.stmt]) -> Iterator[str]:
    """Names of classes and functions at the cell's own level, also under if, try, with and loops."""
    for statement in statements:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement.name
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from _definitions(getattr(statement, field, []))
        for handler in getattr(statement, "handlers", []):
            yield from _definitions(handler.body)


def _place(current: CurrentCell | None, body: str) -> tuple[CurrentCell | None, int]:
    """The cell that this body is of, and the blank lines before its magic line. None: called some other way."""
    if current is None:
        return None, 0
    lines = current.raw.splitlines()
    before = next((at for at, text in enumerate(lines) if text.strip()), 0)
    is_ours = bool(lines) and lines[before].lstrip().startswith(_MAGIC)
    return (current, before) if is_ours else (None, 0)


def _blank_lines(body: str) -> int:
    """Leading blank lines, which IPython's transformation drops."""
    count = 0
    for text in body.splitlines():
        if text.strip():
            break
        count += 1
    return count


def _cache(ip: Any, current: CurrentCell | None, source: str) -> str:
    """Make the source known under the cell's file name, in place of the call of the magic."""
    if current is None:
        return str(ip.compile.cache(source, ip.execution_count))
    lines = [f"{text}\n" for text in source.splitlines()]
    linecache.cache[current.filename] = (len(source), None, lines, current.filename)
    return current.filename


@contextlib.contextmanager
def _shown_from(ip: Any, filename: str) -> Iterator[None]:
    try:
        yield
    except BaseException as exc:
        _show_only(ip, exc, filename)
        raise


def _show_only(ip: Any, exc: BaseException, filename: str) -> None:
    """Have IPython show an exception of the body from its first line in the cell on, without our frames."""
    own: TracebackType | None = exc.__traceback__
    while own is not None and own.tb_frame.f_code.co_filename != filename:
        own = own.tb_next
    if own is None:
        return
    rendered = ip.InteractiveTB.structured_traceback(type(exc), exc, own, tb_offset=0)
    with contextlib.suppress(AttributeError):  # a class with slots: it shows our frames too
        exc._render_traceback_ = lambda: rendered  # type: ignore[attr-defined]
