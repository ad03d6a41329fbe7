"""Failed requests as a reader sees them: the table, and the card of one with its cell's lines and the row at fault.

`Failures` is what the verb `failures` and `Endpoint.failures` return; one of it, `FailedRequest`, shows its card. What
comes from outside (messages, bodies, ids) stays text: escaped in HTML, control characters shown as escapes.
"""

from __future__ import annotations

import html
import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nbserve.errors import BundleError, ErrorInfo, NotFound
from nbserve.resolve import Gateways, Served
from nbserve.wire.failure import Failure, FailureDetail, KeptRequest

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["FailedRequest", "Failures", "SourceLine", "failures", "find_failure", "plain_text", "source_lines"]

SHOWN_CHARS = 2_000
"""Of a body on the card."""
_AROUND = 3
"""Lines of source above and below the one that failed."""
_PLACE = re.compile(r"(?P<where>.+), line (?P<line>\d{1,9})")


def failures(served: Served, forget: bool = False) -> Failures:
    """The failed requests that the gateway remembers of an endpoint, the last one first.

    forget: have it forget them, of all versions, and return what is left. Raises NotFound.
    """
    found = Failures(served, served.client.failures(served.name, served.version))
    if forget:
        found.forget()
    return found


def find_failure(gateways: Gateways, word: str, *, gateway: str = "") -> tuple[Served, FailureDetail]:
    """By a failure's id (`digits-3`), the id of its request, or an endpoint's name (its last failure).

    Raises NotFound, UsageError where several gateways serve that endpoint.
    """
    name, _, where = word.partition("@")
    where = gateway or where
    model = name.rpartition("-")[0]
    for each in gateways.matching(where):
        for served in [Served(each.client, found.name) for found in each.status.models]:
            if served.name == name:
                served = gateways.find(name, gateway=where)
                return served, served.client.failure(name, "last")
            if served.name == model or any(one.request_id == name for one in served.client.failures(served.name)):
                try:
                    return served, served.client.failure(served.name, name)
                except NotFound:
                    continue
    raise NotFound(f"no failure {name!r} is kept", hint="`nbserve failures NAME` shows those that are")


class Failures(list[Failure]):
    """The table. An index gives a `FailedRequest`, which shows its card; as plain data it is a list of Failure."""

    def __init__(self, served: Served, found: list[Failure]) -> None:
        super().__init__(found)
        self._served = served

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Failures(self._served, found) if isinstance(index, slice) else FailedRequest(self._served, found)

    def __iter__(self) -> Iterator[Any]:
        return (FailedRequest(self._served, found) for found in super().__iter__())

    def __repr__(self) -> str:
        from nbserve.tables import to_text

        return to_text(self.table())

    def _repr_html_(self) -> str:
        if not self:
            return f"<div>{html.escape(_NONE)}</div>"
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        rows = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in _cells(each.failure))}</tr>" for each in self
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def forget(self) -> None:
        """Have the gateway forget the failures of this endpoint, of all its versions."""
        self._served.client.forget_failures(self._served.name)
        self.clear()

    def table(self) -> Table | str:
        """For a terminal."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        if not self:
            return _NONE
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name in _COLUMNS:
            table.add_column(name, overflow="fold", no_wrap=name in ("id", "when", "status", "row"))
        for each in self:
            table.add_row(*map(Text, _cells(each.failure)))
        return table


_NONE = "no failed request is remembered"
_COLUMNS = ("id", "when", "status", "type", "message", "stage", "where", "row")


def _cells(failure: Failure) -> tuple[str, ...]:
    error = failure.error
    cells = (
        failure.id,
        when(failure.at),
        str(failure.status),
        error.type,
        _short(error.message, 120),
        error.stage,
        error.where,
        row_text(failure),
    )
    return tuple(map(plain_text, cells))


class FailedRequest:
    """One failure. Its request is asked for when it is looked at; it may have dropped out by then (NotFound)."""

    def __init__(self, served: Served, failure: Failure) -> None:
        self._served = served
        self.failure = failure
        self._detail: FailureDetail | None = None

    @property
    def id(self) -> str:
        """What `replay` takes."""
        return self.failure.id

    def detail(self) -> FailureDetail:
        """With the request as it came, redacted where that was asked for. Raises NotFound, GatewayError."""
        if self._detail is None:
            self._detail = self._served.client.failure(self._served.name, self.failure.id)
        return self._detail

    @property
    def request(self) -> KeptRequest:
        """The request as it came. Raises NotFound, GatewayError."""
        return self.detail().request

    def replay(self, **options: Any) -> Any:
        """Run it again in this notebook; see `Endpoint.replay`."""
        from nbserve.notebook.replay import replay_here

        return replay_here(self._served, self.detail(), **options)

    def __repr__(self) -> str:
        parts = [self._title(), *(f"  {line}" for line in self._facts())]
        source = self._source()
        if source:
            parts += ["", *(f"{'-->' if line.failed else '   '} {line.number:4} {line.text}" for line in source)]
        body = self._body()
        return "\n".join([*parts, "", *(f"  {line}" for line in body.splitlines()), "", *self._commands()])

    def _repr_html_(self) -> str:
        facts = "".join(f"<div>{html.escape(fact)}</div>" for fact in self._facts())
        source = "\n".join(
            f"<b>--&gt; {line.number:4} {html.escape(line.text)}</b>"
            if line.failed
            else f"    {line.number:4} {html.escape(line.text)}"
            for line in self._source()
        )
        commands = "\n".join(map(html.escape, self._commands()))
        return (
            f'<div class="nbserve-failure"><div><b>{html.escape(self._title())}</b></div>{facts}'
            + (f"<pre>{source}</pre>" if source else "")
            + f"<details open><summary>row</summary><pre>{html.escape(self._body())}</pre></details>"
            f"<pre>{commands}</pre></div>"
        )

    def _source(self) -> list[SourceLine]:
        error = self.failure.error
        return source_lines(Path(self.failure.bundle), error.where, _text_of(error))

    def _title(self) -> str:
        error = self.failure.error
        return plain_text(f"{self.id}: {self.failure.status} {error.type}: {_short(error.message, 300)}")

    def _facts(self) -> list[str]:
        failure, error = self.failure, self.failure.error
        place = " in ".join(filter(None, [error.where, error.stage and f"stage {error.stage}"]))
        row = f"row {row_text(failure)} of batch {failure.batch_id}, worker #{failure.worker}"
        neighbours = "" if failure.alone else "; it failed together with the others, alone it was not tried"
        return [
            plain_text(fact)
            for fact in (
                f"{when(failure.at)}, {failure.model} version {failure.version}, request {failure.request_id}",
                place,
                f"{row}{neighbours}",
                error.hint,
            )
            if fact
        ]

    def _body(self) -> str:
        try:
            request = self.request
        except NotFound:
            return "the request is not kept any more"
        if request.body is None:
            return f"the body is withheld: {request.withheld}"
        return body_text(request.content_type, request.body)

    def _commands(self) -> list[str]:
        word = shlex.quote(self.id)
        stage = self.failure.error.stage
        stop_at = f"%nbserve replay {word} --break {stage}" if stage in STAGES else ""
        live = f"%nbserve replay {word} --against live"
        return [line for line in (f"%nbserve replay {word}", f"%nbserve replay {word} --pdb", stop_at, live) if line]


STAGES = ("preprocess", "inference", "postprocess")
"""The stages that are the handler's own methods."""


