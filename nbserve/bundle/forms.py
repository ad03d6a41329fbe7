"""Library objects that are more than a class and its state, both directions side by side: what `write` makes of one,
the reader of that name in `READERS` turns back.

Called by `encoder.py` and `decoder.py`. torch and numpy are imported where an object is theirs.
"""

from __future__ import annotations

import base64
import math
import struct
import sys
import types
import weakref
import zoneinfo
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from nbserve.bundle import exported
from nbserve.bundle.structure import is_module

__all__ = [
    "INLINE_BYTES",
    "READERS",
    "Unencodable",
    "array_node",
    "descr_of",
    "dtype_of",
    "read_array_node",
    "text_node",
    "write",
]

INLINE_BYTES = 4096
"""Smaller arrays inside a value stand in its tree: a forest of 100 trees is not 1,000 files."""


class Unencodable(Exception):
    """`obj`, at `path` inside the value, has no form here; `reason` completes "X cannot be shipped: ...".

    refuse: a pickle would not help, or is not wanted. mend: what to do, where the object's type does not tell.
    """

    def __init__(self, obj: Any, path: str, reason: str, *, refuse: bool = False, mend: str = "") -> None:
        super().__init__(f"{path}: {reason}")
        self.obj, self.path, self.reason, self.refuse, self.mend = obj, path, reason, refuse, mend


class Writer(Protocol):
    """What a form needs of the encoder."""

    def part(self, obj: Any, path: str) -> Any:
        """The tree of something inside."""

    def class_path(self, cls: type, path: str) -> str:
        """ "module:Class"; raises Unencodable."""

    def add_file(self, extension: str, data: bytes) -> str:
        """A file beside the tree; its name."""

    def is_own(self, cls: type) -> bool:
        """Is it a class of the notebook?"""


class Reader(Protocol):
    """What a form needs of the decoder."""

    def part(self, doc: Any) -> Any:
        """The object of a tree inside."""

    def resolve(self, path: str) -> Any:
        """ "module:Class" -> the class."""

    def file(self, name: str) -> Any:
        """Path of a file beside the tree."""


Node = dict[str, Any]

_WEAK = (weakref.ReferenceType, weakref.WeakValueDictionary, weakref.WeakKeyDictionary, weakref.WeakSet)


def write(obj: Any, path: str, writer: Writer) -> Node | None:
    """The form of an object of torch, numpy or the standard library; None where it needs none."""
    if isinstance(obj, types.MappingProxyType):
        return {"$": "proxy", "v": writer.part(dict(obj), path)}
    if isinstance(obj, zoneinfo.ZoneInfo) and obj.key:
        return {"$": "zone", "v": obj.key}
    if type(obj) is struct.Struct:
        return {"$": "struct", "v": obj.format}
    regex = sys.modules.get("regex")
    if regex is not None and isinstance(obj, regex.Pattern):
        parts = [writer.part(each, path) for each in (regex, obj.pattern, obj.named_lists)]
        return {"$": "regex", "v": parts, "flags": obj.flags}
    if isinstance(obj, _WEAK):
        reason = f"it is a {type(obj).__name__}, which does not keep what it refers to"
        raise Unencodable(obj, path, reason, refuse=True, mend="refer to the object itself, or keep it in a plain dict")
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and (found := _torch(torch, obj, path, writer)) is not None:
        return found
    if numpy is not None and type(obj) is numpy.ndarray and obj.dtype.kind == "O":
        items = [writer.part(item, f"{path}[{index}]") for index, item in enumerate(obj.ravel().tolist())]
        return {"$": "objects", "shape": list(obj.shape), "v": items}
    return None


def _torch(torch: Any, obj: Any, path: str, writer: Writer) -> Node | None:
    if isinstance(obj, torch.Tensor):
        return _tensor(torch, obj, path, writer)
    if isinstance(obj, torch.Generator):
        state = base64.b64encode(obj.get_state().numpy().tobytes()).decode()
        return {"$": "generator", "device": str(obj.device), "v": state}
    if isinstance(obj, torch.optim.Optimizer):
        reason = "it is an optimizer, which belongs to training: keep it out of what the handler uses"
        raise Unencodable(obj, path, reason, refuse=True)
    if isinstance(obj, torch.jit.ScriptModule):
        return _script(torch, obj, writer)
    if exported.is_program(obj):
        return _program(obj, path, writer)
    if exported.is_module_of_program(obj):
        raise Unencodable(obj, path, "it is the `module()` of a program of torch.export", mend=_KEEP_PROGRAM)
    if is_module(obj) and type(obj).__name__.startswith("Parametrized"):
        from torch.nn.utils import parametrize

        if parametrize.is_parametrized(obj):
            return _parametrized(obj, path, writer)
    return None


