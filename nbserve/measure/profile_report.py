"""A profile or an advice for readers: a rich renderable for terminals, plain text, HTML for notebooks.

Called by the verbs `profile` and `advise` and by `ProfileResult`'s reprs. Names of operators are not ours: all is
escaped. rich is imported at the point of use.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nbserve.measure.advice.finding import Finding
from nbserve.wire.profile import ProfileStatus

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nbserve.measure.profile_result import ProfileResult

__all__ = ["as_html", "as_text", "finding_rows", "findings_html", "renderable", "statuses", "told_findings"]

ROWS = 15
"""Operators that are shown."""
NO_FINDINGS = "no rule of advice has anything to say"


def renderable(result: ProfileResult) -> RenderableType:
    """The whole report."""
    from rich.console import Group
    from rich.text import Text

    from nbserve.tables import new_table

    parts: list[RenderableType] = [Text(line) for line in _lines(result)]
    for title, columns, rows in _tables(result):
        table = new_table(*columns)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        parts += [Text(""), Text(title), table]
    return Group(*parts, Text(""), told_findings(result.findings))


def told_findings(findings: Sequence[Finding]) -> RenderableType:
    """What the rules say, in paragraphs."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    if not findings:
        return Text(NO_FINDINGS)
    parts: list[RenderableType] = []
    for finding in findings:
        head, *rest = finding_rows(finding)
        parts.append(Text(head, style="bold yellow" if finding.level == "warning" else "bold"))
        parts += [Padding(Text(line), (0, 0, 0, 2)) for line in rest]
    return Group(*parts)


def finding_rows(finding: Finding) -> list[str]:
    """One finding as lines."""
    return [
        f"{finding.level}: {finding.what}",
        f"why: {finding.why}",
        f"to do: {finding.todo}",
        f"({finding.rule}; from {finding.threshold:g} on: {finding.source})",
    ]


def as_text(result: ProfileResult, width: int = 120) -> str:
    """As plain text."""
    from nbserve.tables import to_text

    return to_text(renderable(result), width)


def as_html(result: ProfileResult) -> str:
    """For notebooks: tables that need no style sheet."""
    told = "".join(f"<div>{_e(line)}</div>" for line in _lines(result))
    tables = "".join(
        f"<p><strong>{_e(title)}</strong></p>{_table(columns, rows)}" for title, columns, rows in _tables(result)
    )
    return f'<div class="nbserve-profile">{told}{findings_html(result.findings)}{tables}</div>'


def findings_html(findings: Sequence[Finding]) -> str:
    """The findings as a list."""
    if not findings:
        return f"<p>{NO_FINDINGS}</p>"
    items = []
    for finding in findings:
        head, *rest = finding_rows(finding)
        items.append(f"<li><strong>{_e(head)}</strong>{''.join(f'<div>{_e(line)}</div>' for line in rest)}</li>")
    return f"<ul>{''.join(items)}</ul>"


def statuses(kept: Sequence[ProfileStatus]) -> RenderableType | str:
    """`profile --list`."""
    from nbserve.tables import megabytes, new_table

    if not kept:
        return "no profile is kept"
    table = new_table("id", "version", "worker", "state", "batches", "events", "trace", "")
    for one in kept:
        trace = megabytes(one.trace_bytes) if one.has_trace else ""
        said = one.error or one.truncated or one.note
        worker = "" if one.worker is None else str(one.worker)
        table.add_row(one.id, one.version, worker, one.state, str(one.batches), f"{one.events:,}", trace, said)
    return table


def _lines(result: ProfileResult) -> Iterator[str]:
    status = result.status
    how = result.profiler or "stages only"
    yield (
        f"{status.name} version {status.version}, worker {status.worker} on {result.device}: {status.batches} batches, "
        f"{result.requests} requests, {status.events:,} events in {status.seconds:.2f} s ({how})"
    )
    for said in (status.truncated, status.note):
        if said:
            yield said
    if result.system is not None:
        for why in dict.fromkeys(result.system.missing.values()):
            who = ", ".join(who for who, reason in result.system.missing.items() if reason == why)
            yield f"not sampled: {who}: {why}"
    if result.file:
        yield f"trace: {result.file} (open it in ui.perfetto.dev)"


def _tables(result: ProfileResult) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, columns and rows of each."""
    total = sum(result.stages_ms.values())
    if total:
        rows = [[stage, f"{ms:.3f}", f"{ms / total:.0%}"] for stage, ms in result.stages_ms.items()]
        yield "a request, on average", ["stage", "ms", "share"], rows
    operators = result.operators[:ROWS]
    if operators:
        own_us = sum(operator.self_us for operator in result.operators)
        rows = [
            [
                operator.name[:80],
                operator.kind,
                f"{operator.self_us / 1e3:.3f}",
                f"{operator.self_us / own_us:.0%}" if own_us else "",
                f"{operator.total_us / 1e3:.3f}",
                f"{operator.calls:,}",
                operator.shapes[0][:60] if operator.shapes else "",
            ]
            for operator in operators
        ]
        title = f"operators, by their own time ({len(operators)} of {len(result.operators)})"
        yield title, ["name", "on", "self ms", "share", "total ms", "calls", "shapes"], rows
    if result.system is not None:
        rows = [
            [who, *(f"{parts.get(part, 0.0):.0%}" for part in ("framework", "python", "native", "idle"))]
            for who, parts in result.system.shares.items()
        ]
        if rows:
            title = f"processes, sampled by py-spy for {result.system.seconds:.1f} s"
            yield title, ["process", "framework", "python", "native", "idle"], rows


def _table(columns: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{_e(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_e(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _e(text: str) -> str:
    return html.escape(text)
