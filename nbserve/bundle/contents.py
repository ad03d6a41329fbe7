"""What tensors, arrays, modules and pretrained objects are, for `fingerprint.py`: text, digest, memory, parts. Pure.

torch and numpy are looked at only where they are loaded: an object cannot be theirs otherwise.
"""

from __future__ import annotations

import contextvars
import ctypes
import hashlib
import math
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from nbserve.bundle import exported, pretrained

__all__ = ["Extent", "Look", "address_of", "describe", "digest", "has_memory", "overlapping", "tensor_extent"]

WHOLE_BYTES = 64 * 1024
"""Tensors and arrays up to this size are read whole."""
PICKED = 2048
"""Of larger ones so many elements, evenly spaced: which file they were read from is known, and so is its digest; what
is looked for is another tensor in their place, another offset, another order."""


class Extent(NamedTuple):
    """Bytes of memory, from `start` to before `stop`."""

    start: int
    stop: int


class Look(NamedTuple):
    """One thing. parts: what is in it, by the step to it. memory: the device in whose memory its extent lies."""

    what: str
    digest: str = ""
    extent: Extent | None = None
    parts: Sequence[tuple[str, Any]] = ()
    memory: str = "cpu"


def digest(data: Any) -> str:
    """16 digits, of bytes or a buffer."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def address_of(data: bytearray) -> int:
    """Where its bytes lie, which arrays may have for theirs; it must not be empty."""
    return ctypes.addressof(ctypes.c_char.from_buffer(data))


def has_memory(obj: Any) -> bool:
    """Is it a tensor or an array?"""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    return (torch is not None and isinstance(obj, torch.Tensor)) or (
        numpy is not None and isinstance(obj, numpy.ndarray)
    )


def describe(obj: Any, name: str, *, by_address: bool = False) -> Look | None:
    """None for what is nobody's. name: of its type. by_address: large tensors by where they lie, not by content."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None:
        if isinstance(obj, torch.Tensor):
            return _tensor(torch, obj, name, by_address=by_address)
        if isinstance(obj, (torch.dtype, torch.Size)):
            return Look(str(obj))
        if isinstance(obj, torch.device):
            return Look("torch.device")
        if isinstance(obj, torch.Generator):
            return Look("generator", digest(obj.get_state().numpy().tobytes()))
        if isinstance(obj, torch.jit.ScriptModule):
            return Look(
                "script", parts=[(f".{key}", value.data) for key, value in obj.state_dict(keep_vars=True).items()]
            )
    if exported.is_program(obj):
        parts = [*obj.state_dict.items(), *obj.constants.items()]
        code = digest(obj.graph_module.code.encode())
        return Look(name, code, parts=[(f".{key}", value) for key, value in parts])
    if pretrained.is_pretrained(obj):
        return _pretrained(obj, name)
    if torch is not None and isinstance(obj, torch.nn.Module) and _is_plain(type(obj), torch.nn.Module):
        return Look(name, parts=list(_module_parts(obj)))
    if numpy is not None:
        if type(obj) in (numpy.ndarray, numpy.memmap):
            return _array(numpy, obj)
        if isinstance(obj, numpy.ma.MaskedArray):
            mask = numpy.ma.getmaskarray(obj)
            return Look(name, parts=[(".data", obj.data.copy()), (".mask", mask), (".fill_value", obj.fill_value)])
        if isinstance(obj, (numpy.generic, numpy.dtype)):
            return Look(repr(obj)[:80], digest(repr(obj).encode()))
    regex = sys.modules.get("regex")
    if regex is not None and isinstance(obj, regex.Pattern):  # how it was compiled depends on what was before it
        lists = sorted((key, sorted(map(repr, words))) for key, words in obj.named_lists.items())
        return Look(name, digest(repr((obj.pattern, obj.flags, lists)).encode(errors="surrogatepass")))
    return _of_process(obj, name)


def _of_process(obj: Any, name: str) -> Look | None:
    """What workers make anew (`anew.py`): how it was made, not the threads and contexts that it has by now."""
    if isinstance(obj, ThreadPoolExecutor):
        parts = [(".initializer", getattr(obj, "_initializer", None)), (".initargs", getattr(obj, "_initargs", ()))]
        return Look(f"{name} of {obj._max_workers}", parts=parts)
    if isinstance(obj, threading.local):
        return Look(name, parts=[(f".{key}", value) for key, value in vars(obj).items()])
    if isinstance(obj, contextvars.ContextVar):
        return Look(f"{name} {obj.name}")
    return None


def overlapping(found: Sequence[tuple[str, Extent]]) -> Iterator[list[tuple[str, Extent]]]:
    """Groups that share bytes, each in the order in which they were found."""
    order = {path: index for index, (path, _) in enumerate(found)}
    group: list[tuple[str, Extent]] = []
    end = 0
    for path, extent in sorted(found, key=lambda one: one[1]):
        if extent.start == extent.stop:
            continue
        if group and extent.start >= end:
            if len(group) > 1:
                yield sorted(group, key=lambda one: order[one[0]])
            group = []
        group.append((path, extent))
        end = max(end, extent.stop) if len(group) > 1 else extent.stop
    if len(group) > 1:
        yield sorted(group, key=lambda one: order[one[0]])


# --- torch


