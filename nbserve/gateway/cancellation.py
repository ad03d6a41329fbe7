"""Work that must not be left half done where its caller is cancelled: starting a process, ending a version's workers.

Used by gateway/pool/worker, gateway/version and gateway/registry; a load is cancelled when its version is removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["to_the_end"]

T = TypeVar("T")


async def to_the_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it to its end. A caller that is cancelled meanwhile waits for that end, and is cancelled then."""
    task = asyncio.get_running_loop().create_task(coroutine)
    task.add_done_callback(
        lambda done: done.cancelled() or done.exception()
    )  # retrieved, even if nobody waits any more
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
