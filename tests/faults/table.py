"""The rows of the table, in its order. Used by tests/faults/run."""

from __future__ import annotations

from tests.faults.row import Row
from tests.faults.rows.bad_item import BadItem8, BadItem32
from tests.faults.rows.kill import KillAll, KillOneOfTwo, KillOnly
from tests.faults.rows.operations import Operations
from tests.faults.rows.overload import Overload
from tests.faults.rows.poison import Exits, Loops, Memory, Segfault
from tests.faults.rows.scale import Scale
from tests.faults.rows.swap import Swap

__all__ = ["ROWS"]

ROWS: dict[str, type[Row]] = {
    row.name: row
    for row in (
        Swap,
        BadItem8,
        BadItem32,
        KillOneOfTwo,
        KillOnly,
        KillAll,
        Segfault,
        Exits,
        Memory,
        Loops,
        Scale,
        Overload,
        Operations,
    )
}
