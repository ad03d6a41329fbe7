"""What a bundle imports when it is loaded, without loading it: the names in handler.py and in its values.

Called by gateway/pool/zygote.py, whose processes import these ahead of the workers. A guess that misses costs the
worker the time of the import, one too many is time and memory: nothing rests on it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

from nbserve.bundle.folder import Bundle

__all__ = ["imported_names"]

MAX_DOC_BYTES = 4 << 20
"""Larger trees of values are lists of data, with few classes in them."""
_ALWAYS_THERE = {*sys.stdlib_module_names, "nbserve", "handler"}  # "handler:Name" is of the bundle's handler.py
_CLASS = re.compile(r'"([A-Za-z_]\w*(?:\.\w+)*):([A-Za-z_]\w*)')  # as bundle/structure.py writes them


def imported_names(bundle: Bundle) -> list[str]:
    """ "module" or "module:name", each once, in the order in which they are met; nothing of Python's or nbserve's own.

    Reads the bundle's files. Raises SyntaxError, OSError.
    """
    found = dict.fromkeys([*_in_source(bundle), *_in_values(bundle)])
    return [name for name in found if re.split("[.:]", name)[0] not in _ALWAYS_THERE]


def _in_source(bundle: Bundle) -> Iterator[str]:
    for node in ast.parse((bundle.path / "handler.py").read_bytes()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}:{alias.name}" for alias in node.names if alias.name != "*")


def _in_values(bundle: Bundle) -> Iterator[str]:
    for record in bundle.manifest.values.values():
        doc = bundle.path / record.files[0] if record.files else None
        if record.saver == "structure" and doc is not None and doc.stat().st_size <= MAX_DOC_BYTES:
            yield from (f"{module}:{name}" for module, name in _CLASS.findall(doc.read_text("utf-8")))
