"""Live-only pickles: for values that have no data form. Served beside the notebook that wrote them, never exported.

Written by capture, read by `values.py` from the bundle's own folder and nowhere else. Tensors lie out of band in a
safetensors file; the user's classes and functions are references into handler.py.
"""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["dump", "load", "modules_of"]


def dump(obj: Any, reference: Callable[[Any], str | None]) -> tuple[bytes, Any, set[str]]:
    """Object -> (file, WeightsPlan or None, modules that reading imports). Raises what pickling raises.

    The file is one line of JSON, where the tensors lie, and then the pickle.
    """
    import cloudpickle

    buffer = io.BytesIO()
    tensors = _Tensors()

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, item: Any) -> Any:
            if isinstance(item, io.IOBase) and not isinstance(item, (io.StringIO, io.BytesIO)):
                raise pickle.PicklingError("an open file")  # cloudpickle would copy its content in silence
            if (index := tensors.add(item)) is not None:
                return ("tensor", index)
            name = reference(item)
            return ("global", name) if name is not None else None

    Pickler(buffer, protocol=5).dump(obj)
    if tensors.plan is not None:
        tensors.plan.finish()
    head = json.dumps(tensors.nodes).encode() + b"\n"
    return head + buffer.getvalue(), tensors.plan, modules_of(buffer.getvalue())


def load(root: Path, files: list[str], resolve: Callable[[str], Any]) -> Any:
    """files: the pickle, then its weights if it has any."""
    with (root / files[0]).open("rb") as file:
        nodes: list[dict[str, Any]] = json.loads(file.readline())
        made = _read_tensors(root / files[1], nodes) if nodes else []

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, pid: Any) -> Any:
                kind, what = pid
                return made[what] if kind == "tensor" else resolve(what)

        return Unpickler(file).load()


def _read_tensors(path: Path, nodes: list[dict[str, Any]]) -> list[Any]:
    import torch

    from nbserve.bundle.weights import MappedWeights

    mapped = MappedWeights(path)
    made: list[Any] = []
    for node in nodes:
        tensor = mapped.tensor(node)
        if node["parameter"]:
            made.append(torch.nn.Parameter(tensor, requires_grad=node["grad"]))
        else:
            made.append(tensor.requires_grad_() if node["grad"] else tensor)
    return made


def modules_of(data: bytes) -> set[str]:
    """Modules that a pickle's globals are imported from; "__main__" among them means it cannot be read elsewhere."""
    modules: set[str] = set()
    strings: list[str] = []
    memo: list[str | None] = []
    last: str | None = None
    for opcode, arg, _ in pickletools.genops(data):
        name = opcode.name
        if name in ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"):
            last = str(arg)
            strings.append(last)
        elif name == "MEMOIZE":
            memo.append(last)
        elif name in ("BINGET", "LONG_BINGET"):
            known = memo[int(arg or 0)]
            last = known
            if known is not None:
                strings.append(known)
        elif name == "STACK_GLOBAL":
            modules.add(strings[-2])
            last = None
        elif name == "GLOBAL":
            modules.add(str(arg).split(" ")[0])
            last = None
        else:
            last = None
    return modules


class _Tensors:
    """Tensors met while pickling; the same tensor gives the same index."""

    def __init__(self) -> None:
        self.plan: Any = None
        self.nodes: list[dict[str, Any]] = []
        self._seen: dict[int, int] = {}
        self._keep: list[Any] = []

    def add(self, obj: Any) -> int | None:
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(obj, torch.Tensor):
            return None
        from nbserve.bundle import weights

        if weights.why_not(obj):
            return None
        if id(obj) not in self._seen:
            if self.plan is None:
                self.plan = weights.WeightsPlan()
            node = self.plan.add(f"tensor.{len(self.nodes)}", obj)
            node["parameter"] = isinstance(obj, torch.nn.Parameter)
            node["grad"] = bool(obj.requires_grad and obj.is_leaf)
            self._seen[id(obj)] = len(self.nodes)
            self.nodes.append(node)
            self._keep.append(obj)
        return self._seen[id(obj)]
