"""Values -> files: as structure where that is possible, else as a live-only pickle, else refused with the chain.

Called by `walk.py`, once for each global that holds data. Holds the live objects until `Captured.write` asks for bytes.
"""

from __future__ import annotations

import io
import json
import logging
import types
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nbserve.bundle import pickles, pretrained, sharing
from nbserve.bundle.digests import Earlier
from nbserve.bundle.encoder import Encoder, Reference, Shared, Unencodable
from nbserve.bundle.folder import Content
from nbserve.bundle.manifest import ValueRecord
from nbserve.bundle.structure import kind_of
from nbserve.capture.refusals import refusal
from nbserve.errors import CaptureError

__all__ = ["Saved", "Saver"]

Chain = tuple[str, ...]


class Saved(NamedTuple):
    """One value. needs: globals that must stand before it. modules: what reading it imports."""

    bytes: int
    needs: set[str]
    modules: set[str]
    live_only: bool = False
    note: str = ""


class Saver:
    """The values of one bundle. After `save`: `records` for the manifest, `content` for the folder."""

    def __init__(self, reference: Reference) -> None:
        self.records: dict[str, ValueRecord] = {}
        self.content = Content({}, {})
        self.objects: dict[str, Any] = {}
        self._reference = reference
        self._shared = Shared()
        self._docs: dict[str, Any] = {}
        self._plans: dict[str, Any] = {}

    def holds(self, obj: Any) -> bool:
        """Is this very object part of a value already?"""
        return id(obj) in self._shared.slots

    def taken_apart(self) -> list[tuple[str, str]]:
        """Values that share memory here and will not in workers: an array, and what pandas has over it."""
        return sharing.taken_apart(self._shared.arrays, self._shared.copied)

    def loggers(self) -> set[str]:
        """Names of the loggers in all values."""
        return {obj.name for obj in self._shared.keep if isinstance(obj, logging.Logger)}

    def save(self, name: str, obj: Any, chain: Chain, where: Callable[[str], str]) -> Saved:
        """Decide how a value is written. where: name -> cell. Raises CaptureError naming chain, cell and mend."""
        encoder = Encoder(name, self._shared, self._reference)
        try:
            doc = encoder.encode(obj)
        except Unencodable as why:
            saved = self._pickle(name, obj, chain, why, where)
        else:
            saved = self._structure(name, obj, doc, encoder)
        self.objects[name] = obj
        return saved

    def tree(self, file: str, max_bytes: int) -> Any:
        """The tree of a value that is written as structure to this file; None for others and for larger ones."""
        return self._docs.get(file) if sum(map(len, self.content.files[file]())) <= max_bytes else None

    def close(self) -> None:
        """All is saved: values that share memory are laid out together. Then `content` may be read."""
        stretches = sharing.lay_out(self._shared.arrays)
        for stretch in stretches:
            self.content.files[stretch.file] = stretch.chunks
            for user in stretch.users:
                self._change_files(user, stretch.left, [stretch.file])
        taken = [node for stretch in stretches for node in stretch.taken]
        for name, plan in self._plans.items():
            plan.leave_out(taken)
            plan.finish()
            if not len(plan):
                self._change_files(name, [f"weights/{name}.safetensors"], [])
        if self._plans or stretches:
            self.content.files.update({file: _fixed(_text(doc)) for file, doc in self._docs.items()})

    def _change_files(self, name: str, gone: Collection[str], new: list[str]) -> None:
        record = self.records[name]
        files = [*(file for file in record.files if file not in gone), *new]
        self.records[name] = msgspec.structs.replace(record, files=files)

    def _structure(self, name: str, obj: Any, doc: Any, encoder: Encoder) -> Saved:
        size = sum(array.nbytes for array in encoder.arrays.values())
        files = [f"data/{name}.json"]
        if encoder.weights is not None:
            size += encoder.weights.finish()
            self._plans[name] = encoder.weights
            files.append(f"weights/{name}.safetensors")
            self.content.files[files[-1]] = encoder.weights.chunks
        text = _text(doc)
        self.content.files[files[0]] = _fixed(text)
        self._docs[files[0]] = doc
        for file, array in encoder.arrays.items():
            files.append(file)
            self.content.files[file] = _array_chunks(array)
        for file, data in encoder.files.items():
            files.append(file)
            size += len(data)
            self.content.files[file] = _fixed(data)
        for folder, item in encoder.folders.items():
            files.append(folder)
            self.content.folders[folder] = _folder_saver(item)
            if hasattr(item, "parameters"):
                size += sum(each.nbytes for each in item.parameters())
        self.records[name] = ValueRecord("structure", kind_of(obj), files)
        note = kind_of(obj) + _made_anew(kind_of(obj), encoder.anew)
        return Saved(size or len(text), set(encoder.used), set(encoder.globals), note=note)

    def _pickle(self, name: str, obj: Any, chain: Chain, why: Unencodable, where: Callable[[str], str]) -> Saved:
        place = where(chain[-1]) or where(name)
        refused = refusal(why.obj, (*chain, why.path) if why.path else chain, why.reason, place, why.mend)
        if why.refuse:
            raise refused
        try:
            data, weights, modules = pickles.dump(obj, self._reference)
        except CaptureError:
            raise
        except Exception:
            if why.mend:
                raise refused from None
            path, culprit = _culprit(obj, self._reference)
            reason = why.reason if culprit is why.obj else _what(culprit)
            raise refusal(culprit, (*chain, *path), reason, place) from None
        if "__main__" in modules:
            raise refusal(obj, chain, "it was wrapped after its definition, which its source does not show", place)
        files = [f"data/{name}.pickle"]
        self.content.files[files[0]] = lambda: iter((data,))
        size = len(data)
        if weights is not None:
            files.append(f"weights/{name}.safetensors")
            self.content.files[files[-1]] = weights.chunks
            size += sum(len(chunk) for chunk in weights.chunks())
        self.records[name] = ValueRecord("pickle", kind_of(obj), files)
        inside = f" at {name}{why.path}" if why.path else ""
        return Saved(size, set(), modules, live_only=True, note=f"{why.reason}{inside}")


