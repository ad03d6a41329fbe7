"""The gateway's folder of sockets: made by gateway/gateway, gone when it ends; one of a killed gateway by the next.

A lock on the folder itself says whose gateway lives: the kernel gives it back however the process ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

__all__ = ["RuntimeDir"]

PREFIX = "nbs-gw-"
MAX_CHARS = 60
"""Of its path: unix socket paths end at 107 characters, and the workers' names come on top."""
YOUNG_S = 60.0
"""A folder as young as this may not have its lock yet."""


class RuntimeDir:
    """A new 0700 folder with a short path, and the lock that says that it is in use."""

    def __init__(self) -> None:
        place = tempfile.gettempdir()
        if len(place) > MAX_CHARS - 16:
            place = "/tmp"
        remove_abandoned(Path(place), time.time())
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        self._lock_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove(self) -> None:
        """The folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock_fd)


def remove_abandoned(place: Path, now_s: float) -> None:
    """Folders of this user's gateways that were killed. `now_s`: of the clock of files."""
    for folder in place.glob(f"{PREFIX}*"):
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # gone meanwhile, a link, another user's
            continue
        try:
            status = os.fstat(fd)
            if status.st_uid != os.getuid() or now_s - status.st_mtime < YOUNG_S:
                continue
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its gateway lives
            continue
        finally:
            os.close(fd)
