"""The tree that `structure.py` describes -> objects, in a worker. No constructor and no pickle runs.

Called by `values.py`.
"""

from __future__ import annotations

import base64
import functools
import importlib
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbserve.bundle import anew, forms, pretrained
from nbserve.bundle.sharing import is_stretch, read_array, read_tensor
from nbserve.bundle.structure import bare_module, is_module, may_call
from nbserve.errors import BundleError

__all__ = ["Decoder"]


class Decoder:
    """Trees -> objects. root: the bundle. resolve: "handler:Net" -> class. device: for tensors that were on one."""

    def __init__(self, root: Path, resolve: Callable[[str], Any], device: str | None = None) -> None:
        self._root, self.resolve, self._device = root, resolve, device
        self._slots: dict[str, list[Any]] = {}
        self._here: list[Any] = []
        self._weights: dict[str, Any] = {}
        self._file = ""
        self._lent: set[str] = set()
        self._stretches: dict[str, Any] = {}

    def decode(self, name: str, doc: Any, weights_file: str = "") -> Any:
        """The value. Raises BundleError where tree and files do not fit; errors of the user's `__setstate__` pass."""
        self._here = self._slots[name] = []
        self._file = weights_file
        try:
            return self.part(doc)
        except (KeyError, IndexError, ValueError) as exc:
            raise BundleError(
                f"value {name!r} cannot be read: {type(exc).__name__}: {exc}", hint="capture it again"
            ) from exc
        finally:  # a mapping lives as its tensors do, or until the other values on its memory are read
            self._weights = {file: found for file, found in self._weights.items() if file in self._lent}

    def part(self, doc: Any) -> Any:
        """The object of a tree inside the value."""
        if isinstance(doc, list):
            made: list[Any] = []
            self._here.append(made)
            made.extend(self.part(item) for item in doc)
            return made
        if not isinstance(doc, dict):
            return doc
        if "$" not in doc:
            plain: dict[str, Any] = {}
            self._here.append(plain)
            for key, value in doc.items():
                plain[key] = self.part(value)
            return plain
        kind = doc["$"]
        if kind in _READ_ATOMS:
            return _READ_ATOMS[kind](self, doc)
        slot = len(self._here)
        self._here.append(None)
        form = forms.READERS.get(kind) or anew.READERS.get(kind)
        made_any = form(self, doc) if form is not None else _READERS[kind](self, doc, slot)
        self._here[slot] = made_any
        return made_any

    def file(self, name: str) -> Path:
        """A file of the bundle."""
        return self._root / name

    def _ref(self, doc: dict[str, Any]) -> Any:
        slots = self._slots[doc["of"]] if "of" in doc else self._here
        return slots[doc["n"]]

    def _global(self, doc: dict[str, Any]) -> Any:
        return self.resolve(doc["v"])

    def _module(self, doc: dict[str, Any]) -> Any:
        name: str = doc["v"]
        return self.resolve(name) if ":" in name else importlib.import_module(name)

    def _dict(self, doc: dict[str, Any], slot: int) -> Any:
        made: dict[Any, Any] = OrderedDict() if doc["$"] == "odict" else {}
        self._here[slot] = made
        for key, value in doc["v"]:
            made_key = self.part(key)
            made[made_key] = self.part(value)
        return made

    def _items(self, doc: dict[str, Any], slot: int) -> Any:
        make = {"tuple": tuple, "set": set, "frozenset": frozenset}[doc["$"]]
        return make([self.part(item) for item in doc["v"]])

    def _method(self, doc: dict[str, Any], slot: int) -> Any:
        owner = self.part(doc["self"])
        return getattr(owner, doc["v"]) if "v" in doc else types.MethodType(self.part(doc["func"]), owner)

    def _partial(self, doc: dict[str, Any], slot: int) -> Any:
        func = self.part(doc["func"])
        args = [self.part(arg) for arg in doc["args"]]
        kwargs = {key: self.part(arg) for key, arg in doc["kwargs"]}
        made = functools.partial(func, *args, **kwargs)
        vars(made).update((key, self.part(value)) for key, value in doc.get("state", ()))
        return made

    def _tensor(self, doc: dict[str, Any], slot: int) -> Any:
        import torch

        file = doc.get("in", self._file)
        tensor = read_tensor(self._stretch(file), doc) if is_stretch(file) else self._weight(file, doc)
        grad = doc.get("grad", False)
        if doc["$"] == "parameter":
            return torch.nn.Parameter(tensor, requires_grad=grad)
        if "buffer" in doc:
            tensor = torch.nn.Buffer(tensor, persistent=doc["buffer"])
        return tensor.requires_grad_() if grad else tensor

    def _weight(self, file: str, doc: dict[str, Any]) -> Any:
        from nbserve.bundle import weights

        if file not in self._weights:
            self._weights[file] = weights.MappedWeights(self._root / file, self._device)
        if doc.get("lent"):
            self._lent.add(file)
        return self._weights[file].tensor(doc)

    def _array(self, doc: dict[str, Any], slot: int) -> Any:
        import numpy

        if "in" in doc:
            return read_array(self._stretch(doc["in"]), doc)
        if "file" not in doc:
            return forms.read_array_node(doc)
        path = self._root / doc["file"]
        large = path.stat().st_size >= 1024 * 1024
        # "c" is copy-on-write: shared pages until written to. asarray: no memmap type in the user's hands.
        return numpy.asarray(numpy.load(path, mmap_mode="c" if large else None, allow_pickle=False))

    def _stretch(self, file: str) -> Any:
        """Memory that several arrays and tensors share, mapped copy-on-write."""
        import numpy

        if file not in self._stretches:
            self._stretches[file] = numpy.asarray(numpy.memmap(self._root / file, numpy.uint8, mode="c"))
        return self._stretches[file]

    def _scalar(self, doc: dict[str, Any], slot: int) -> Any:
        import numpy

        return numpy.frombuffer(base64.b64decode(doc["v"]), dtype=doc["dtype"])[0]

    def _dtype(self, doc: dict[str, Any], slot: int) -> Any:
        import numpy

        dtype = forms.dtype_of(doc["v"])
        return numpy.dtype((numpy.record, dtype)) if doc.get("record") else dtype

    def _torch_thing(self, doc: dict[str, Any], slot: int) -> Any:
        import torch

        return getattr(torch, doc["v"]) if doc["$"] == "torch.dtype" else torch.device(doc["v"])

    def _pretrained(self, doc: dict[str, Any], slot: int) -> Any:
        buffers = {at: self.part(node) for at, node in doc.get("buffers", {}).items()}
        attributes = self.part(doc["attributes"]) if "attributes" in doc else {}
        return pretrained.load(self.resolve(doc["class"]), self._root / doc["folder"], doc, buffers, attributes)

    def _object(self, doc: dict[str, Any], slot: int) -> Any:
        args = [self.part(arg) for arg in doc.get("args", ())]
        kwargs = {key: self.part(arg) for key, arg in doc.get("kwargs", ())}
        if doc["$"] == "call":
            if not may_call(doc["v"]) and not doc["v"].startswith("handler:"):
                raise BundleError(f"the bundle asks for a call of {doc['v']}", hint="capture it again")
            made = self.resolve(doc["v"])(*args)
        else:
            cls = self.resolve(doc["class"])
            made = cls.__new__(cls, *args, **kwargs)
        self._here[slot] = made
        if "state" in doc or "other_state" in doc:
            self._restore(made, doc)
        for item in doc.get("items", ()):
            made.append(self.part(item))
        for key, value in doc.get("pairs", ()):
            made_key = self.part(key)
            made[made_key] = self.part(value)
        return made

    def _restore(self, made: Any, doc: dict[str, Any]) -> None:
        values: Any
        if "other_state" in doc:
            values = self.part(doc["other_state"])
        else:
            values = bare_module() if is_module(made) else {}
            for key, value in doc["state"].items():
                values[key] = self.part(value)
        if hasattr(made, "__setstate__"):
            made.__setstate__(values)
            return
        slots: dict[str, Any] = {}
        if isinstance(values, tuple) and len(values) == 2:
            values, slots = values
        if values:
            made.__dict__.update(values)
        for key, value in (slots or {}).items():
            object.__setattr__(made, key, value)


