"""What all workers of a version share. Made by supervisor.py, read by worker.py and what it is made of."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import zmq.asyncio

from nbserve.bundle import Bundle
from nbserve.config import ModelConfig
from nbserve.gateway.pool import obituary
from nbserve.gateway.pool.node_weights import WeightsLease
from nbserve.gateway.pool.provisioner import Start
from nbserve.gateway.pool.standby import Standby
from nbserve.wire.management import Event

__all__ = ["WorkerSpec"]

log = logging.getLogger("nbserve.pool")


@dataclass
class WorkerSpec:
    """What all workers of a version share."""

    bundle_path: Path
    name: str
    version: str
    config: ModelConfig
    runtime_dir: Path
    emit: Callable[[Event], None]
    context: zmq.asyncio.Context
    start: Start = field(default_factory=Start)
    """How workers are started; the supervisor's decision."""
    standby: Standby | None = None
    """Holds a kernel that may be the next worker's."""
    weights: WeightsLease | None = None
    """Copies of the weights by node, where there are several."""
    notices: list[str] = field(default_factory=list)
    """What its workers found out about the handler, in sentences."""

    @cached_property
    def bundle(self) -> Bundle:
        """What they serve."""
        return Bundle.open(self.bundle_path)

    @property
    def locate(self) -> obituary.Locate:
        """File and line of the bundle -> the user's cell and line."""
        return self.bundle.locate

    def tell(self, **fields: Any) -> None:
        """An event of this version."""
        self.emit(Event(seq=0, at=0.0, model=self.name, version=self.version, **fields))

    def notice(self, text: str, worker: int | None = None) -> None:
        """Kept for status; told once, not by each worker."""
        if text not in self.notices:
            self.notices.append(text)
            log.warning("%s: %s", self.name, text)
            self.tell(kind="gateway", worker=worker, text=text)
