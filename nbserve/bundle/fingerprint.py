"""What values are, as text and digests by path: equal for a value and for its copy in another process. Pure.

Capture takes it of the live objects, the first worker of a new version of what it rebuilt (`worker/session.py`), and
`differences` names the first attribute that is not the same. Its walk shares nothing with `encoder.py` and
`decoder.py`, whose mistakes it is there to find. What an object is made of is told by its `__reduce_ex__`, as for
pickle and copy; a device does not count, nor do strides of views that have their memory for themselves.
"""

from __future__ import annotations

import enum
import functools
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from nbserve.bundle import contents
from nbserve.bundle.structure import reduced

__all__ = ["NAMED", "Entry", "Fingerprint", "differences", "fingerprint", "is_own", "names_of"]

FOLDED_ITEMS = 1000
"""Larger containers, and those of plain values, are one entry with one digest: paths end there."""
MAX_ENTRIES = 50_000
"""The walk ends there: some 100 ms and 3 MB of JSON."""
MAX_DEPTH = 100
"""Deeper things are not looked at: three frames of Python's thousand each."""

NAMED = (type, types.FunctionType, types.BuiltinFunctionType, functools._lru_cache_wrapper)
"""What is known by its name, not by what is in it."""
_ATOMS = (type(None), bool, int, float, complex, str, bytes)
_SHOWN_CHARS = 40
_HANDLER = "nbserve_handler_"
"""How the modules begin as which workers import handler.py."""