_READ_ATOMS: dict[str, Callable[[Decoder, dict[str, Any]], Any]] = {
    "float": lambda self, doc: float(doc["v"]),
    "complex": lambda self, doc: complex(*(self.part(part) for part in doc["v"])),
    "bytes": lambda self, doc: base64.b64decode(doc["v"]),
    "global": Decoder._global,
    "module": Decoder._module,
    "str": lambda self, doc: base64.b64decode(doc["v"]).decode("utf-8", "surrogatepass"),
    "flag": lambda self, doc: self.resolve(doc["class"])(self.part(doc["v"])),
    "enum": lambda self, doc: self.resolve(doc["class"])[doc["v"]],
    "ref": Decoder._ref,
}
"""Things without an identity of their own: they count up no number."""

_READERS: dict[str, Callable[[Decoder, dict[str, Any], int], Any]] = {
    "dict": Decoder._dict,
    "odict": Decoder._dict,
    "tuple": Decoder._items,
    "set": Decoder._items,
    "frozenset": Decoder._items,
    "bytearray": lambda self, doc, slot: bytearray(base64.b64decode(doc["v"])),
    "method": Decoder._method,
    "partial": Decoder._partial,
    "tensor": Decoder._tensor,
    "parameter": Decoder._tensor,
    "array": Decoder._array,
    "scalar": Decoder._scalar,
    "dtype": Decoder._dtype,
    "torch.dtype": Decoder._torch_thing,
    "torch.device": Decoder._torch_thing,
    "pretrained": Decoder._pretrained,
    "named": lambda self, doc, slot: self.resolve(doc["v"]),
    "object": Decoder._object,
    "call": Decoder._object,
}
