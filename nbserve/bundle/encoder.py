"""Live objects -> the tree that `structure.py` describes, and the tensors, arrays and folders beside it.

Called by capture, once for each value. Reads objects, changes nothing.
"""

from __future__ import annotations

import base64
import copyreg
import enum
import functools
import math
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from nbserve.bundle import anew, forms, pretrained
from nbserve.bundle.forms import Unencodable
from nbserve.bundle.sharing import Held
from nbserve.bundle.structure import bare_module, global_path, home, is_module, kind_of, may_call, reduced

__all__ = ["Encoder", "Reference", "Shared", "Unencodable"]

Reference = Callable[[Any], str | None]
"""A class, function or module of the user -> "handler:Net"; None where it has a name of its own or none at all."""


class Shared:
    """Objects met so far in all values of a bundle: what is in two values stays one object."""

    def __init__(self) -> None:
        self.slots: dict[int, tuple[str, int]] = {}
        self.keep: list[Any] = []
        self.plans: dict[tuple[str, int], tuple[str, Any]] = {}
        """(device, address) of a tensor's memory -> the value whose weights file holds it, and its WeightsPlan."""
        self.arrays: list[Held] = []
        """Arrays, and tensors on the CPU: those that turn out to share memory are laid out together."""
        self.copied: list[Held] = []
        """Arrays inside objects of pandas, which are stored apart."""


