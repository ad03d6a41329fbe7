"""Runs a coroutine to its end in this very thread, though the notebook's own event loop is running in it.

Called by replay.py: in another thread neither the debugger nor Ctrl-C would get at the handler. The loop is a new one,
and the notebook's stands still meanwhile, as in any other cell.
"""

from __future__ import annotations

import asyncio
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["awaited"]

T = TypeVar("T")


def awaited(coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns. Raises what it raises; where it was interrupted as it waited, from where it waited."""
    __tracebackhide__ = True
    outer = _get_running_loop()
    _set_running_loop(None)
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(coroutine)
        try:
            return loop.run_until_complete(task)
        except KeyboardInterrupt as interrupt:
            if task.done():  # it was at work, and the traceback is its own
                raise
            task.cancel()
            with suppress(Exception):
                try:
                    loop.run_until_complete(task)
                except asyncio.CancelledError as cancelled:
                    raise interrupt.with_traceback(cancelled.__traceback__) from None
            raise
    finally:
        try:
            _end(loop)
        finally:
            _set_running_loop(outer)


def _end(loop: asyncio.AbstractEventLoop) -> None:
    """As asyncio.run does."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    with suppress(KeyboardInterrupt):
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
