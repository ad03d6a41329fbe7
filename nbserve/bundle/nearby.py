"""Where the bytes of a bundle's weights lie nearer than in its own files: copies on the NUMA node of this worker.

Told by worker/session before it loads, asked by weights.py. The copies are gateway/pool/node_weights.py's; where one
cannot be opened the file serves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["nearest", "use"]

_copies: dict[Path, Path] = {}


def use(root: Path, copies: Mapping[str, str]) -> None:
    """From now on these files of the bundle are read from their copies."""
    _copies.update({root / file: Path(copy) for file, copy in copies.items()})


def nearest(path: Path) -> Path:
    """The copy of this file, else the file."""
    copy = _copies.get(path)
    return copy if copy is not None and os.access(copy, os.R_OK) else path
