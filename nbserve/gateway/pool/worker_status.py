"""A worker as `nbserve status` shows it. Called by worker.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbserve.gateway.pool.memory import Usage
from nbserve.wire.management import WorkerStatus

if TYPE_CHECKING:
    from nbserve.gateway.pool.worker import Worker

__all__ = ["status_of"]


def status_of(worker: Worker, usage: Usage | None) -> WorkerStatus:
    """A snapshot, with what it was found to use."""
    on_device = worker.device_memory
    return WorkerStatus(
        id=worker.id,
        state=worker.state,
        pid=worker.pid,
        cores=list(worker.ready.cores if worker.ready else worker.plan.cores),
        threads=worker.plan.threads,
        device=worker.device,
        started_at=worker.started_at,
        start=worker.started_how,
        held=worker.hold is not None,
        restarts=worker.restarts,
        batches=worker.batches,
        connection_file=worker.connection_file,
        error=worker.error,
        rss_bytes=usage.rss_bytes if usage else None,
        pss_bytes=usage.pss_bytes if usage else None,
        uss_bytes=usage.uss_bytes if usage else None,
        private_dirty_bytes=usage.private_dirty_bytes if usage else None,
        weights_written_bytes=worker.weights_written_bytes,
        cpu_s=usage.cpu_s if usage else None,
        device_total_bytes=on_device.total_bytes if on_device else None,
        device_free_bytes=on_device.free_bytes if on_device else None,
        device_own_bytes=on_device.used_bytes if on_device else None,
        device_busy=on_device.busy if on_device else None,
    )