_KEEP_PROGRAM = (
    "keep the program itself, which can be shipped (`program = torch.export.export(...)`), and call "
    "`program.module()` in `initialize`"
)


def _script(torch: Any, obj: Any, writer: Writer) -> Node:
    import io

    buffer = io.BytesIO()
    torch.jit.save(obj, buffer)
    return {"$": "script", "file": writer.add_file("pt", buffer.getvalue())}


def _program(obj: Any, path: str, writer: Writer) -> Node:
    try:
        archive = exported.save(obj)
    except Exception as exc:
        reason = f"torch.export.save cannot write it: {type(exc).__name__}: {str(exc).partition(chr(10))[0]}"
        raise Unencodable(obj, path, reason, refuse=True) from exc
    if names := exported.pickled_in(archive):
        reason = f"torch.export can only pickle {', '.join(names)}: export it with plain tensors"
        raise Unencodable(obj, path, reason, refuse=True)
    writer.class_path(type(obj), path)  # reading needs torch
    return {"$": "exported", "file": writer.add_file("pt2", archive)}


def _parametrized(obj: Any, path: str, writer: Writer) -> Node:
    """Its class was made for it; the one that it had before, and its state, make it again."""
    names = list(obj.parametrizations)
    # Hooks that read state dicts of older releases are functions without a name.
    state = {key: value for key, value in vars(obj).items() if key != "_load_state_dict_pre_hooks"}
    state["_load_state_dict_pre_hooks"] = OrderedDict()
    parts = {key: writer.part(value, f"{path}.{key}") for key, value in state.items()}
    return {"$": "parametrized", "class": writer.class_path(type(obj).__bases__[0], path), "names": names, "v": parts}


def _tensor(torch: Any, obj: Any, path: str, writer: Writer) -> Node | None:
    if obj.is_quantized:
        return _quantized(torch, obj, path, writer)
    if obj.layout is not torch.strided:
        return _sparse(torch, obj, path, writer)
    plain = type(obj) in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
    if not plain and isinstance(obj, torch.Tensor) and writer.is_own(type(obj)):
        data = obj.detach().as_subclass(torch.Tensor)
        node = {"$": "subclass", "class": writer.class_path(type(obj), path), "v": writer.part(data, path)}
        node["grad"] = bool(obj.requires_grad and obj.is_leaf)
        node["state"] = writer.part(dict(vars(obj)), path)
        return node
    return None


def _quantized(torch: Any, obj: Any, path: str, writer: Writer) -> Node:
    node: Node = {"$": "quantized", "dtype": str(obj.dtype).removeprefix("torch.")}
    node["v"] = writer.part(obj.int_repr(), path)
    if obj.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        node |= {"scale": obj.q_scale(), "zero": obj.q_zero_point()}
    else:
        node["scales"] = writer.part(obj.q_per_channel_scales(), path)
        node["zeros"] = writer.part(obj.q_per_channel_zero_points(), path)
        node["axis"] = obj.q_per_channel_axis()
    return node


def _sparse(torch: Any, obj: Any, path: str, writer: Writer) -> Node | None:
    layout = str(obj.layout).removeprefix("torch.")
    if layout == "sparse_coo":
        parts = [obj._indices(), obj._values()]
    elif layout in ("sparse_csr", "sparse_bsr"):
        parts = [obj.crow_indices(), obj.col_indices(), obj.values()]
    elif layout in ("sparse_csc", "sparse_bsc"):
        parts = [obj.ccol_indices(), obj.row_indices(), obj.values()]
    else:
        return None
    node: Node = {"$": "sparse", "layout": layout, "shape": list(obj.shape)}
    node["v"] = [writer.part(part, path) for part in parts]
    if layout == "sparse_coo":
        node["coalesced"] = obj.is_coalesced()
    return node


