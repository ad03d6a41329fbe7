"""Memory that several arrays lie in, or arrays and tensors: stored once, each read back as its view of it.

Called by capture when all values are encoded; `read_array` and `read_tensor` by `decoder.py`. Tensors that share a
storage with tensors only stay with `weights.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from nbserve.bundle import forms
from nbserve.bundle.contents import Extent, overlapping, tensor_extent

__all__ = ["Held", "Stretch", "is_stretch", "lay_out", "read_array", "read_tensor", "taken_apart"]

_ALIGN_BYTES = 64


class Held(NamedTuple):
    """An array, or a tensor on the CPU, of a value, and its node in the tree of that value."""

    value: str
    array: Any
    node: dict[str, Any]

    @property
    def is_tensor(self) -> bool:
        """Of torch, not of numpy."""
        return hasattr(self.array, "untyped_storage")

    @property
    def extent(self) -> Extent | None:
        """The bytes that it lies in; None for an empty one."""
        return tensor_extent(self.array) if self.is_tensor else _array_extent(self.array)

    @property
    def address(self) -> int:
        """Of its first element."""
        return int(self.array.data_ptr() if self.is_tensor else self.array.__array_interface__["data"][0])


class Stretch(NamedTuple):
    """Memory that several arrays lie in. file: of the bundle. users: the values that have these arrays."""

    file: str
    chunks: Callable[[], Iterator[memoryview]]
    users: list[str]
    left: list[str]
    """Files that the arrays had for themselves."""
    taken: list[dict[str, Any]]
    """Nodes of tensors, which no weights file needs to hold now."""


def _array_extent(array: Any) -> Extent | None:
    import numpy

    return Extent(*numpy.lib.array_utils.byte_bounds(array)) if array.size else None


def is_stretch(file: str) -> bool:
    """Is it a file of memory that is shared, and no weights file?"""
    return file.endswith(".bin")


def lay_out(found: Sequence[Held]) -> list[Stretch]:
    """Where several share memory, their nodes become views of a stretch; what to write for these."""
    extents = [(str(index), extent) for index, held in enumerate(found) if (extent := held.extent) is not None]
    groups = sorted([int(index) for index, _ in group] for group in overlapping(extents))
    shared = [group for group in ([found[index] for index in group] for group in groups) if not _is_of_one(group)]
    return [_stretch(group, number) for number, group in enumerate(shared)]


def taken_apart(found: Sequence[Held], copied: Sequence[Held]) -> list[tuple[str, str]]:
    """(value of an array that can be written to, value of pandas over the same memory): two in workers, one here."""
    every = [held for held in found if held.is_tensor or held.array.flags.writeable] + list(copied)
    extents = [(str(index), extent) for index, held in enumerate(every) if (extent := held.extent) is not None]
    first = len(every) - len(copied)
    pairs = set()
    for group in overlapping(extents):
        places = [int(index) for index, _ in group]
        ours, theirs = [at for at in places if at < first], [at for at in places if at >= first]
        pairs |= {(every[one].value, every[other].value) for one in ours for other in theirs}
    return sorted(pairs)


def _is_of_one(group: list[Held]) -> bool:
    """Are these tensors of one storage, which a weights file keeps as such?"""
    if not all(held.is_tensor for held in group):
        return False
    return len({held.array.untyped_storage().data_ptr() for held in group}) == 1


def _stretch(group: list[Held], number: int) -> Stretch:
    extents = [extent for held in group if (extent := held.extent) is not None]
    low, stop = min(extent.start for extent in extents), max(extent.stop for extent in extents)
    start = low // _ALIGN_BYTES * _ALIGN_BYTES
    file = f"data/{group[0].value}.shared-{number}.bin"
    left = [held.node["file"] for held in group if "file" in held.node]
    for held in group:
        if not held.is_tensor:
            held.node.clear()
        view = _tensor_view(held.array) if held.is_tensor else _array_view(held.array)
        held.node.update(view, offset=held.address - start, **{"in": file})
    keep = [held.array for held in group]

    def chunks() -> Iterator[memoryview]:
        assert keep  # the memory is theirs
        yield memoryview(bytes(low - start))
        yield memoryview((ctypes.c_ubyte * (stop - low)).from_address(low)).cast("B")

    users = sorted({held.value for held in group})
    return Stretch(file, chunks, users, left, [held.node for held in group if held.is_tensor])


def _array_view(array: Any) -> dict[str, Any]:
    dtype = forms.descr_of(array.dtype)
    return {"$": "array", "dtype": dtype, "shape": list(array.shape), "strides": list(array.strides)}


def _tensor_view(tensor: Any) -> dict[str, Any]:
    """Into a node that says the rest of it: what kind of tensor, which dtype."""
    return {"shape": list(tensor.shape), "stride": list(tensor.stride())}


def read_array(stretch: Any, doc: dict[str, Any]) -> Any:
    """The array. stretch: its memory, an array of bytes that may be written."""
    import numpy

    dtype = forms.dtype_of(doc["dtype"])
    return numpy.ndarray(doc["shape"], dtype, stretch, doc["offset"], doc["strides"])


def read_tensor(stretch: Any, doc: dict[str, Any]) -> Any:
    """The tensor, over the memory that arrays have."""
    import torch

    # From its own first byte on: that need not be a multiple of its element's size.
    storage = torch.from_numpy(stretch[doc["offset"] :]).untyped_storage()
    return torch.empty(0, dtype=getattr(torch, doc["dtype"])).set_(storage, 0, doc["shape"], doc["stride"])