class SourceLine(NamedTuple):
    """A line of a cell as it was served."""

    number: int
    text: str
    failed: bool


def source_lines(bundle: Path, where: str, text: str = "") -> list[SourceLine]:
    """The lines around "In[5], line 3", as they were served; none where the bundle does not have them (any more).

    text: of that line. Equal code makes one bundle, which knows the last cell that it came from: where this is not the
    one, the line is found by its text, if no other reads the same.
    """
    from nbserve.bundle import Bundle

    match = _PLACE.fullmatch(where)
    if match is None:
        return []
    label, at = match["where"], int(match["line"])
    try:
        opened = Bundle.open(bundle)
        for span in opened.provenance.source_map:
            if span.where == label and span.line <= at <= span.line + span.end - span.start:
                return _around(_lines_of(bundle / "handler.py"), at, at - span.line + span.start, span.start, span.end)
        file = label if label == "handler.py" else f"modules/{label}"
        if file not in opened.manifest.files:
            lines = _lines_of(bundle / "handler.py")
            alike = [number for number, line in enumerate(lines, 1) if text and line.strip() == text]
            return _around(lines, at, alike[0], 1, len(lines)) if len(alike) == 1 else []
        lines = _lines_of(bundle / file)
        return _around(lines, at, at, 1, len(lines))
    except (BundleError, OSError):
        return []


def _text_of(error: ErrorInfo) -> str:
    """The source of the line where it failed, as the traceback has it after the place's last mention."""
    places = [number for number, line in enumerate(error.traceback[:-1]) if line.startswith(f"{error.where}, in ")]
    return error.traceback[places[-1] + 1].strip() if places and error.where else ""


def _around(lines: list[str], at: int, in_file: int, first: int, last: int) -> list[SourceLine]:
    """Lines around `in_file`, within `first` to `last`, numbered so that it is line `at`."""
    numbers = range(max(first, in_file - _AROUND), min(last, in_file + _AROUND, len(lines)) + 1)
    return [SourceLine(at + number - in_file, lines[number - 1], number == in_file) for number in numbers]


def _lines_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def body_text(content_type: str, body: bytes) -> str:
    """A body for a reader: JSON in lines, text as it is, the beginning of anything else."""
    try:
        text = body.decode()
        if "json" in content_type or not content_type:
            text = json.dumps(json.loads(text), indent=1, ensure_ascii=False) if len(text) < SHOWN_CHARS else text
    except (ValueError, RecursionError):
        text = "" if _is_binary(body) else body.decode(errors="replace")
    if not text and body:
        return f"{len(body)} bytes of {plain_text(content_type) or 'unknown type'}, starting {body[:60]!r}"
    return plain_text(_short(text, SHOWN_CHARS), keep_lines=True)


def _is_binary(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return True
    return False


def row_text(failure: Failure) -> str:
    """ "2 of 8"; a request that was alone in its batch is "1 of 1"."""
    return f"{failure.row + 1} of {max(1, len(failure.batch))}"


def when(at: float) -> str:
    """Unix time as local time; with the day where it is not today."""
    local = time.localtime(at)
    is_today = local[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", local)


def plain_text(text: str, *, keep_lines: bool = False) -> str:
    """Text from outside without control characters, which a terminal obeys: they are shown as escapes."""
    kept = "\n\t" if keep_lines else ""
    return "".join(
        char if char.isprintable() or char in kept else repr(char)[1:-1] if char != "\n" else " " for char in text
    )


def _short(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[:chars]}... ({len(text)} characters)"
