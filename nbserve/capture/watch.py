"""What the captured objects were when they were captured, and which of them the sample run changed.

Called by `captured.py`. Its fingerprint goes into the bundle, for the first worker to compare with what it rebuilt.
"""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Mapping
from typing import Any

from nbserve.bundle.fingerprint import NAMED, differences, fingerprint, names_of
from nbserve.bundle.manifest import ValueRecord

__all__ = ["Watch"]

_MOST = 10


class Watch:
    """held: globals of handler.py, by name; definitions and modules among them are no values."""

    def __init__(self, held: Mapping[str, Any]) -> None:
        self._names = names_of(held)
        self._values = {key: obj for key, obj in held.items() if not isinstance(obj, (*NAMED, types.ModuleType))}
        self.fingerprint = fingerprint(self._values, self._names)

    def changed(self, records: Mapping[str, ValueRecord], files: Collection[str]) -> list[str]:
        """Paths of what is another now; of a value with only other bytes in one of these files, its name."""
        now = fingerprint(self._values, self._names)
        paths = [path for path, _ in differences(self.fingerprint, now, most=_MOST)]
        named = {re.split(r"[.\[(]", path)[0] for path in paths}
        whole = [name for name, record in records.items() if name not in named and set(record.files) & set(files)]
        return paths + whole
