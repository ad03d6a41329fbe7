"""How far a measurement is: a bar on a terminal's standard error, one display in a notebook, else nothing.

Called by the verb `bench` and by `Endpoint.bench`, which hand the callback to `bench.bench`.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

__all__ = ["OnProgress", "Progress", "shown_progress"]

_UPDATE_INTERVAL_S = 0.25
_BAR_CHARS = 24


class Progress(NamedTuple):
    """What is going on: "version 2", "120 req/s"; how much of it all is done, 0 to 1, None where that is not known."""

    doing: str
    done: float | None
    answered: int = 0
    failed: int = 0


OnProgress = Callable[[Progress], None]


@contextmanager
def shown_progress(name: str) -> Iterator[OnProgress]:
    """The callback to show with; what it shows is gone when the block is left."""
    shell = _notebook_shell()
    if shell is not None:
        with _in_notebook(shell, name) as on_progress:
            yield on_progress
    elif sys.stderr is not None and sys.stderr.isatty():
        with _on_terminal(name) as on_progress:
            yield on_progress
    else:
        yield lambda progress: None


def _notebook_shell() -> Any:
    """IPython's shell where it is a kernel's, else None; IPython is not loaded for this."""
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return shell if hasattr(shell, "kernel") else None


@contextmanager
def _on_terminal(name: str) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(f"{name}: {{task.description}}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(progress: Any) -> None:
            total = None if progress.done is None else 1.0
            bar.update(task, description=_counts(progress), total=total, completed=progress.done or 0.0)

        yield show


@contextmanager
def _in_notebook(shell: Any, name: str) -> Iterator[OnProgress]:
    """One display, updated a few times a second, and empty in the end: the result is what stays."""
    display_id = f"nbserve-bench-{time.monotonic_ns()}"
    last_s = 0.0

    def publish(text: str, *, update: bool = True) -> None:
        style = "color:var(--jp-ui-font-color2,#666);font-size:var(--jp-ui-font-size1,13px)"
        shown = f'<div style="{style}">{html.escape(text)}</div>' if text else ""
        data = {"text/plain": text, "text/html": shown}
        shell.display_pub.publish(data, transient={"display_id": display_id}, update=update)

    def show(progress: Progress) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= _UPDATE_INTERVAL_S:
            last_s = time.monotonic()
            publish(f"{name}: {_bar(progress.done)}{_counts(progress)}")

    publish(f"{name}: starting the load", update=False)
    try:
        yield show
    finally:
        publish("")


def _bar(done: float | None) -> str:
    if done is None:
        return ""
    full = round(min(1.0, done) * _BAR_CHARS)
    return f"{'█' * full}{'░' * (_BAR_CHARS - full)} "


def _counts(progress: Progress) -> str:
    failed = f", {progress.failed} failed" if progress.failed else ""
    return f"{progress.doing}, {progress.answered} answered{failed}"