def _tensor(torch: Any, obj: Any, name: str, *, by_address: bool) -> Look:
    own = type(obj) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
    kind = name if own else type(obj).__name__.lower()
    if getattr(obj, "_is_buffer", False):
        kind = "buffer"
    what = f"{kind} {str(obj.dtype).removeprefix('torch.')} {list(obj.shape)}"
    if obj.requires_grad and obj.is_leaf:  # what was computed loses its history
        what += ", requires grad"
    state = [(f".{key}", value) for key, value in vars(obj).items()] if own else []
    if obj.is_meta:
        return Look(f"{what} on meta", parts=state)
    if obj.is_quantized:
        return Look(what, parts=[(".int_repr()", obj.int_repr()), *state])
    if obj.layout is not torch.strided:
        dense = obj.detach().to_dense()
        return Look(f"{what}, {str(obj.layout).removeprefix('torch.')}", _tensor_digest(torch, dense), parts=state)
    plain = obj.detach()
    plain = plain.as_subclass(torch.Tensor) if own else plain
    steps = _order(list(plain.shape), list(plain.stride()))
    if steps:
        what += f", strides {steps}"
    extent, memory = tensor_extent(plain), str(plain.device)
    if by_address and plain.nbytes > WHOLE_BYTES:
        return Look(what, hex(plain.data_ptr()), extent, state, memory)
    return Look(what, _tensor_digest(torch, plain), extent, state, memory)


def _order(shape: list[int], strides: list[int]) -> str:
    """Strides where the elements lie densely but in another order than usual; "" else.

    A view that leaves gaps is laid out anew where it has its memory for itself.
    """
    kept = [(stride, size) for size, stride in zip(shape, strides, strict=True) if size != 1]
    if not kept or 0 in shape:
        return ""
    expected, dense = 1, True
    for stride, size in sorted(kept):
        dense = dense and stride == expected
        expected *= size
    usual = [stride for stride, _ in kept] == [stride for stride, _ in sorted(kept, reverse=True)]
    return str([stride for stride, _ in kept]) if dense and not usual else ""


def tensor_extent(tensor: Any) -> Extent | None:
    """The bytes of its device's memory that it lies in; None for an empty one."""
    if not tensor.numel():
        return None
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return Extent(start, start + (last + 1) * tensor.element_size())


def _tensor_digest(torch: Any, tensor: Any) -> str:
    with torch.no_grad():
        if tensor.nbytes > WHOLE_BYTES:
            flat = torch.arange(PICKED, device=tensor.device) * tensor.numel() // PICKED
            tensor = tensor[_places(flat, tensor.shape)]
        if not tensor.numel():
            return ""
        if tensor.is_conj() or tensor.is_neg():
            tensor = tensor.resolve_conj().resolve_neg()
        return digest(tensor.contiguous().reshape(-1).view(torch.uint8).cpu().numpy().data)


def _places(flat: Any, shape: Sequence[int]) -> tuple[Any, ...]:
    """As torch.unravel_index, which imports sympy for it: 0.3 s of the first cell."""
    places = []
    for size in reversed(shape):
        places.append(flat % size)
        flat = flat // size
    return tuple(reversed(places))


_MEMBERS = ("_parameters", "_buffers", "_modules")
_OF_RELEASES = (
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
)
"""Hooks that torch's own layers have for state dicts of older releases."""


def _is_plain(cls: type, module: type) -> bool:
    """Is it copied by its `__dict__`, as modules are?"""
    return all(getattr(cls, key) is getattr(module, key) for key in ("__reduce_ex__", "__reduce__", "__getstate__"))


def _module_parts(module: Any) -> Iterator[tuple[str, Any]]:
    for key, value in vars(module).items():
        if key in _MEMBERS:
            for name, part in value.items():
                yield f"[{name}]" if name.isdigit() else f".{name}", part
        elif key not in _OF_RELEASES and not (key.startswith("_") and isinstance(value, dict) and not value):
            yield f".{key}", value


def _is_atom(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _pretrained(obj: Any, name: str) -> Look:
    """What save_pretrained promises to keep, and what else was set on it: plain attributes, the types of others."""
    if not hasattr(obj, "named_parameters"):
        vocabulary = sorted(obj.get_vocab().items()) if hasattr(obj, "get_vocab") else []
        return Look(name, digest(repr(vocabulary).encode(errors="surrogatepass")))
    parts = [(f".{key}", value) for key, value in obj.named_parameters(remove_duplicate=False)]
    parts += [(f".{key}", value) for key, value in obj.named_buffers(remove_duplicate=False)]
    parts += [(f".{key}", value if _is_atom(value) else type(value)) for key, value in pretrained.attributes(obj)]
    parts += [(f".{key}.training".replace("..", "."), module.training) for key, module in obj.named_modules()]
    return Look(name, parts=parts)


# --- numpy


def _array(numpy: Any, obj: Any) -> Look:
    order = ", column-major" if obj.flags.f_contiguous and not obj.flags.c_contiguous else ""
    described = obj.dtype.descr if obj.dtype.names else obj.dtype.str
    what = f"array {described} {list(obj.shape)}{order}"
    if obj.dtype.hasobject:
        return Look(what, parts=[(".flat", obj.ravel().tolist())])
    low, high = numpy.lib.array_utils.byte_bounds(obj)
    if obj.nbytes > WHOLE_BYTES:
        places = [index * obj.size // PICKED for index in range(PICKED)]
        data = obj[numpy.unravel_index(places, obj.shape)].tobytes()
    else:
        data = obj.tobytes()
    return Look(what, digest(data), Extent(low, high) if math.prod(obj.shape) else None)
