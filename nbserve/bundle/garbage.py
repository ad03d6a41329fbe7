"""Removes bundles that nothing needs any more. Called by notebook/serve.py after a version has come to serve."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Collection
from pathlib import Path

__all__ = ["KEPT_BUNDLES", "collect"]

KEPT_BUNDLES = 5
"""The newest ones of a name stay, whether a gateway knows them or not: as many as can be rolled back to."""


def collect(root: Path, name: str, in_use: Collection[Path]) -> list[Path]:
    """Remove the bundles `<name>-<digest>` under `root` but those in use and the newest; what was removed.

    in_use: bundles that a gateway serves or could roll back to. Mapped weights of a removed bundle stay readable.
    """
    pattern = re.compile(re.escape(name) + r"-[0-9a-f]{12}")
    there = root.iterdir() if root.is_dir() else ()
    found = [(_served_at(path), path) for path in there if pattern.fullmatch(path.name)]
    newest_first = [path for _, path in sorted(found, reverse=True)]
    used = {path.resolve() for path in in_use}
    surplus = [path for path in newest_first[KEPT_BUNDLES:] if path.resolve() not in used]
    for path in surplus:
        shutil.rmtree(path, ignore_errors=True)
    return surplus


def _served_at(bundle: Path) -> float:
    """When it was last written or served again, in Unix time; 0 for what another notebook is just removing.

    Not the folder's own time, which changes as files in it are removed.
    """
    with contextlib.suppress(FileNotFoundError):
        return (bundle / "provenance.json").stat().st_mtime
    return 0.0
