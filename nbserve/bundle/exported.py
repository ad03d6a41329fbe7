"""Programs of `torch.export`: the archive that `torch.export.save` writes, without the pickles that it may hold.

Called by `forms.py`. Example inputs and the places of the notebook's source are left out: the former are pickled, the
latter name temporary files.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbserve.errors import BundleError

__all__ = ["is_module_of_program", "is_program", "load", "pickled_in", "save"]


def is_program(obj: Any) -> bool:
    """Is it an ExportedProgram?"""
    module = sys.modules.get("torch.export")
    return module is not None and isinstance(obj, module.ExportedProgram)


def is_module_of_program(obj: Any) -> bool:
    """Is it what a program's `module()` gives? Its code was made in this process."""
    module = sys.modules.get("torch.export._unlift")
    return module is not None and isinstance(obj, module._StatefulGraphModule)


def save(program: Any) -> bytes:
    """The archive. Look with `pickled_in` whether it may be shipped."""
    import torch

    buffer = io.BytesIO()
    with _bare(program):
        torch.export.save(program, buffer)
    return buffer.getvalue()


def load(path: Path) -> Any:
    """The program. Raises BundleError for an archive that would unpickle."""
    import torch

    if names := pickled_in(path):
        raise BundleError(f"{path.name} holds pickles ({', '.join(names)})", hint="capture it again")
    return torch.export.load(str(path))


def pickled_in(archive: Path | bytes) -> list[str]:
    """Tensors and objects in it that torch could only pickle: sparse ones, subclasses, custom classes."""
    found: list[str] = []
    with zipfile.ZipFile(io.BytesIO(archive) if isinstance(archive, bytes) else archive) as opened:
        for name in opened.namelist():
            if name.endswith("_config.json"):
                config = json.loads(opened.read(name)).get("config", {})
                found += [key for key, payload in config.items() if payload.get("use_pickle")]
    return found


@contextmanager
def _bare(program: Any) -> Iterator[None]:
    nodes = [node for node in program.graph.nodes if "stack_trace" in node.meta]
    traces = [node.meta.pop("stack_trace") for node in nodes]
    inputs, program.example_inputs = program.example_inputs, None
    try:
        yield
    finally:
        program.example_inputs = inputs
        for node, trace in zip(nodes, traces, strict=True):
            node.meta["stack_trace"] = trace
