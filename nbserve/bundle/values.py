"""`value("model")` in a bundle's handler.py: reads one value of the bundle.

`open_values` is called by handler.py itself, while `Bundle.load` imports it (or anybody else does: it
is a plain module). Pickles are read from the bundle's own folder only, and only those that its manifest names.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nbserve.bundle.decoder import Decoder
from nbserve.bundle.manifest import Manifest
from nbserve.errors import BundleError

__all__ = ["LoadOptions", "Values", "load_options", "open_values", "read_manifest"]


class LoadOptions(NamedTuple):
    """How `Bundle.load` wants values read: called at the first value; device for tensors that were not on the CPU."""

    on_values: Callable[[], None] = lambda: None
    device: str | None = None


load_options: ContextVar[LoadOptions] = ContextVar("load_options", default=LoadOptions())  # noqa: B039


def open_values(file: str) -> Values:
    """The values of the bundle that `file`, its handler.py, lies in. The caller's globals resolve "handler:Name"."""
    caller = sys._getframe(1).f_globals
    return Values(Path(file).parent, caller, load_options.get())


def read_manifest(root: Path) -> Manifest:
    """Raises BundleError naming what is wrong."""
    try:
        return msgspec.json.decode((root / "manifest.json").read_bytes(), type=Manifest)
    except FileNotFoundError:
        what = "has no manifest.json" if root.is_dir() else "is not a folder"
        raise BundleError(f"{root} {what}", hint="give the folder of a bundle") from None
    except (OSError, msgspec.MsgspecError) as exc:
        raise BundleError(f"{root}: manifest.json cannot be read: {exc}", hint="capture it again") from exc


class Values:
    """Call it with a name. Each value is read once; what two values share is one object."""

    def __init__(self, root: Path, namespace: dict[str, Any], options: LoadOptions) -> None:
        self._root, self._namespace, self._options = root, namespace, options
        self._records = read_manifest(root).values
        self._decoder = Decoder(root, self._resolve, options.device)
        self._made: dict[str, Any] = {}

    def __call__(self, name: str) -> Any:
        """The value. Raises BundleError where there is none or its files are damaged."""
        if name not in self._made:
            self._options.on_values()
            self._made[name] = self._read(name)
        return self._made[name]

    def _read(self, name: str) -> Any:
        record = self._records.get(name)
        if record is None:
            raise BundleError(f"{self._root.name} has no value {name!r}", hint="capture it again")
        weights = next((file for file in record.files if file.startswith("weights/")), "")
        try:
            if record.saver == "pickle":
                from nbserve.bundle import pickles

                return pickles.load(self._root, record.files, self._resolve)
            doc = json.loads((self._root / record.files[0]).read_bytes())
            return self._decoder.decode(name, doc, weights)
        except OSError as exc:
            raise BundleError(f"value {name!r} cannot be read: {exc}", hint="capture it again") from exc

    def _resolve(self, path: str) -> Any:
        module, _, name = path.partition(":")
        if module == "handler":
            try:
                return self._namespace[name]
            except KeyError:
                raise BundleError(f"handler.py does not define {name} before a value needs it") from None
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found