def _read_quantized(reader: Reader, doc: Node) -> Any:
    import torch

    ints = reader.part(doc["v"])
    if "scale" in doc:
        return torch._make_per_tensor_quantized_tensor(ints, doc["scale"], doc["zero"])
    scales, zeros = reader.part(doc["scales"]), reader.part(doc["zeros"])
    return torch._make_per_channel_quantized_tensor(ints, scales, zeros, doc["axis"])


def _read_sparse(reader: Reader, doc: Node) -> Any:
    import torch

    first, *rest = [reader.part(part) for part in doc["v"]]
    if doc["layout"] == "sparse_coo":
        return torch.sparse_coo_tensor(first, rest[0], doc["shape"], is_coalesced=doc["coalesced"])
    return torch.sparse_compressed_tensor(first, rest[0], rest[1], doc["shape"], layout=getattr(torch, doc["layout"]))


def _read_subclass(reader: Reader, doc: Node) -> Any:
    made = reader.part(doc["v"]).as_subclass(reader.resolve(doc["class"]))
    made.__dict__.update(reader.part(doc["state"]))
    return made.requires_grad_() if doc["grad"] else made


def _read_script(reader: Reader, doc: Node) -> Any:
    import torch

    return torch.jit.load(str(reader.file(doc["file"])), map_location="cpu")  # type: ignore[no-untyped-call]


def _read_generator(reader: Reader, doc: Node) -> Any:
    import torch

    made = torch.Generator(doc["device"])
    made.set_state(torch.frombuffer(bytearray(base64.b64decode(doc["v"])), dtype=torch.uint8))
    return made


def _read_parametrized(reader: Reader, doc: Node) -> Any:
    from torch.nn.utils import parametrize

    cls = reader.resolve(doc["class"])
    made = cls.__new__(cls)
    made.__dict__.update({key: reader.part(value) for key, value in doc["v"].items()})
    parametrize._inject_new_class(made)
    for name in doc["names"]:
        parametrize._inject_property(made, name)
    return made


def _read_objects(reader: Reader, doc: Node) -> Any:
    import numpy

    made = numpy.empty(math.prod(doc["shape"]), dtype=object)
    for index, item in enumerate(doc["v"]):
        made[index] = reader.part(item)
    return made.reshape(doc["shape"])


def _read_regex(reader: Reader, doc: Node) -> Any:
    regex, pattern, lists = [reader.part(part) for part in doc["v"]]
    return regex.compile(pattern, doc["flags"], **lists)


READERS: dict[str, Callable[[Any, Node], Any]] = {
    "proxy": lambda reader, doc: types.MappingProxyType(reader.part(doc["v"])),
    "regex": _read_regex,
    "struct": lambda reader, doc: struct.Struct(doc["v"]),
    "zone": lambda reader, doc: zoneinfo.ZoneInfo(doc["v"]),
    "quantized": _read_quantized,
    "sparse": _read_sparse,
    "subclass": _read_subclass,
    "script": _read_script,
    "exported": lambda reader, doc: exported.load(reader.file(doc["file"])),
    "generator": _read_generator,
    "parametrized": _read_parametrized,
    "objects": _read_objects,
}


def text_node(text: str) -> str | Node:
    """Text itself; in another form where it has half a pair of surrogates, which JSON would join or refuse."""
    if not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    return {"$": "str", "v": base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()}


def array_node(array: Any) -> Node:
    """A small array, in the tree itself."""
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    data = base64.b64encode(array.tobytes(order)).decode()
    return {"$": "array", "dtype": descr_of(array.dtype), "shape": list(array.shape), "order": order, "v": data}


def read_array_node(doc: Node) -> Any:
    """The array, writable."""
    import numpy

    flat = numpy.frombuffer(bytearray(base64.b64decode(doc["v"])), dtype=dtype_of(doc["dtype"]))
    return flat.reshape(doc["shape"], order=doc["order"])


def descr_of(dtype: Any) -> Any:
    """numpy's own description of a dtype, as .npy files have it."""
    import numpy

    return numpy.lib.format.dtype_to_descr(dtype)


def dtype_of(descr: Any) -> Any:
    """The dtype; JSON made lists of the tuples."""
    import numpy

    return numpy.lib.format.descr_to_dtype(_tuples(descr))


def _tuples(descr: Any) -> Any:
    if not isinstance(descr, list):
        return descr
    return [(field[0], _tuples(field[1]), *map(tuple, field[2:])) for field in descr]
