"""What the captured objects were when they were captured, and which of them the sample run changed.

Called by `captured.py`. Its fingerprint goes into the bundle, for the first worker to compare with what it rebuilt.
"""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Mapping
from typing import Any

from nbserve.bundle.fingerprint import NAMED, differences, fingerprint, is_own, names_of
from nbserve.bundle.manifest import ValueRecord

__all__ = ["Watch"]

_MOST = 50


class Watch:
    """held: globals of handler.py, by name. Of functions it is what they close over, of the notebook's classes their
    data; modules are none."""

    def __init__(self, held: Mapping[str, Any]) -> None:
        self._names = names_of(held)
        self._values = {
            key: obj for key, obj in held.items() if not isinstance(obj, (*NAMED, types.ModuleType)) or _is_watched(obj)
        }
        self.fingerprint = fingerprint(self._values, self._names)

    def changed(self, records: Mapping[str, ValueRecord], files: Collection[str]) -> list[str]:
        """What is another now, "seen['n'] and 3 more": for each value the first path, or its name where only the bytes
        of one of these files are others.
        """
        now = fingerprint(self._values, self._names)
        paths: dict[str, list[str]] = {}
        for path, _ in differences(self.fingerprint, now, most=_MOST):
            shown = re.split(r"\.__(?:reduce|getstate)__\(\)", path)[0]
            paths.setdefault(re.split(r"[.\[(]", path)[0], []).append(shown)
        found = [first + (f" and {len(rest)} more" if rest else "") for first, *rest in paths.values()]
        return found + [
            name for name, record in records.items() if name not in paths and set(record.files) & set(files)
        ]


def _is_watched(obj: Any) -> bool:
    """Is it a function or class of the notebook? What has a name elsewhere is a library's."""
    return is_own(obj) or (isinstance(obj, type) and obj.__module__ == "__main__")
