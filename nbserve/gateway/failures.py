"""The last failed requests of each model, bounded in number and bytes: for the error card and for a replay.

gateway/batcher gives each failed request to its version's `Failures`; gateway/debugging hands them out. Nothing is
looked at while requests succeed. Bodies are kept as they came, in memory only, and redacted when handed out, in a
thread. Refusals (503) are no failures: nothing of them can be replayed.

There is one ring a model, not a version: a replay after the cell was mended asks for a failure of the version before.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo, NotFound
from nbserve.gateway.request import Request
from nbserve.redaction import redacted
from nbserve.wire.failure import Failure, FailureDetail, KeptRequest
from nbserve.wire.messages import RequestItem

__all__ = ["MAX_BYTES", "OVERHEAD_BYTES", "FailureStore", "Failures", "Kept", "Ring", "detail"]

MAX_BYTES = 32_000_000
"""Of one model's failures, in memory: four bodies of the largest size (config.BODY_LIMIT_BYTES), thousands of 10 KB."""
OVERHEAD_BYTES = 2_000
"""Of memory for each beside body and error text: objects, ids, strings (CPython 3.11: 1.2 to 1.9 KB)."""
MAX_TEXT_CHARS = 20_000
"""Of an error's message: a handler may put its whole input into it."""
_NAMES_IN_BATCH = 256
"""Request ids of a batch that are kept with each of its failures."""


class Kept(NamedTuple):
    """A failed request. `redact`: names of fields, in lower case. `body` None: it alone was larger than the ring."""

    failure: Failure
    item: RequestItem
    body: bytes | None
    redact: frozenset[str]

    @property
    def size_bytes(self) -> int:
        """Of memory, all in all."""
        error = self.failure.error
        text = len(error.message) + sum(map(len, error.traceback)) + sum(map(len, self.failure.batch))
        return len(self.body or b"") + 4 * text + OVERHEAD_BYTES  # a character of a str takes up to 4 bytes


class Ring:
    """The last failures of one model, oldest first; what does not fit any more drops out at the front."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.kept: deque[Kept] = deque()
        self.size_bytes = 0
        self._max_bytes = max_bytes

    def add(self, new: Kept, count: int) -> None:
        """Take one in; at most `count` are kept."""
        if new.size_bytes > self._max_bytes:
            new = new._replace(body=None)
        self.kept.append(new)
        self.size_bytes += new.size_bytes
        while self.kept and (len(self.kept) > count or self.size_bytes > self._max_bytes):
            self.size_bytes -= self.kept.popleft().size_bytes

    def find(self, word: str) -> Kept:
        """By id, by request id (the last one with it), or "last". Raises NotFound."""
        for one in reversed(self.kept):
            if word in ("last", one.failure.id, one.failure.request_id):
                return one
        raise NotFound(f"no failure {word!r} is kept", hint="`nbserve failures NAME` shows those that are")

    def batch_of(self, one: Kept) -> list[Kept]:
        """The whole batch of a failure, in order, if every request of it failed and is kept; else nothing."""
        failure = one.failure
        mates = [
            mate
            for mate in self.kept
            if mate.failure.batch_id == failure.batch_id and mate.failure.version == failure.version
        ]
        by_row = {mate.failure.row: mate for mate in mates}
        whole = len(failure.batch) > 1 and sorted(by_row) == list(range(len(failure.batch)))
        return [by_row[row] for row in sorted(by_row)] if whole else []


class FailureStore:
    """The rings of a gateway, by model. All calls on the loop's thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._rings: dict[str, Ring] = {}
        self._numbers = itertools.count(1)
        self._clock = clock

    def of(self, name: str, version: str, bundle: str, config: ModelConfig) -> Failures | None:
        """Where the failures of a version go; None where none are to be kept."""
        return Failures(self, name, version, bundle, config) if config.failures else None

    def ring(self, name: str) -> Ring:
        """Of a model; an empty one where it has had no failure."""
        return self._rings.get(name) or Ring()

    def add(self, kept: Kept, count: int) -> None:
        """Number a failure and keep it."""
        failure = kept.failure
        failure.id, failure.at = f"{failure.model}-{next(self._numbers)}", self._clock()
        self._rings.setdefault(failure.model, Ring()).add(kept, count)

    def forget(self, name: str) -> int:
        """Drop all failures of a model; how many there were."""
        ring = self._rings.pop(name, None)
        return len(ring.kept) if ring else 0


class Failures:
    """One version's way into the store; called by its batcher, for failed requests only."""

    def __init__(self, store: FailureStore, name: str, version: str, bundle: str, config: ModelConfig) -> None:
        self._store, self._name, self._version, self._bundle = store, name, version, bundle
        self._config = config
        self._redact = frozenset(each.lower() for each in config.redact)

    def take(
        self, request: Request, batch: Sequence[Request], batch_id: int, worker: int, error: ErrorInfo, *, lost: bool
    ) -> None:
        """A request of this batch failed. `lost`: with its worker or at the time limit, not by an answer of its own."""
        if error.status == 503:
            return
        failure = Failure(
            id="",
            model=self._name,
            version=self._version,
            at=0.0,
            request_id=request.item.request_id,
            status=error.status,
            error=_bounded(error),
            content_type=request.item.content_type,
            body_bytes=len(request.body),
            bundle=self._bundle,
            worker=worker,
            batch_id=batch_id,
            row=next((place for place, each in enumerate(batch) if each is request), 0),
            batch=[each.item.request_id for each in batch[:_NAMES_IN_BATCH]],
            alone=len(batch) == 1 or not (lost or (self._config.isolate == "off" and error.stage not in _BY_ROW)),
        )
        self._store.add(Kept(failure, request.item, request.body, self._redact), self._config.failures)


_BY_ROW = ("decode", "encode")
"""Stages that run row by row, so that neighbours have no part in their failures."""


def detail(one: Kept, batch: Sequence[Kept]) -> FailureDetail:
    """A failure with its request and its batch, redacted. Takes as long as its JSON is large: for a thread."""
    return FailureDetail(failure=one.failure, request=_handed_out(one), batch=[_handed_out(mate) for mate in batch])


def _handed_out(one: Kept) -> KeptRequest:
    item = one.item
    body = one.body
    withheld = ""
    if body is None:
        withheld = f"its {one.failure.body_bytes} bytes were too many to keep"
    elif one.redact:
        body = redacted(body, one.redact)
        withheld = "" if body is not None else "it is no JSON, so that nothing could be redacted in it"
    return KeptRequest(
        request_id=item.request_id,
        content_type=item.content_type,
        route=item.route,
        headers=item.headers,
        body=body,
        withheld=withheld,
    )


def _bounded(error: ErrorInfo) -> ErrorInfo:
    """An error whose text is no larger than anybody reads."""
    lines = [line[:MAX_TEXT_CHARS] for line in error.traceback[-200:]]
    details = {key: value[:MAX_TEXT_CHARS] if isinstance(value, str) else value for key, value in error.details.items()}
    return msgspec.structs.replace(error, message=error.message[:MAX_TEXT_CHARS], traceback=lines, details=details)