class Encoder:
    """One value -> `doc`, and what lies beside it: `weights` (a WeightsPlan or None), `arrays`, `folders`.

    shared: of the bundle. reference: names the user's own classes and functions. used: other values referred to.
    """

    def __init__(self, name: str, shared: Shared, reference: Reference) -> None:
        self.name = name
        self.weights: Any = None
        self.arrays: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.folders: dict[str, Any] = {}
        self.used: set[str] = set()
        self.globals: set[str] = set()
        """Modules that reading needs."""
        self._shared, self._reference = shared, reference
        self._plans: dict[tuple[str, int], tuple[str, Any]] = {}
        self._slots: dict[int, tuple[str, int]] = {}
        self._keep: list[Any] = []
        self._open: set[int] = set()
        self._count = 0
        self._arrays: list[Held] = []
        self._copies: list[Held] = []
        self.anew: list[str] = []
        """Paths of what each worker makes anew."""
        self._copied = 0
        """Inside objects of pandas, which copies on write: what shares memory there is apart to whoever changes it."""

    def encode(self, obj: Any) -> Any:
        """The value's tree. Raises Unencodable; nothing is remembered as shared then."""
        try:
            doc = self.part(obj, "")
        except RecursionError:
            raise Unencodable(obj, "", "it is nested too deeply") from None
        self._shared.slots.update(self._slots)
        self._shared.plans.update(self._plans)
        self._shared.arrays += self._arrays
        self._shared.copied += self._copies
        self._shared.keep += self._keep  # ids stay theirs while these live
        return doc

    def part(self, obj: Any, path: str) -> Any:
        """The tree of something inside the value, at `path`."""
        kind = type(obj)
        if obj is None or kind in (bool, int):
            return obj
        if kind is str:
            return obj if obj.isascii() else forms.text_node(obj)
        if kind is float:
            return obj if math.isfinite(obj) else {"$": "float", "v": repr(obj)}
        if kind is complex:
            return {"$": "complex", "v": [self.part(obj.real, path), self.part(obj.imag, path)]}
        if kind is bytes:
            return {"$": "bytes", "v": base64.b64encode(obj).decode()}
        if (named := self._named(obj, path)) is not None:
            return named
        return self._once(obj, path)

    def _once(self, obj: Any, path: str) -> Any:
        """Things with an identity: the second time they are a reference."""
        if type(obj) in _MUTABLE and (name := self._reference(obj)) is not None:
            return {"$": "global", "v": name}  # a literal of handler.py
        found = self._slots.get(id(obj)) or self._shared.slots.get(id(obj))
        if found is not None:
            if id(obj) in self._open:
                raise Unencodable(obj, path, "it contains itself")
            value, number = found
            if value == self.name:
                return {"$": "ref", "n": number}
            self.used.add(value)
            return {"$": "ref", "of": value, "n": number}
        self._slots[id(obj)] = (self.name, self._count)
        self._keep.append(obj)
        self._count += 1
        writer = _WRITERS.get(type(obj))
        if writer is not None:
            return writer(self, obj, path)
        return self._library(obj, path) or self._form(obj, path) or self._object(obj, path)

    def _form(self, obj: Any, path: str) -> dict[str, Any] | None:
        self._open.add(id(obj))
        found = anew.write(obj, path, self)
        if found is not None:
            self.anew.append(path)
        else:
            found = forms.write(obj, path, self)
        self._open.discard(id(obj))
        return found

    def _named(self, obj: Any, path: str) -> dict[str, Any] | None:
        """Classes, functions and modules, by name."""
        if isinstance(obj, types.ModuleType):
            reference = self._reference(obj)
            self.globals.add(reference or obj.__name__)
            return {"$": "module", "v": reference or obj.__name__}
        if isinstance(obj, _NAMED):
            owner = getattr(obj, "__self__", None)
            if owner is not None and not isinstance(owner, (types.ModuleType, type)):
                return None  # a built-in method
            reference = self._reference(obj) or global_path(obj)
            if reference is None:
                what = "class" if isinstance(obj, type) else "function"
                name = getattr(obj, "__qualname__", repr(obj))
                raise Unencodable(obj, path, f"it is a {what} without a name that can be imported ({name})")
            self.globals.add(reference.partition(":")[0])
            return {"$": "global", "v": reference}
        if isinstance(obj, enum.Enum):
            cls = self.class_path(type(obj), path)
            if type(obj).__members__.get(str(obj.name)) is obj:
                return {"$": "enum", "class": cls, "v": obj.name}
            return {"$": "flag", "class": cls, "v": self.part(obj.value, path)}
        return None

    def class_path(self, cls: type, path: str) -> str:
        """ "module:Class"; raises Unencodable."""
        named = self._named(cls, path)
        assert named is not None
        return str(named["v"])

    def is_own(self, cls: type) -> bool:
        """Is it a class of the notebook?"""
        return self._reference(cls) is not None

    def add_file(self, extension: str, data: bytes) -> str:
        """A file beside the tree; its name."""
        file = f"data/{self.name}.{len(self.files)}.{extension}"
        self.files[file] = data
        return file

    def _items(self, kind: str, obj: Any, path: str) -> dict[str, Any]:
        self._open.add(id(obj))
        items = [self.part(item, f"{path}[{index}]") for index, item in enumerate(obj)]
        self._open.discard(id(obj))
        return {"$": kind, "v": items}

    def _list(self, obj: list[Any], path: str) -> list[Any]:
        return [self.part(item, f"{path}[{index}]") for index, item in enumerate(obj)]

    def _set(self, obj: Any, path: str) -> dict[str, Any]:
        # The order of a set is chance: a fixed one gives equal digests.
        return self._items("set" if type(obj) is set else "frozenset", sorted(obj, key=_order), path)

    def _dict(self, obj: dict[Any, Any], path: str) -> dict[str, Any]:
        ordered = type(obj) is OrderedDict
        if not ordered and all(type(key) is str and not key.startswith("$") for key in obj):
            return {key: self.part(value, _step(path, key)) for key, value in obj.items()}
        return {"$": "odict" if ordered else "dict", "v": self._pairs(obj, path)}

    def _pairs(self, obj: Any, path: str) -> list[list[Any]]:
        return [[self.part(key, f"{path} key"), self.part(value, _step(path, key))] for key, value in obj.items()]

    def _method(self, obj: types.MethodType, path: str) -> dict[str, Any]:
        owner = self.part(obj.__self__, path + ".__self__")
        cls = obj.__self__ if isinstance(obj.__self__, type) else type(obj.__self__)
        if getattr(getattr(cls, obj.__name__, None), "__func__", getattr(cls, obj.__name__, None)) is obj.__func__:
            return {"$": "method", "self": owner, "v": obj.__name__}
        return {"$": "method", "self": owner, "func": self.part(obj.__func__, path + ".__func__")}

    def _partial(self, obj: Any, path: str) -> dict[str, Any]:
        node = {
            "$": "partial",
            "func": self.part(obj.func, path + ".func"),
            "args": [self.part(arg, f"{path}.args[{index}]") for index, arg in enumerate(obj.args)],
            "kwargs": [[key, self.part(arg, f"{path}.{key}")] for key, arg in obj.keywords.items()],
        }
        if state := vars(obj):
            node["state"] = [[key, self.part(value, f"{path}.{key}")] for key, value in state.items()]
        return node

    def _library(self, obj: Any, path: str) -> dict[str, Any] | None:
        """torch, numpy and transformers, where they are loaded: an object cannot be theirs otherwise."""
        torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        if torch is not None:
            if isinstance(obj, torch.Tensor):
                return self._form(obj, path) or self._tensor(obj, path)
            if isinstance(obj, torch.dtype):
                return {"$": "torch.dtype", "v": str(obj).removeprefix("torch.")}
            if isinstance(obj, torch.device):
                return {"$": "torch.device", "v": str(obj)}
        if numpy is not None:
            if type(obj) in (numpy.ndarray, numpy.memmap) and obj.dtype.kind != "O":
                return self._array(obj, path)
            if isinstance(obj, numpy.generic):
                return {"$": "scalar", "dtype": obj.dtype.str, "v": base64.b64encode(obj.tobytes()).decode()}
            if isinstance(obj, numpy.dtype) and obj.kind != "T":
                return {"$": "dtype", "v": forms.descr_of(obj)} | ({"record": True} if obj.type is numpy.record else {})
        if pretrained.is_pretrained(obj):
            return self._pretrained(obj, path)
        return None

    def _tensor(self, obj: Any, path: str) -> dict[str, Any]:
        import torch

        from nbserve.bundle import weights

        if reason := weights.why_not(obj):
            raise Unencodable(obj, path, reason)
        self.globals.add("torch")
        memory = (str(obj.device), obj.untyped_storage().data_ptr() if obj.numel() else 0)
        holder, plan = self._shared.plans.get(memory, ("", None))
        if plan is None:
            plan = self.weights = self.weights or weights.WeightsPlan()
            if memory[1]:
                self._plans[memory] = self.name, plan
        node: dict[str, Any] = plan.add(_key(path), obj)
        if holder:
            plan.lend()
            self.used.add(holder)
            node["in"] = f"weights/{holder}.safetensors"
        node["$"] = "parameter" if isinstance(obj, torch.nn.Parameter) else "tensor"
        if obj.requires_grad and obj.is_leaf:
            node["grad"] = True
        if obj.device.type != "cpu":
            node["device"] = str(obj.device)
        if getattr(obj, "_is_buffer", False):
            node["buffer"] = bool(getattr(obj, "persistent", True))
        if obj.device.type == "cpu":
            self._arrays.append(Held(self.name, obj, node))
        return node

    def _array(self, obj: Any, path: str) -> dict[str, Any]:
        import numpy

        if obj.dtype.hasobject:
            raise Unencodable(obj, path, "it is an array of Python objects; make it numeric, or a list (`.tolist()`)")
        self.globals.add("numpy")
        if path and obj.nbytes <= forms.INLINE_BYTES:
            node = forms.array_node(obj)
        else:
            file = f"data/{self.name}.npy" if not path else f"data/{self.name}.{len(self.arrays)}.npy"
            self.arrays[file] = numpy.asarray(obj)
            node = {"$": "array", "file": file}
        (self._copies if self._copied else self._arrays).append(Held(self.name, obj, node))
        return node

    def _pretrained(self, obj: Any, path: str) -> dict[str, Any]:
        folder = f"data/{self.name}" if not path else f"data/{self.name}.{len(self.folders)}"
        self.folders[folder] = obj
        self.globals.add("transformers")
        node = {"$": "pretrained", "class": self.class_path(type(obj), path), "folder": folder}
        node.update(pretrained.describe(obj, lambda buffer, at: self.part(buffer, f"{path}.{at}")))
        return node

    def _object(self, obj: Any, path: str) -> dict[str, Any]:
        try:
            made: Any = reduced(obj)
        except Exception as exc:
            raise Unencodable(obj, path, f"{_article(obj)} ({_first_line(exc)})") from exc
        if isinstance(made, str):
            if found := home(obj, made):
                self.globals.add(found.partition(":")[0])
                return {"$": "named", "v": found}
            raise Unencodable(obj, path, f"{_article(obj)} that is known by the name {made} only")
        parts: list[Any] = [*made, None, None, None]
        func, args, state, items, pairs = parts[:5]
        if len(made) > 5 and made[5] is not None:
            raise Unencodable(obj, path, f"{_article(obj)} with a way of its own to be restored")
        kwargs: dict[str, Any] = {}
        called: str | None = ""
        if func is copyreg.__newobj_ex__:  # type: ignore[attr-defined]
            cls, args, kwargs = args
        elif func is copyreg.__newobj__:  # type: ignore[attr-defined]
            cls, args = args[0], args[1:]
        elif (called := self._callable(func)) is None:
            raise Unencodable(obj, path, f"{_article(obj)}, which can only be made by a call")
        node = {"$": "call", "v": called} if called else {"$": "object", "class": self.class_path(cls, path)}
        copied = kind_of(obj).startswith("pandas.")
        self._copied += copied
        node = self._filled(node, obj, args, kwargs, state, items, pairs, path)
        self._copied -= copied
        return node

    def _callable(self, func: Any) -> str | None:
        """What may be called to make an object: one of CALLS, or what the notebook wrote in its `__reduce__`."""
        path = global_path(func)
        if may_call(path):
            self.globals.add(str(path).partition(":")[0])
            return path
        return self._reference(func) if isinstance(func, (type, types.FunctionType)) else None

    def _filled(
        self,
        node: dict[str, Any],
        obj: Any,
        args: Any,
        kwargs: dict[str, Any],
        state: Any,
        items: Any,
        pairs: Any,
        path: str,
    ) -> dict[str, Any]:
        self._open.add(id(obj))
        if args:
            node["args"] = [self.part(arg, f"{path}.args[{index}]") for index, arg in enumerate(args)]
        if kwargs:
            node["kwargs"] = [[key, self.part(arg, f"{path}.{key}")] for key, arg in kwargs.items()]
        self._open.discard(id(obj))
        if state is not None:
            self._state(node, obj, state, path)
        if items is not None:
            node["items"] = [self.part(item, f"{path}[{index}]") for index, item in enumerate(items)]
        if pairs is not None:
            node["pairs"] = [
                [self.part(key, f"{path} key"), self.part(value, _step(path, key))] for key, value in pairs
            ]
        return node

    def _state(self, node: dict[str, Any], obj: Any, state: Any, path: str) -> None:
        if type(state) is not dict or not all(type(key) is str for key in state):
            node["other_state"] = self.part(state, path)
            return
        if is_module(obj):
            bare = bare_module()
            state = {key: value for key, value in state.items() if not _is_bare(bare, key, value)}
        node["state"] = {key: self.part(value, f"{path}.{key}") for key, value in state.items()}


