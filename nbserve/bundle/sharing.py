"""Arrays over the same memory: stored once, each read back as its view of it, as `weights.py` does for tensors.

Called by capture when all values are encoded; `read_view` by `decoder.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from nbserve.bundle import forms
from nbserve.bundle.contents import Extent, overlapping

__all__ = ["Held", "Stretch", "array_extent", "lay_out", "read_view"]

_ALIGN_BYTES = 16


class Held(NamedTuple):
    """An array of a value, and its node in the tree of that value."""

    value: str
    array: Any
    node: dict[str, Any]


class Stretch(NamedTuple):
    """Memory that several arrays lie in. file: of the bundle. users: the values that have these arrays."""

    file: str
    chunks: Callable[[], Iterator[memoryview]]
    users: list[str]
    left: list[str]
    """Files that the arrays had for themselves."""


def array_extent(array: Any) -> Extent | None:
    """The bytes that it lies in; None for an empty one."""
    import numpy

    return Extent(*numpy.lib.array_utils.byte_bounds(array)) if array.size else None


def lay_out(found: Sequence[Held]) -> list[Stretch]:
    """Where several arrays share memory, their nodes become views of a stretch; what to write for these."""
    extents = [(str(index), extent) for index, held in enumerate(found) if (extent := array_extent(held.array))]
    groups = sorted([int(index) for index, _ in group] for group in overlapping(extents))
    return [_stretch([found[index] for index in group], number) for number, group in enumerate(groups)]


def _stretch(group: list[Held], number: int) -> Stretch:
    extents = [extent for held in group if (extent := array_extent(held.array))]
    low, stop = min(extent.start for extent in extents), max(extent.stop for extent in extents)
    start = low // _ALIGN_BYTES * _ALIGN_BYTES
    file = f"data/{group[0].value}.shared-{number}.bin"
    left = [held.node["file"] for held in group if "file" in held.node]
    for held in group:
        array = held.array
        held.node.clear()
        held.node.update(
            {
                "$": "array",
                "in": file,
                "dtype": forms.descr_of(array.dtype),
                "shape": list(array.shape),
                "strides": list(array.strides),
                "offset": array.__array_interface__["data"][0] - start,
            }
        )
    keep = [held.array for held in group]

    def chunks() -> Iterator[memoryview]:
        assert keep  # the memory is theirs
        yield memoryview(bytes(low - start))
        yield memoryview((ctypes.c_ubyte * (stop - low)).from_address(low)).cast("B")

    return Stretch(file, chunks, sorted({held.value for held in group}), left)


def read_view(stretch: Any, doc: dict[str, Any]) -> Any:
    """The array. stretch: its memory, an array of bytes that may be written."""
    import numpy

    dtype = forms.dtype_of(doc["dtype"])
    return numpy.ndarray(doc["shape"], dtype, stretch, doc["offset"], doc["strides"])