class Entry(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One thing. what: for people. digest: of its content. same: which earlier one it is, or shares memory with."""

    what: str
    digest: str = ""
    same: str = ""


class Fingerprint(msgspec.Struct, frozen=True):
    """values: names of what was looked at, globals of handler.py. entries: by path, "model.layers[0].weight".
    made_with: versions of Python and of the libraries whose objects are in it.
    """

    values: list[str] = []
    entries: dict[str, Entry] = {}
    made_with: dict[str, str] = {}


def fingerprint(values: Mapping[str, Any], names: Mapping[int, str], *, by_address: bool = False) -> Fingerprint:
    """Of all these values together. names: what handler.py calls the notebook's classes and functions, by id.

    by_address: large tensors by where they lie, for who compares within one process.
    """
    walk = _Walk(names, by_address)
    for name in sorted(values):
        walk.value(values[name], name, 0)
    walk.close()
    return Fingerprint(sorted(values), walk.entries, walk.versions())


def names_of(namespace: Mapping[str, Any]) -> dict[int, str]:
    """Classes and functions of handler.py by id; the first of several names in the order of the alphabet."""
    found: dict[int, str] = {}
    for name in sorted(namespace, reverse=True):
        if isinstance(namespace[name], NAMED):
            found[id(namespace[name])] = name
    return found


def differences(here: Fingerprint, there: Fingerprint, *, most: int = 3) -> list[tuple[str, str]]:
    """(path, what is different), the first ones. here: the notebook. there: the worker."""
    found: list[tuple[str, str]] = []
    for path in dict.fromkeys([*here.entries, *there.entries]):
        before, after = here.entries.get(path), there.entries.get(path)
        if before == after or any(_is_below(path, other) for other, _ in found):
            continue
        found.append((path, _difference(before, after)))
        if len(found) == most:
            break
    return found


def _is_below(path: str, other: str) -> bool:
    return path.startswith(other) and path[len(other) : len(other) + 1] in (".", "[")


def _difference(here: Entry | None, there: Entry | None) -> str:
    if here is None:
        assert there is not None
        return f"{there.what} in the worker, not there in the notebook"
    if there is None:
        return f"{here.what} in the notebook, missing in the worker"
    if here.same != there.same:
        return f"{_said_same(here)} in the notebook, {_said_same(there)} in the worker"
    if here.what != there.what:
        return f"{here.what} in the notebook, {there.what} in the worker"
    return f"{here.what}, whose content is another in the worker"


def _said_same(entry: Entry) -> str:
    return entry.same or "an object of its own"


class _Walk:
    """Fills `entries`."""

    def __init__(self, names: Mapping[int, str], by_address: bool) -> None:
        self._by_address = by_address
        self.entries: dict[str, Entry] = {}
        self._names = names
        self._seen: dict[int, str] = {}
        self._keep: list[Any] = []
        """What was met: ids and addresses stay theirs while these live."""
        self._memory: dict[str, list[tuple[str, contents.Extent]]] = {}
        """Of tensors, arrays and bytearrays, by device."""
        self._roots: set[str] = set()
        self._copied = 0
        """Inside objects whose memory is theirs by contract (pandas copies on write)."""

    def close(self) -> None:
        """All is seen: who shares memory with whom is decided now."""
        for group in (group for found in self._memory.values() for group in contents.overlapping(found)):
            (first, start), *others = ((path, extent.start) for path, extent in group)
            for path, begin in others:
                shared = f"memory shared with {first} ({begin - start:+d} bytes)"
                if path in self.entries:  # it may be folded away
                    self.entries[path] = msgspec.structs.replace(self.entries[path], same=shared)

    def versions(self) -> dict[str, str]:
        """Of the libraries that objects were of."""
        found = {root: getattr(sys.modules.get(root), "__version__", None) for root in sorted(self._roots)}
        python = ".".join(map(str, sys.version_info[:3]))
        return {"python": python} | {
            root: str(text) for root, text in found.items() if isinstance(text, str)
        }  # torch's is a subclass

    def value(self, obj: Any, path: str, depth: int) -> None:
        """One thing at `path`, and all that is in it."""
        kind = type(obj)
        if len(self.entries) >= MAX_ENTRIES or depth > MAX_DEPTH:
            return
        if kind in _ATOMS:
            self._note(path, *_atom(obj))
        elif isinstance(obj, types.ModuleType):
            self._note(path, f"module {obj.__name__}")
        elif isinstance(obj, enum.Enum):
            self._note(path, f"{self.type_name(kind)}.{obj.name}")
        elif isinstance(obj, NAMED):
            self._callable(obj, path, depth)
        elif id(obj) in self._seen and _has_identity(obj):
            self._note(path, self.type_name(kind), same=f"the same object as {self._seen[id(obj)]}")
        else:
            self._keep.append(obj)
            self._seen.setdefault(id(obj), path)
            self._inside(obj, path, depth + 1)

    def type_name(self, cls: type) -> str:
        """As both processes call it."""
        module = cls.__module__ or ""
        own = module in ("builtins", "__main__") or module.startswith(_HANDLER)
        if not own:
            self._roots.add(module.partition(".")[0])
        if (name := self._names.get(id(cls))) is not None:
            return name
        return cls.__qualname__.rpartition("<locals>.")[2] if own else f"{module}.{cls.__qualname__}"

    # --- kinds

    def _callable(self, obj: Any, path: str, depth: int) -> None:
        owner = getattr(obj, "__self__", None)
        if owner is not None and not isinstance(owner, (types.ModuleType, type)):
            self._note(path, f"method {obj.__name__}")
            self.value(owner, f"{path}.__self__", depth + 1)
        elif isinstance(obj, type):
            self._note(path, f"class {self.type_name(obj)}")
            if depth == 0:  # a global: what is said of it once need not be said wherever it is referred to
                for key, value in _class_attributes(obj):
                    self.value(value, f"{path}.{key}", depth + 1)
        else:
            name = self._names.get(id(obj)) or getattr(obj, "__name__", "")
            self._note(path, f"function {name}")
            if is_own(obj) and id(obj) not in self._seen:
                self._keep.append(obj)
                self._seen[id(obj)] = path
                for step, part in _held_by(obj):
                    self.value(part, f"{path}.{step}", depth + 1)

    def _inside(self, obj: Any, path: str, depth: int) -> None:
        kind = type(obj)
        name = self.type_name(kind)
        if kind is list or kind is tuple:
            self._items(name, list(obj), path, depth, [f"{path}[{index}]" for index in range(len(obj))])
        elif kind is dict:
            self._dict(name, obj, path, depth)
        elif kind in (set, frozenset):
            self._set(name, obj, path)
        elif kind is bytearray:
            self._note(path, f"bytearray of {len(obj)}", contents.digest(bytes(obj)))
            if obj:
                start = contents.address_of(obj)
                self._memory.setdefault("cpu", []).append((path, contents.Extent(start, start + len(obj))))
        elif (look := contents.describe(obj, name, by_address=self._by_address)) is not None:
            self._note(path, look.what, look.digest)
            if look.extent is not None and not self._copied:
                self._memory.setdefault(look.memory, []).append((path, look.extent))
            for step, part in look.parts:
                self.value(part, path + step, depth)
        else:
            self._object(obj, name, path, depth)

    def _items(self, name: str, items: list[Any], path: str, depth: int, paths: Iterable[str]) -> None:
        what = f"{name} of {len(items)}"
        if set(map(type, items)) <= _ATOM_SET:
            shown = f"{name} {items!r}" if len(items) <= 8 else ""
            what = shown if 0 < len(shown) <= _SHOWN_CHARS else what
            self._note(path, what, contents.digest(repr(items).encode(errors="surrogatepass")))
            return
        inner = self.entries
        folded = len(items) > FOLDED_ITEMS
        if folded:
            self.entries = {}
        else:
            self._note(path, what)
        for item, step in zip(items, paths, strict=True):
            self.value(item, step, depth)
        if folded:
            text = msgspec.json.encode(self.entries)
            self.entries = inner
            self._note(path, what, contents.digest(text))

    def _dict(self, name: str, obj: Mapping[Any, Any], path: str, depth: int) -> None:
        items = list(obj.items())
        if any(type(key) not in _ATOMS for key, _ in items):
            flat = [part for pair in items for part in pair]
            steps = [f"{path}{end}" for index in range(len(items)) for end in (f" key {index}", f"[key {index}]")]
            self._items(name, flat, path, depth, steps)
            return
        keys = [key for key, _ in items]
        if len(items) > 8 and all(type(value) in _ATOMS for _, value in items):
            self._note(path, f"{name} of {len(items)}", contents.digest(repr(items).encode(errors="surrogatepass")))
            return
        self._note(path, f"{name} of {len(items)}", contents.digest(repr(keys).encode(errors="surrogatepass")))
        for key, value in items:
            self.value(value, f"{path}[{key!r}]", depth)

    def _set(self, name: str, obj: Any, path: str) -> None:
        plain = sorted(repr(item) for item in obj if type(item) in _ATOMS)
        others = sorted(self.type_name(type(item)) for item in obj if type(item) not in _ATOMS)
        text = "\0".join([*plain, *others]).encode(errors="surrogatepass")
        self._note(path, f"{name} of {len(obj)}", contents.digest(text))

    def _object(self, obj: Any, name: str, path: str, depth: int) -> None:
        self._note(path, name)
        if isinstance(obj, types.MethodType):
            self.value(obj.__func__, f"{path}.__func__", depth)
            self.value(obj.__self__, f"{path}.__self__", depth)
            return
        if type(obj) is functools.partial:
            func, args, keywords = _flat(obj)
            self.value(func, f"{path}.func", depth)
            self._keep += [args, keywords]
            self.value(args, f"{path}.args", depth)
            self.value(keywords, f"{path}.keywords", depth)
            for key, value in list(vars(obj).items()):
                self.value(value, f"{path}.{key}", depth)
            return
        try:
            made: Any = reduced(obj)
        except Exception:  # what cannot be reduced is live only, or has a form of its own: its kind has to do
            return
        if isinstance(made, str):
            self._note(path, f"{name} {made}")
            return
        self._keep.append(made)
        owns = name.startswith("pandas.")
        self._copied += owns
        self._reduced((*made[:2], None, *made[3:]) if name in _STATELESS else made, path, depth)
        self._copied -= owns

    def _reduced(self, parts: tuple[Any, ...], path: str, depth: int) -> None:
        _, args, state, items, pairs = (*parts, None, None, None)[:5]
        for index, arg in enumerate(args):
            if not (index == 0 and isinstance(arg, type)):
                self.value(arg, f"{path}.__reduce__()[{index}]", depth)
        states = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        for part in states:
            if type(part) is dict and all(type(key) is str for key in part):
                for key, value in part.items():
                    self.value(value, f"{path}.{key}", depth)
            elif part is not None:
                self.value(part, f"{path}.__getstate__()", depth)
        if items is not None:
            for index, item in enumerate(items):
                self.value(item, f"{path}[{index}]", depth)
        if pairs is not None and (found := dict(pairs)):
            self._dict(self.entries[path].what if path in self.entries else "", found, path, depth)

    def _note(self, path: str, what: str, digest: str = "", same: str = "") -> None:
        self.entries[path] = Entry(what, digest, same)


def is_own(function: Any) -> bool:
    """Is it a function of the notebook, or of handler.py?"""
    module = str(getattr(function, "__globals__", {}).get("__name__", ""))
    return isinstance(function, types.FunctionType) and (module == "__main__" or module.startswith(_HANDLER))


def _class_attributes(cls: type) -> Iterator[tuple[str, Any]]:
    """Data of a plain class; methods, and what metaclasses keep, are none."""
    if type(cls).__name__ not in ("type", "ABCMeta"):
        return
    for key, value in list(vars(cls).items()):
        if not key.startswith(("__", "_abc_")) and not isinstance(value, NAMED) and not hasattr(value, "__get__"):
            yield key, value


def _held_by(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What it closes over, by variable, and its defaults."""
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield variable, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    if function.__defaults__:
        yield "__defaults__", function.__defaults__
    if function.__kwdefaults__:
        yield "__kwdefaults__", function.__kwdefaults__


_ATOM_SET = set(_ATOMS)
_STATELESS = {"sklearn.utils._bunch.Bunch"}
"""Their `__setstate__` lets go of the state: pickle loses it, too."""


def _flat(obj: functools.partial[Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Function, arguments and keywords of a partial and those inside it: whether it is nested is chance."""
    func: Any
    func, args, keywords = obj.func, obj.args, dict(obj.keywords)
    while type(func) is functools.partial:
        func, args, keywords = func.func, func.args + args, func.keywords | keywords
    return func, args, keywords


def _atom(obj: Any) -> tuple[str, str]:
    """What it is; a digest where it is too long to be shown."""
    text = repr(obj)
    if len(text) <= _SHOWN_CHARS:
        return f"{type(obj).__name__} {text}", ""
    return f"{type(obj).__name__} {text[:30]}...", contents.digest(text.encode(errors="surrogatepass"))


def _has_identity(obj: Any) -> bool:
    """Does it matter whether two names have one of it or two? Not for what cannot change."""
    return isinstance(obj, (list, dict, set, bytearray)) or hasattr(obj, "__dict__") or contents.has_memory(obj)