_NAMED = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)

_WRITERS: dict[type, Callable[[Encoder, Any, str], Any]] = {
    list: Encoder._list,
    dict: Encoder._dict,
    OrderedDict: Encoder._dict,
    tuple: lambda self, obj, path: self._items("tuple", obj, path),
    set: Encoder._set,
    frozenset: Encoder._set,
    bytearray: lambda self, obj, path: {"$": "bytearray", "v": base64.b64encode(obj).decode()},
    types.MethodType: Encoder._method,
    types.BuiltinMethodType: lambda self, obj, path: {
        "$": "method",
        "self": self.part(obj.__self__, path + ".__self__"),
        "v": obj.__name__,
    },
    functools.partial: Encoder._partial,
}


_MUTABLE = (list, dict, set, bytearray)

_TELLING = ("training", "_parameters", "_buffers", "_modules")


def _is_bare(bare: dict[str, Any], key: str, value: Any) -> bool:
    """Hook tables and the like that are empty, as in every new module."""
    if key not in bare or key in _TELLING:
        return False
    return type(value) is type(bare[key]) and not value and not bare[key]


def _key(path: str) -> str:
    """`.encoder._parameters['weight']` -> encoder.weight, as in a state dict."""
    parts = path.replace("['", ".").replace("']", "").replace("[", ".").replace("]", "").split(".")
    hidden = ("_parameters", "_buffers", "_modules")
    return ".".join(part for part in parts if part and part not in hidden)


def _step(path: str, key: Any) -> str:
    return f"{path}[{key!r}]"


def _order(item: Any) -> tuple[str, str]:
    return type(item).__name__, repr(item)


def _article(obj: Any) -> str:
    name = kind_of(obj)
    return f"it is {'an' if name[:1].lower() in 'aeio' else 'a'} {name}"


def _first_line(exc: BaseException) -> str:
    return (str(exc) or type(exc).__name__).splitlines()[0]
