"""A notebook run by a real InteractiveShell with nbserve's own extension, up to the bundle. Runs in a zygote's child.

Nothing is replaced but the last step: where the extension would start a gateway and register the bundle, it stops.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

__all__ = ["Asked", "answers", "attach", "collected", "run_notebook"]


class Asked:
    """What `%%serve_handler` captured and wrote."""

    captured: Any = None
    bundle: Path | None = None
    answers: list[dict[str, Any]] | None = None


def attach(shell: Any, inputs: list[str]) -> Asked:
    """Load nbserve's extension into a shell, to stop at the bundle; `inputs` are asked of the live handler then."""
    import nbserve.capture
    import nbserve.notebook.serve
    from nbserve.notebook import magics

    asked = Asked()
    capture = nbserve.capture.capture

    def recorded(*args: Any, **kwargs: Any) -> Any:
        asked.captured = capture(*args, **kwargs)
        asked.answers = _in_child(lambda: ask(asked.captured.target, inputs, shell.user_ns))
        return asked.captured

    def stop_at_bundle(self: Any, what: Any) -> None:
        board = nbserve.notebook.serve.Board(shell, what.name)
        asked.bundle = self._bundle(what, board)

    nbserve.capture.capture = recorded
    nbserve.notebook.serve.Serving.serve = stop_at_bundle  # type: ignore[method-assign,assignment]
    magics.load(shell)
    return asked


def collected(asked: Asked) -> dict[str, Any]:
    """What was asked, as plain data for `outcome.py`."""
    captured = asked.captured
    return {
        "bundle": str(asked.bundle),
        "entries": [[entry.name, entry.how, entry.where, entry.bytes] for entry in captured.entries],
        "warnings": captured.warnings,
        "live_only": captured.live_only,
        "answers": asked.answers,
    }


def run_notebook(cells: list[dict[str, Any]], inputs: list[str]) -> dict[str, Any]:
    """Run cells ({"source", "fails"}) here; capture where they serve; ask the live handler for each input.

    The answer is plain data for `outcome.py`.
    """
    os.environ["NBSERVE_HOME"] = str(Path("home").absolute())
    os.environ["IPYTHONDIR"] = str(Path("ipython").absolute())
    sys.path.insert(0, os.getcwd())
    shell = _shell()
    asked = attach(shell, inputs)
    for number, cell in enumerate(cells, 1):
        result = shell.run_cell(cell["source"], store_history=True)
        error = result.error_before_exec or result.error_in_exec
        if error is not None and (asked.captured is not None or _is_serving(cell["source"])):
            return {"refused": _described(error)}
        if (error is not None) != cell["fails"]:
            return {"broken": f"cell {number}: {_described(error) if error else 'was to fail'}"}
    if asked.bundle is None:
        return {"broken": "no cell serves anything"}
    return collected(asked)


def _shell() -> Any:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        """As a kernel's: `%matplotlib inline` has no window to open."""

        def enable_gui(self, gui: Any = None) -> None:
            pass

    config = Config()
    config.HistoryManager.enabled = False
    return Shell.instance(config=config)


def _is_serving(source: str) -> bool:
    return "%%serve_handler" in source or "%nbserve serve" in source


def _described(error: BaseException) -> dict[str, str]:
    hint = str(getattr(error, "hint", "") or "")
    return {"type": type(error).__name__, "message": str(error), "hint": hint}


def _in_child(call: Callable[[], Any]) -> Any:
    """What a call gives in a copy of this process: what it does to the notebook's objects stays there."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.close(read)
            signal.alarm(60)  # not inherited: a handler that waits for ever is to be told, not waited for
            _restart_pools()
            try:
                found = call()
            except BaseException:
                found = {"crash": traceback.format_exc()}
            with os.fdopen(write, "w") as pipe:
                json.dump(found, pipe)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not text:
        raise RuntimeError(
            f"the handler cannot be asked in the notebook: it ended with {os.waitstatus_to_exitcode(status)}"
        )
    found = json.loads(text)
    if isinstance(found, dict):
        raise RuntimeError(f"the handler cannot be asked in the notebook: {found['crash']}")
    return found


def _restart_pools() -> None:
    """Threads do not live on in a fork: pools believe that they have some, and would wait for them."""
    for pool in gc.get_objects():
        if isinstance(pool, ThreadPoolExecutor):
            pool._threads.clear()  # type: ignore[attr-defined]
            pool._idle_semaphore = threading.Semaphore(0)  # type: ignore[attr-defined]


def ask(handler: Any, inputs: list[str], namespace: dict[str, Any]) -> list[dict[str, Any]]:
    """Each input through the handler, one after the other, then all of them as one batch."""
    from nbserve.handler import Context
    from nbserve.pipeline import Item, Pipeline
    from nbserve.wire.codec import encode_value
    from nbserve.worker.session import seed_everything

    items = [Item(*encode_value(eval(each, namespace))) for each in inputs]
    pipeline = Pipeline(handler, Context(name="x"))
    seed_everything(0)
    started = pipeline.initialize()
    return answers(pipeline, started, items)


def answers(pipeline: Any, started: Any, items: list[Any]) -> list[dict[str, Any]]:
    """The same for both sides: one after the other, then all together."""
    import asyncio
    import inspect

    from nbserve.worker.session import seed_everything

    async def whole() -> list[Any]:
        if inspect.isawaitable(started):
            await started
        found: list[Any] = []
        for number, batch in enumerate([*([item] for item in items), items], 1):
            seed_everything(number)
            run = pipeline.run_async(batch) if pipeline.is_async else None
            found += (await run if run is not None else pipeline.run(batch)).answers
        return found

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        found = asyncio.run(whole())
    else:  # a kernel's own loop is running in this thread
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(asyncio.run, whole()).result()
    both = [*items, *items]
    return [
        {
            "question": base64.b64encode(bytes(item.body)).decode(),
            "question_type": item.content_type,
            "body": base64.b64encode(answer.body).decode(),
            "type": answer.content_type,
            "error": [answer.error.type, answer.error.message] if answer.error is not None else None,
        }
        for item, answer in zip(both, found, strict=True)
    ]
