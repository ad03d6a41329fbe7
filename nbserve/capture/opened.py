"""Files that the handler opens while it answers the sample: workers on another machine will not have them.

Called by `proof.py`. Python tells of every file that is opened (the audit event "open"); what belongs to Python and
its packages is left out.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["opened_files"]

_CODE = (".py", ".pyc", ".so", ".pyd", ".pth")
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/")
_OWN = f"{Path(__file__).parent.parent}/"
_listening: list[set[str]] = []
_installed = False


@contextmanager
def opened_files() -> Iterator[set[str]]:
    """Absolute paths of files that are opened for reading meanwhile, in any thread; filled as they are. Those that
    nbserve opens itself are left out: a dashboard reads the bundle of what is served in a thread of its own."""
    global _installed
    if not _installed:  # an audit hook cannot be taken away again; without a listener it does nothing
        sys.addaudithook(_hear)
        _installed = True
    found: set[str] = set()
    _listening.append(found)
    try:
        yield found
    finally:
        _listening.remove(found)


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if event != "open" or not _listening:
        return
    path, _, flags = args
    if isinstance(path, (str, bytes, os.PathLike)) and isinstance(flags, int) and not flags & (os.O_WRONLY | os.O_RDWR):
        name = os.path.abspath(os.fsdecode(path))
        if not _is_systems(name) and not _is_ours() and os.path.isfile(name):
            for found in _listening:
                found.add(name)


def _is_systems(name: str) -> bool:
    roots = (sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
    if (Path(name).parent / "__init__.py").exists():  # of a package: it is installed, or copied with its data
        return True
    return name.endswith(_CODE) or name.startswith((*_SYSTEM, _OWN, *(f"{root}/" for root in roots)))


def _is_ours() -> bool:
    """Is it nbserve that opens the file now? Whoever called the standard library's functions that do it."""
    installed, stdlib = sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_OWN):
            return True
        if file.startswith(installed) or not file.startswith((stdlib, "<frozen ")):
            return False
        frame = frame.f_back
    return False
