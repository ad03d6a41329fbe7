"""What a row of the table is: a fault, what must hold, and how one run of it is played."""

from __future__ import annotations

import abc
import random
from typing import ClassVar

from tests.faults.result import Run
from tests.faults.stage import Stage
from tests.faults.traffic import Traffic

__all__ = ["CLIENTS", "PAUSE_S", "POISSON_PER_S", "Row", "steady"]

CLIENTS = 64
PAUSE_S = 0.3
"""Mean pause of a client between its requests: 64 clients are then about 200 requests/s, which leaves two cores free
enough for workers to start in ordinary times."""
POISSON_PER_S = 40.0


class Row(abc.ABC):
    """One row. A stage is made for all of its runs together."""

    name: ClassVar[str]
    fault: ClassVar[str]
    must: ClassVar[str]
    back: ClassVar[str] = ""
    """What "back after" is in this row; empty = the column stays empty."""
    times: ClassVar[int] = 20
    limit_s: ClassVar[float] = 60.0
    """One run that takes longer is broken."""

    @abc.abstractmethod
    async def prepare(self, stage: Stage) -> None:
        """Once, before the first run."""

    @abc.abstractmethod
    async def run(self, stage: Stage, rng: random.Random) -> Run:
        """One run. Whatever it raises makes it a broken one."""


def steady(stage: Stage, rng: random.Random) -> Traffic:
    """The load that most rows have: 64 keep-alive clients and Poisson arrivals."""
    traffic = stage.traffic(rng)
    traffic.clients(CLIENTS, pause_s=PAUSE_S)
    traffic.poisson(POISSON_PER_S)
    return traffic
