"""Which cell is running and what every cell's source was, from `%load_ext` on and before. Feeds capture.

Called by `magics.py`; capture reads `cells` to find the source of live objects and to name their cells.
"""

from __future__ import annotations

import contextlib
import linecache
from dataclasses import dataclass
from typing import Any

from nbserve.capture.cells import Cells

__all__ = ["CurrentCell", "History"]


@dataclass(frozen=True)
class CurrentCell:
    """The cell that the user is running now."""

    number: int
    raw: str
    """As the user wrote it."""
    filename: str
    """The name its code is compiled under: the one that tracebacks and the debugger know."""


class History:
    """Listens to IPython's events. `start` and `stop` are the extension's life."""

    def __init__(self, ip: Any) -> None:
        self.cells = Cells()
        self.current: CurrentCell | None = None
        self._ip = ip
        self._running: Any = None

    def start(self) -> None:
        """Take in the cells that ran before, then listen."""
        for number, source, filename in self._earlier():
            self.cells.add(number, source, filename)
        self._ip.events.register("pre_run_cell", self._before)
        self._ip.events.register("post_run_cell", self._after)

    def stop(self) -> None:
        """Listen no more; what was heard stays."""
        for event, listener in (("pre_run_cell", self._before), ("post_run_cell", self._after)):
            with contextlib.suppress(ValueError):
                self._ip.events.unregister(event, listener)

    def _earlier(self) -> list[tuple[int, str, str | None]]:
        """(number, source, file name) of cells that ran before, in order.

        The compiler knows the names under which it compiled; history knows cells whose text was compiled again since.
        """
        compiled = {
            number: (filename, "".join(linecache.getlines(filename)))
            for filename, number in getattr(self._ip.compile, "_filename_map", {}).items()
        }
        manager = self._ip.history_manager
        history = enumerate(manager.input_hist_parsed) if manager is not None else ()
        earlier: dict[int, tuple[str | None, str]] = {number: (None, source) for number, source in history if source}
        earlier |= {number: (filename, source) for number, (filename, source) in compiled.items() if source}
        return [(number, source, filename) for number, (filename, source) in sorted(earlier.items())]

    def _before(self, info: Any) -> None:
        number = self._ip.execution_count - (1 if info.store_history else 0)
        if self.current is not None:  # a cell run by a cell: the count is ahead of the one that the user sees
            number = self.current.number
        source = info.transformed_cell or info.raw_cell
        filename = self._ip.compile.get_code_name(info.raw_cell, source, number)
        self.cells.add(number, source, filename)
        if self._running is None or info.store_history:  # a run_cell inside a cell is not the user's cell
            self._running = info
            self.current = CurrentCell(number, info.raw_cell, filename)

    def _after(self, result: Any) -> None:
        if result.info is self._running:
            self._running = self.current = None
