"""The trace of a profile as columns on one clock: what the trace view draws, and what the rules of advice read. Pure.

Made by measure/chrome.py from a worker's raw trace and the gateway's spans; summed up by measure/operators.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Lane", "LaneKind", "Trace"]

LaneKind = Literal["gateway", "cpu", "gpu"]

_COLUMNS = ("start_us", "duration_us", "name", "lane", "detail", "link")


class Lane(NamedTuple):
    """A row of the picture, in which spans never overlap: each depth of nesting is a lane of its own."""

    process: str
    """ "gateway", "worker 0"."""
    thread: str
    """ "requests", "main", "stream 7"."""
    depth: int
    """0 = outermost."""
    kind: LaneKind


@dataclass(frozen=True, eq=False)
class Trace:
    """Spans in columns, sorted by (lane, start); a span is named by its index."""

    start_us: npt.NDArray[np.float64]
    """From 0, the begin of the first span."""
    duration_us: npt.NDArray[np.float32]
    name: npt.NDArray[np.uint32]
    """Index in `names`."""
    lane: npt.NDArray[np.uint16]
    """Index in `lanes`."""
    detail: npt.NDArray[np.uint32]
    """Index in `details`; 0 = none."""
    link: npt.NDArray[np.uint32]
    """Number of the batch that it belongs to, 0 = none: links a request's queue, its batch and its device kernels."""
    names: list[str]
    lanes: list[Lane]
    details: list[str]
    """JSON text: shapes, stack, request id, bytes. The first is empty."""
    meta: dict[str, Any] = field(default_factory=dict)
    """handler, version, device, started_at (unix s), truncated, and what else was said of the profile."""

    def __len__(self) -> int:
        return len(self.start_us)

    @property
    def end_us(self) -> float:
        """Of the last span; 0 of an empty trace."""
        return float((self.start_us + self.duration_us).max()) if len(self) else 0.0

    def to_bytes(self) -> tuple[dict[str, Any], bytes]:
        """A JSON-able header, and one buffer with the columns behind each other, little-endian.

        header["columns"] = [[name, dtype, offset in bytes], ...]; each column begins at a multiple of 8.
        """
        parts: list[bytes] = []
        columns: list[list[Any]] = []
        offset = 0
        for column in _COLUMNS:
            array: npt.NDArray[Any] = getattr(self, column)
            raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            raw += bytes(-len(raw) % 8)
            columns.append([column, array.dtype.name, offset])
            parts.append(raw)
            offset += len(raw)
        header = {
            "events": len(self),
            "columns": columns,
            "names": self.names,
            "lanes": [list(lane) for lane in self.lanes],
            "details": self.details,
            "meta": self.meta,
        }
        return header, b"".join(parts)
