"""Tensors <-> safetensors files that every worker maps: one page-cache copy however many workers there are.

Called by `structure.py`. Writing keeps what tensors share: tensors that overlap in one storage are stored once, as that
stretch of the storage. Data starts 64-byte aligned, and the bytes depend on nothing but the tensors.

Reading maps the file privately (copy-on-write): a handler may change weights in place, and only the touched pages
become its own; the file and other workers never see it. torch is imported here, so import this module late.
"""

from __future__ import annotations

import ctypes
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import torch

from nbserve.bundle.nearby import nearest
from nbserve.errors import BundleError

__all__ = ["MappedWeights", "WeightsPlan", "dtype_name", "holds", "why_not"]

_DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.float32: "F32",
    torch.int64: "I64",
    torch.uint64: "U64",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
_FROM_NAME = {name: dtype for dtype, name in _DTYPES.items()}
_ALIGN = 64
_CHUNK_BYTES = 64 * 1024 * 1024
_MADV_POPULATE_READ = 22  # Linux 5.14; older kernels answer EINVAL, and pages come with the first batch


def dtype_name(dtype: torch.dtype) -> str:
    """torch.float32 -> "float32"."""
    return str(dtype).removeprefix("torch.")


def why_not(tensor: torch.Tensor) -> str:
    """Why a tensor cannot be written, or "" where it can."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return f"it is a tensor subclass ({type(tensor).__name__})"
    if tensor.is_meta:
        return "it is on the meta device: it has a shape but no data"
    if tensor.layout is not torch.strided:
        return f"its layout is {tensor.layout}"
    if tensor.is_quantized:
        return "it is quantized"
    if tensor.is_conj() or tensor.is_neg():
        return "it is a lazy conjugate or negative; call .resolve_conj().resolve_neg()"
    return ""


class WeightsPlan:
    """Collects the tensors of one value; then gives the file as chunks of bytes, as often as asked."""

    def __init__(self) -> None:
        self._tensors: list[tuple[str, torch.Tensor, dict[str, Any]]] = []
        self._pieces: list[tuple[str, torch.Tensor]] = []
        self._keys: set[str] = set()

    def __len__(self) -> int:
        return len(self._tensors)

    def add(self, key: str, tensor: torch.Tensor) -> dict[str, Any]:
        """The node that stands for this tensor; `finish` fills in its layout."""
        key = self._unique(key)
        node: dict[str, Any] = {"key": key, "dtype": dtype_name(tensor.dtype)}
        self._tensors.append((key, tensor.detach(), node))
        return node

    def lend(self) -> None:
        """Another value has tensors on the same memory: readers keep the mapping for it."""
        for _, _, node in self._tensors:
            node["lent"] = True

    def leave_out(self, nodes: Iterable[dict[str, Any]]) -> None:
        """These are stored elsewhere; `finish` again after it."""
        gone = set(map(id, nodes))
        self._tensors = [entry for entry in self._tensors if id(entry[2]) not in gone]

    def finish(self) -> int:
        """Decide what is stored; returns its size in bytes. Again after more was added."""
        self._pieces = []
        for group in _overlapping(self._tensors):
            self._pieces.append(_store_one(*group[0]) if len(group) == 1 else _store_shared(group))
        # Whole multiples of 64 first: the large ones stay aligned, odd ones cannot push them off.
        self._pieces.sort(key=lambda piece: (piece[1].nbytes % _ALIGN != 0, -piece[1].element_size(), piece[0]))
        return sum(flat.nbytes for _, flat in self._pieces)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The file's bytes: header, then data as it is in memory now."""
        header: dict[str, Any] = {}
        at = 0
        for key, flat in self._pieces:
            header[key] = {
                "dtype": _DTYPES[flat.dtype],
                "shape": list(flat.shape),
                "data_offsets": [at, at + flat.nbytes],
            }
            at += flat.nbytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(len(text) + 8) % _ALIGN)
        yield struct.pack("<Q", len(text)) + text
        for _, flat in self._pieces:
            yield from _bytes_of(flat)

    def _unique(self, key: str) -> str:
        # "__metadata__" is safetensors' own.
        base = key if key and key != "__metadata__" else "tensor"
        key, number = base, 1
        while key in self._keys:
            number += 1
            key = f"{base}~{number}"
        self._keys.add(key)
        return key


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    """First byte and one past the last byte that a tensor uses of its storage."""
    if tensor.numel() == 0:
        return 0, 0
    last = sum(int((size - 1) * stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset()) * tensor.element_size()
    return start, start + (last + 1) * tensor.element_size()


_Entry = tuple[str, torch.Tensor, dict[str, Any]]


def _overlapping(tensors: list[_Entry]) -> Iterator[list[_Entry]]:
    """Groups of tensors that share bytes, in order of first appearance."""
    by_storage: dict[tuple[str, int], list[_Entry]] = {}
    for entry in tensors:
        storage = entry[1].untyped_storage()
        pointer = storage.data_ptr() if entry[1].numel() else -len(by_storage) - 1
        by_storage.setdefault((str(entry[1].device), pointer), []).append(entry)
    for entries in by_storage.values():
        group: list[_Entry] = []
        end = 0
        for entry in sorted(entries, key=lambda one: _extent(one[1])):
            start, stop = _extent(entry[1])
            if group and start >= end:
                yield group
                group = []
            group.append(entry)
            end = max(end, stop) if len(group) > 1 else stop
        if group:
            yield group


def _store_one(key: str, tensor: torch.Tensor, node: dict[str, Any]) -> tuple[str, torch.Tensor]:
    start, stop = _extent(tensor)
    if tensor.is_contiguous():
        pass
    elif stop - start == tensor.nbytes:  # dense in another order, such as channels_last: kept
        node["shape"], node["stride"] = list(tensor.shape), list(tensor.stride())
        tensor = tensor.as_strided((tensor.numel(),), (1,))
    else:
        tensor = tensor.contiguous()
    if tensor.dtype not in _DTYPES:
        node["shape"] = list(node.get("shape", tensor.shape))
        tensor = tensor.reshape(-1).view(torch.uint8)
    return key, tensor


def _store_shared(group: list[_Entry]) -> tuple[str, torch.Tensor]:
    """Tensors over one stretch of a storage: stored once (as bytes where dtypes differ), each node says its part."""
    first = group[0][1]
    start = min(_extent(tensor)[0] for _, tensor, _ in group) // 16 * 16
    stop = max(_extent(tensor)[1] for _, tensor, _ in group)
    dtype = first.dtype
    if any(tensor.dtype != dtype for _, tensor, _ in group) or dtype not in _DTYPES:
        dtype = torch.uint8
        stop = min(-(-stop // 16) * 16, first.untyped_storage().nbytes())
    flat = torch.empty(0, dtype=dtype, device=first.device)
    flat.set_(first.untyped_storage(), start // dtype.itemsize, ((stop - start) // dtype.itemsize,), (1,))
    key = group[0][0]
    for _, tensor, node in group:
        node.update(
            key=key,
            shape=list(tensor.shape),
            stride=list(tensor.stride()),
            offset=tensor.storage_offset() - start // tensor.element_size(),
        )
    return key, flat


def _bytes_of(flat: torch.Tensor) -> Iterator[memoryview]:
    raw = flat.contiguous().reshape(-1).view(torch.uint8) if flat.numel() else None
    if raw is None:
        return
    for at in range(0, raw.numel(), _CHUNK_BYTES):
        piece = raw[at : at + _CHUNK_BYTES].cpu()
        yield piece.numpy().data


def holds(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None) -> bool:
    """Is the file one of these tensors, bit for bit, and of this metadata? False where it is not there, or no such."""
    try:
        mapped = MappedWeights(path)
        if mapped.keys() != tensors.keys() or mapped.metadata != (metadata or {}):
            return False
        return all(_same_bits(mapped.base(key), tensor) for key, tensor in tensors.items())
    except (OSError, BundleError, KeyError, ValueError):  # of a dtype that is not ours, or no such file
        return False


def _same_bits(there: torch.Tensor, given: torch.Tensor) -> bool:
    if given.device.type != "cpu" or there.dtype != given.dtype or there.shape != given.shape:
        return False
    flat = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (there, given))
    return torch.equal(*flat)


class MappedWeights:
    """A weights file, mapped privately. Raises BundleError where it is not one. The mapping lives as its tensors do."""

    def __init__(self, path: Path, device: str | None = None) -> None:
        self._path, self._device = path, device
        path = nearest(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            (header_bytes,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
            if not 0 < header_bytes <= size - 8:
                raise BundleError(f"{path.name} is no safetensors file", hint="capture it again")
            self._header: dict[str, Any] = json.loads(file.read(header_bytes))
        self._start, self._size = 8 + header_bytes, size
        self._storage: Any = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=size)
        self._copies: dict[str, Any] = {}
        _populate(self._storage.data_ptr(), size)

    def keys(self) -> Set[str]:
        """Names of what is stored."""
        return self._header.keys() - {"__metadata__"}

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        found: dict[str, str] = self._header.get("__metadata__", {})
        return found

    def base(self, key: str) -> torch.Tensor:
        """What is stored under a key, as it stands in the file."""
        dtype, shape, _, _ = self._place(key)
        return self._at(key, dtype, shape, None, 0)

    def tensor(self, node: dict[str, Any]) -> torch.Tensor:
        """A node made by `WeightsPlan.add` -> its tensor, with its strides, on the memory it shared with others."""
        _, shape, _, _ = self._place(node["key"])
        dtype: torch.dtype = getattr(torch, node["dtype"])
        shape = node.get("shape", shape)
        found = self._at(node["key"], dtype, shape, node.get("stride"), node.get("offset", 0))
        return found.to(self._device) if "device" in node and self._device else found

    def _place(self, key: str) -> tuple[torch.dtype, list[int], int, int]:
        try:
            info = self._header[key]
        except KeyError:
            raise BundleError(f"{self._path.name} has no tensor {key!r}", hint="capture it again") from None
        begin, end = (self._start + offset for offset in info["data_offsets"])
        if end > self._size:
            raise BundleError(f"{self._path.name} is cut short", hint="capture it again")
        return _FROM_NAME[info["dtype"]], info["shape"], begin, end

    def _at(
        self, key: str, dtype: torch.dtype, shape: list[int], stride: list[int] | None, offset: int
    ) -> torch.Tensor:
        """A tensor of its own on the mapped storage. Not a view of another tensor: views share a version counter, and
        a batch norm that counts up in training would spoil the gradients of every other weight."""
        _, _, begin, end = self._place(key)
        storage = self._storage
        if begin % dtype.itemsize:  # files written by others may be unaligned
            if key not in self._copies:
                raw = torch.empty(0, dtype=torch.uint8).set_(storage, begin, (end - begin,), (1,))
                self._copies[key] = raw.clone().untyped_storage()
            storage, begin = self._copies[key], 0
        tensor = torch.empty(shape, dtype=dtype, device="meta")
        steps = stride if stride is not None else tensor.stride()
        try:
            return torch.empty(0, dtype=dtype).set_(storage, begin // dtype.itemsize + offset, shape, steps)
        except RuntimeError as exc:
            raise BundleError(f"{self._path.name}: {key} does not fit: {exc}", hint="capture it again") from exc


def _populate(address: int, size: int) -> None:
    """Read the pages in now, so that the first batch does not pay for it."""
    libc = ctypes.CDLL(None)
    libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_int(_MADV_POPULATE_READ))
