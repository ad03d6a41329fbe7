"""A failed request run again in the notebook, by the notebook's own code, so that debuggers open on the cell's lines.

`replay_here` is what `%nbserve replay`, `Endpoint.replay` and a card's button call. The bytes go through the very
pipeline that workers use (nbserve/pipeline.py) with the handler as it is in the notebook now; what it raises is raised
here, from the user's first frame to the user's last, so that `%debug` and Lab's debugger stop in the cell.
"""

from __future__ import annotations

import bdb
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from nbserve.bundle import Bundle
from nbserve.capture.proof import restored
from nbserve.errors import BundleError, ErrorInfo, NbserveError, UsageError
from nbserve.failures import STAGES, body_text, plain_text, row_text, when
from nbserve.handler import Context
from nbserve.notebook.awaiting import awaited
from nbserve.notebook.frames import IsUser, is_users, user_part
from nbserve.notebook.live_code import find_code
from nbserve.pipeline import Item, Outcome, Pipeline
from nbserve.resolve import Served
from nbserve.tracebacks import describe
from nbserve.wire.codec import decode_row, shape_of
from nbserve.wire.failure import FailureDetail, KeptRequest

__all__ = ["Replayed", "replay_here"]

Stage = Literal["preprocess", "inference", "postprocess"]


class Replayed(msgspec.Struct, kw_only=True):
    """A replay that raised nothing here: it was answered, compared with the live endpoint, or left in the debugger."""

    id: str
    answer: str = ""
    """The row's answer here, as text."""
    error: ErrorInfo | None = None
    """Where it was compared: what it raised here."""
    live: str = ""
    """Where it was compared: what the endpoint answered."""
    live_status: int = 0
    changed: list[str] | None = None
    """Definitions that are not as they were served then; None where that cannot be known."""
    quit: bool = False

    def __repr__(self) -> str:
        here = f"{self.error.type}: {self.error.message}" if self.error is not None else self.answer
        if self.live_status:
            return plain_text(f"here: {here}\nlive: {self.live_status} {self.live}", keep_lines=True)
        if self.quit:
            return f"{self.id}: the debugger was left"
        why = "what was changed may be the mend" if self.changed else "the code is the same: what it works with is not"
        return plain_text(f"{self.id} does not fail here ({why}); the answer:\n{here}", keep_lines=True)


