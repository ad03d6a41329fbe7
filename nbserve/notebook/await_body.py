"""`%%serve_handler` cells whose body awaits at its top level, as any cell of IPython may: the cell awaits the magic.

Called by `magics.py`. IPython decides by a cell's text whether it is run in the event loop; a cell magic's text is a
plain call, so the transformer that is registered here puts `await` in front of it.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any

__all__ = ["ALLOW_AWAIT", "awaits", "make_transformer"]

ALLOW_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_CALL = "get_ipython().run_cell_magic('serve_handler',"


def awaits(code: CodeType) -> bool:
    """Does running it give a coroutine?"""
    return bool(code.co_flags & inspect.CO_COROUTINE)


def make_transformer(ip: Any) -> Callable[[list[str]], list[str]]:
    """For `ip.input_transformers_post`. Without autoawait nothing is changed: then `await` is an error everywhere."""

    def transform(lines: list[str]) -> list[str]:
        if not lines or not lines[0].startswith(_CALL) or not ip.autoawait or not _body_awaits(ip, "".join(lines)):
            return lines
        return [f"await {lines[0]}", *lines[1:]]

    return transform


def _body_awaits(ip: Any, text: str) -> bool:
    try:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        body = ip.transform_cell(ast.literal_eval(call.args[2]))
        return awaits(compile(body, "<cell>", "exec", flags=ALLOW_AWAIT, dont_inherit=True))
    except (SyntaxError, ValueError):  # the body is run all the same, and says what is wrong
        return False