def _text(doc: Any) -> bytes:
    return json.dumps(doc, indent=1 if len(str(doc)) < 100_000 else None).encode() + b"\n"


def _made_anew(kind: str, paths: list[str]) -> str:
    """What of a value is of one process: "; made anew in each worker: .lock, .pool"."""
    if paths and kind.startswith(("threading.", "queue.")):
        return "; its lock is made anew in each worker"
    inside = ", ".join(dict.fromkeys(filter(None, paths)))
    return f"; made anew in each worker{f': {inside}' if inside else ''}" if paths else ""


def _what(obj: Any) -> str:
    name = kind_of(obj)
    return f"it is {'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _array_chunks(array: Any) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        import numpy

        buffer = io.BytesIO()
        numpy.lib.format.write_array(buffer, array, allow_pickle=False)
        yield buffer.getvalue()

    return chunks


def _fixed(data: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter((data,))


def _folder_saver(obj: Any) -> Callable[[Path, Earlier], None]:
    return lambda folder, earlier: pretrained.save(obj, folder, earlier)


def _culprit(obj: Any, reference: Reference) -> tuple[tuple[str, ...], Any]:
    """The innermost part that cannot be pickled, and the steps to it."""
    path: list[str] = []
    seen: set[int] = set()
    while id(obj) not in seen:
        seen.add(id(obj))
        for step, child in _children(obj):
            if not _picklable(child, reference):
                path.append(step)
                obj = child
                break
    return tuple(path), obj


def _picklable(obj: Any, reference: Reference) -> bool:
    try:
        pickles.dump(obj, reference)
    except CaptureError:
        raise
    except Exception:
        return False
    return True


def _children(obj: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(obj, dict):
        yield from ((f"[{key!r}]", value) for key, value in obj.items())
    elif isinstance(obj, (list, tuple, set, frozenset)):
        yield from ((f"[{index}]", value) for index, value in enumerate(obj))
    elif isinstance(obj, types.FunctionType):
        for name, cell in zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=True):
            yield name, cell.cell_contents
        yield from ((name, obj.__globals__[name]) for name in obj.__code__.co_names if name in obj.__globals__)
    elif not isinstance(obj, (type, types.ModuleType)):
        yield from ((f".{key}", value) for key, value in getattr(obj, "__dict__", {}).items())
