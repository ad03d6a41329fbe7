"""The gateway's side of a worker's data stream: bytes -> frames -> whoever handles them.

Made by worker.py for each launch, connected by kernel.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nbserve.errors import EndOfFile, WireError
from nbserve.wire.frames import Frame, FrameReader

__all__ = ["FrameStream"]


class FrameStream(asyncio.Protocol):
    """Calls `on_frame` for each frame and `on_close` once at the end; `on_broken` where it is no frame, or half a one.

    A WireError that `on_frame` raises is handed to `on_broken` too: the frame makes no sense there.
    """

    def __init__(
        self,
        on_frame: Callable[[Frame], None],
        on_broken: Callable[[WireError], None],
        on_close: Callable[[], None],
    ) -> None:
        self._reader = FrameReader()
        self._on_frame = on_frame
        self._on_broken = on_broken
        self._on_close = on_close

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        try:
            for frame in self._reader.feed(data):
                self._on_frame(frame)
        except WireError as exc:
            self._on_broken(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport."""
        try:
            self._reader.eof()
        except EndOfFile:  # between two frames: how every stream ends
            pass
        except WireError as broken:
            self._on_broken(broken)
        self._on_close()
