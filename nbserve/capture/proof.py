"""The sample run: the handler's answer in the notebook, which the workers' answer is compared with.

Called by `notebook/` when a bundle's content is written. Runs the very pipeline that workers use, under seed 0, and
leaves the user's objects as they were.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nbserve.bundle.proof import Sample
from nbserve.capture.opened import opened_files
from nbserve.errors import HandlerError
from nbserve.handler import Context
from nbserve.pipeline import Item, Outcome, Pipeline
from nbserve.tracebacks import Locate, describe
from nbserve.wire.codec import encode_value

__all__ = ["restored", "run_sample"]


def run_sample(
    target: Any,
    kind: str,
    payload: Any,
    *,
    name: str,
    seed: int = 0,
    values: Mapping[str, Any] | None = None,
    warn: Callable[[str], None] = lambda _text: None,
    locate: Locate = lambda _file, _line: None,
) -> Sample:
    """Ask the handler for the answer to `payload`; nothing of the user's is changed by it.

    target: `Captured.target` (a bare nn.Module will do for kind "module"). values: the captured data; what is changed
    in place is not put back: `Captured.note_changes` finds it. locate: `Cells.locate`, for tracebacks.
    Files that the handler opens go to `warn`, too. Training flags, random states, grad mode and the current folder are
    put back. Raises HandlerError carrying the traceback, whose `info.stage` says where.
    """
    target = _target(target, kind, payload)
    body, content_type = encode_value(payload)
    with restored([*(values or {}).values(), target]), opened_files() as opened:
        _seed(seed)
        outcome = _in_thread_if_async(target, Context(name=name), Item(body, content_type), locate, seed)
    for file in sorted(opened):
        size = os.path.getsize(file) if os.path.exists(file) else 0
        warn(
            f"the handler opened {_near(file)} ({size:,} bytes), which is not part of the bundle: workers elsewhere do "
            f"not have it; read it into a variable in a cell"
        )
    (answer,) = outcome.answers
    if answer.error is not None:
        raise HandlerError(
            f"the handler failed on the sample: {answer.error.type}: {answer.error.message}", info=answer.error
        )
    return Sample(
        content_type=content_type,
        body=body,
        expected_content_type=answer.content_type,
        expected_body=answer.body,
        seed=seed,
    )


def _near(file: str) -> str:
    """Relative to the notebook's folder, where it is in there."""
    return os.path.relpath(file) if file.startswith(f"{os.getcwd()}/") else file


def _target(target: Any, kind: str, payload: Any) -> Any:
    torch = sys.modules.get("torch")
    if kind == "module" and torch is not None and isinstance(target, torch.nn.Module):
        from nbserve.bundle.module_handler import ModuleHandler, payload_dtype

        return ModuleHandler(target, payload_dtype(target, payload))
    return target


def _in_thread_if_async(target: Any, context: Context, item: Item, locate: Locate, seed: int) -> Outcome:
    pipeline = _made(target, context, locate)
    started = _guarded(pipeline.initialize, locate)
    if not pipeline.is_async and not inspect.isawaitable(started):
        _seed(seed)
        return pipeline.run([item])

    async def whole() -> Outcome:
        if inspect.isawaitable(started):
            try:
                await started
            except Exception as exc:
                raise _failed(exc, locate) from exc
        _seed(seed)
        return await pipeline.run_async([item])

    # The notebook's own loop is running in this thread.
    result: list[Outcome | BaseException] = []

    def run() -> None:
        try:
            result.append(asyncio.run(whole()))
        except BaseException as exc:
            result.append(exc)

    thread = threading.Thread(target=run, name="nbserve-sample")
    thread.start()
    thread.join()
    outcome = result[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _made(target: Any, context: Context, locate: Locate) -> Pipeline:
    pipeline: Pipeline = _guarded(lambda: Pipeline(target, context, locate=locate), locate)
    return pipeline


def _guarded(call: Callable[[], Any], locate: Locate) -> Any:
    try:
        return call()
    except Exception as exc:
        raise _failed(exc, locate) from exc


def _failed(exc: Exception, locate: Locate) -> HandlerError:
    info = describe(exc, locate, stage="initialize")
    return HandlerError(f"the handler failed to initialize: {info.type}: {info.message}", info=info)


def _seed(seed: int) -> None:
    random.seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)


@contextmanager
def restored(objects: list[Any]) -> Iterator[None]:
    """Training flags of modules in `objects`, random states, grad mode and cwd are put back."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    # A frozen ScriptModule has no such flag.
    flags = [(module, module.training) for module in _modules(objects) if hasattr(module, "training")]
    python_state = random.getstate()
    numpy_state = numpy.random.get_state() if numpy is not None else None
    torch_state = torch.get_rng_state() if torch is not None else None
    on_device = bool(torch is not None and torch.cuda.is_initialized())
    device_states = torch.cuda.get_rng_state_all() if torch is not None and on_device else []
    grad = torch.is_grad_enabled() if torch is not None else False
    cwd = os.getcwd()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
        random.setstate(python_state)
        if numpy is not None:
            numpy.random.set_state(numpy_state)
        if torch is not None:
            torch.set_rng_state(torch_state)
            if on_device:
                torch.cuda.set_rng_state_all(device_states)
            torch.set_grad_enabled(grad)
        if os.getcwd() != cwd:
            os.chdir(cwd)


def _modules(objects: list[Any]) -> list[Any]:
    """nn.Modules in these objects, in their attributes and containers."""
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    found: dict[int, Any] = {}
    for obj in _parts(objects):
        if isinstance(obj, torch.nn.Module):
            for module in obj.modules():
                found.setdefault(id(module), module)
    return list(found.values())


def _parts(objects: list[Any]) -> Iterator[Any]:
    """Objects and what their containers and attributes hold, each once."""
    seen: set[int] = set()
    todo = list(objects)
    while todo:
        obj = todo.pop()
        if id(obj) in seen or isinstance(obj, (str, bytes, int, float, type)):
            continue
        seen.add(id(obj))
        yield obj
        if isinstance(obj, dict):
            todo += obj.values()
        elif isinstance(obj, (list, tuple, set, frozenset)):
            todo += obj
        else:
            todo += (getattr(obj, "__dict__", None) or {}).values()