def replay_here(
    served: Served,
    detail: FailureDetail,
    *,
    pdb: bool = False,
    stop_at: Stage | None = None,
    against: Literal["live"] | None = None,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> Replayed:
    """Run a failed request again with the notebook's handler. What it raises is raised, trimmed to the user's frames.

    pdb: open the debugger where it failed. stop_at: open it at the first line of this method. against "live": send the
    bytes to the endpoint too, and return both answers instead of raising. force: also where the request killed its
    worker. `say` hears what is replayed, and whether the code has changed since.
    Raises UsageError where the handler or the body is not to be had.
    """
    __tracebackhide__ = True
    run = _Replay(served, detail, _shell(), stop_at=stop_at, force=force)
    for line in run.introduction():
        say(line)
    if against:
        return run.compared()
    try:
        return run.here()
    except bdb.BdbQuit:
        return Replayed(id=detail.failure.id, quit=True)
    except UsageError:
        raise
    except (Exception, KeyboardInterrupt) as exc:
        run.show_as_users(exc, debug=pdb)
        raise


class _Replay:
    def __init__(self, served: Served, detail: FailureDetail, ip: Any, *, stop_at: Stage | None, force: bool) -> None:
        from nbserve.notebook.magics import extension_of

        self._served, self._detail, self._ip = served, detail, ip
        self._failure = failure = detail.failure
        if detail.request.body is None:
            raise UsageError(f"{failure.id} cannot be replayed: its body is withheld: {detail.request.withheld}")
        if failure.error.type == "WorkerDied" and not force:
            raise UsageError(
                f"{failure.id} killed its worker ({failure.error.message}): here it may kill this kernel",
                hint=f"`%nbserve replay {failure.id} --force` does it all the same",
            )
        extension = extension_of(ip)
        self._bundle = _opened(failure.bundle)
        self._stop_at = stop_at
        self._code = code = find_code(failure, self._bundle, ip.user_ns, extension.cells, extension.sources)
        self._is_user: IsUser = is_users(code.locate, os.getcwd())

    # -- before ------------------------------------------------------------------------------------------------------

    def introduction(self) -> list[str]:
        """What is replayed, and what differs from then."""
        failure, error = self._failure, self._failure.error
        place = ", ".join(filter(None, [error.stage, error.where]))
        lines = [
            f"{failure.id}: {when(failure.at)}, row {row_text(failure)}, {error.type}{f' in {place}' if place else ''}"
        ]
        if self._code.note:
            lines.append(self._code.note)
        if error.type == "ResponseTimeout":
            lines.append("it ran out of time: interrupt the kernel to see where it is, and for %debug")
        if not failure.alone:
            kept = f"replayed with its batch of {len(failure.batch)}"
            lost = f"it failed in a batch of {len(failure.batch)}, of which not all are kept: replayed alone"
            lines.append(kept if self._detail.batch else lost)
        return [plain_text(line) for line in lines]

    # -- the run -----------------------------------------------------------------------------------------------------

    def here(self) -> Replayed:
        """Run it; raises what the handler raises."""
        __tracebackhide__ = True
        items, row = self._items()
        with restored([*self._code.values, self._code.target]):
            outcome = self._outcome(items)
        answer = outcome.answers[row]
        return Replayed(
            id=self._failure.id, answer=body_text(answer.content_type, answer.body), changed=self._code.changed
        )

    def compared(self) -> Replayed:
        """Here and by the endpoint that serves now."""
        try:
            done = self.here()
        except bdb.BdbQuit:
            done = Replayed(id=self._failure.id, quit=True)
        except Exception as exc:
            done = Replayed(id=self._failure.id, changed=self._code.changed, error=describe(exc, self._code.locate))
        request = self._detail.request
        assert request.body is not None
        try:
            content_type, body = self._served.client.predict(
                self._served.name, request.body, request.content_type, self._served.version
            )
        except NbserveError as exc:
            info = exc.to_info()
            done.live_status, done.live = info.status, f"{info.type}: {info.message}"
        else:
            done.live_status, done.live = 200, body_text(content_type, body)
        return done

    def _items(self) -> tuple[list[Item], int]:
        requests: Sequence[KeptRequest] = [self._detail.request]
        row = 0
        batch = self._detail.batch
        if not self._failure.alone and batch and all(each.body is not None for each in batch):
            requests, row = batch, self._failure.row
        items = [
            Item(each.body or b"", each.content_type, each.request_id, each.route, each.headers) for each in requests
        ]
        return items, row

    def _outcome(self, items: list[Item]) -> Outcome:
        __tracebackhide__ = True
        handler = self._code.target
        handler = handler() if inspect.isclass(handler) else handler
        if self._stop_at:
            handler = self._with_breakpoint(handler)
        pipeline = Pipeline(
            handler,
            Context(name=self._failure.model, version=self._failure.version),
            locate=self._code.locate,
            sample_shape=self._sample_shape(),
            isolate=False,
            raises=True,
        )
        started = pipeline.initialize()

        async def whole() -> Outcome | None:
            if inspect.isawaitable(started):
                await started
            return await pipeline.run_async(items) if pipeline.is_async else None

        is_async = pipeline.is_async or inspect.isawaitable(started)
        return (awaited(whole()) if is_async else None) or pipeline.run(items)

    def _sample_shape(self) -> tuple[int, ...] | None:
        sample = self._bundle.sample if self._bundle is not None else None
        return shape_of(decode_row(sample.content_type, sample.body).payload) if sample is not None else None

    def _with_breakpoint(self, handler: Any) -> Any:
        """The handler, in which the debugger opens at the first line of a method."""
        stage = self._stop_at or ""
        is_function = inspect.isfunction(handler)
        method: Any = handler if is_function and stage == "inference" else getattr(handler, stage, None)
        code = getattr(inspect.unwrap(method), "__code__", None) if callable(method) else None
        if code is None or not self._is_user(code):
            own = [each for each in STAGES if _is_own(getattr(handler, each, None), self._is_user)]
            own = ["inference"] if is_function else own
            raise UsageError(
                f"{self._failure.model} has no {stage} of its own",
                hint=f"--break {own[0]} is there" if own else "--pdb opens where it failed",
            )
        stopping = _stopping(method, self._ip.debugger_cls())
        if is_function:
            return stopping
        setattr(handler, stage, stopping)
        return handler

    # -- after -------------------------------------------------------------------------------------------------------

    def show_as_users(self, exc: BaseException, *, debug: bool) -> None:
        """Have IPython show an exception from the user's first frame on, and debuggers open at the user's last one."""
        part = user_part(exc.__traceback__, self._is_user)
        if part is None:  # a body that cannot be decoded: no code of the user's has run
            if debug:
                print("nothing to debug: none of your code had run")
            return
        rendered = self._ip.InteractiveTB.structured_traceback(type(exc), exc, part.shown, tb_offset=0)
        last = _last(part.debugged)
        file = last.tb_frame.f_code.co_filename
        place = self._code.locate(file, last.tb_lineno) or f"{Path(file).name}, line {last.tb_lineno}"
        rendered = [*rendered, f"%debug opens at {place}"]
        exc.with_traceback(part.debugged)  # what %debug takes
        with suppress(AttributeError):  # a class with slots: it shows our frames too
            exc._render_traceback_ = lambda: rendered  # type: ignore[attr-defined]
        if debug:
            sys.last_type, sys.last_value, sys.last_traceback = type(exc), exc, part.debugged
            print("".join(f"{line}\n" for line in rendered))
            self._ip.debugger(force=True)


def _last(tb: TracebackType) -> TracebackType:
    while tb.tb_next is not None:
        tb = tb.tb_next
    return tb


def _is_own(method: Any, is_user: IsUser) -> bool:
    code = getattr(inspect.unwrap(method), "__code__", None) if callable(method) else None
    return code is not None and is_user(code)


def _stopping(method: Any, debugger: Any) -> Any:
    """The method, in which this debugger opens at the first line."""

    @contextmanager
    def traced() -> Iterator[None]:
        debugger.reset()
        before = sys.gettrace()
        sys.settrace(debugger.trace_dispatch)  # as Bdb.runcall, which makes None of the debugger's `quit`
        try:
            yield
        finally:
            sys.settrace(before)

    @functools.wraps(method)
    def plain(*arguments: Any) -> Any:
        __tracebackhide__ = True
        with traced():
            return method(*arguments)

    @functools.wraps(method)
    async def coroutine(*arguments: Any) -> Any:
        __tracebackhide__ = True
        with traced():
            return await method(*arguments)

    return coroutine if inspect.iscoroutinefunction(method) else plain


def _opened(path: str) -> Bundle | None:
    try:
        return Bundle.open(path)
    except BundleError:
        return None


def _shell() -> Any:
    from IPython.core.getipython import get_ipython

    ip = get_ipython()
    if ip is None:
        raise UsageError("a request is replayed in a notebook or in IPython", hint="`%nbserve replay ID` there")
    return ip
