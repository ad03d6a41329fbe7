"""The card of an endpoint: plain text and HTML, with snippets that work when pasted and hold no token.

Called by `Endpoint`'s reprs. HTML follows the front end's theme through its --jp-* variables; every value is escaped.
"""

from __future__ import annotations

import base64
import html
import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nbserve.discovery import home
from nbserve.errors import BundleError, GatewayError, NbserveError
from nbserve.explained_html import graph_html
from nbserve.explanation import Entry, explanation, read_sample, shared_bytes
from nbserve.notebook.picture import Picture, draw
from nbserve.tables import entry_size, memory_line, proof_line
from nbserve.wire.management import GatewayStatus, ModelStatus
from nbserve.wire.numbers import Numbers

__all__ = ["Card", "as_html", "as_text", "build", "curl_snippet", "obituary", "python_snippet"]

_INLINE_BYTES = 300
"""A larger sample goes to a file that the snippets read."""


@dataclass(frozen=True)
class Card:
    """What a card says: made once by `build`, then shown as text and as HTML."""

    title: str
    url: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    workers: list[tuple[str, ...]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    curl: str = ""
    python: str = ""
    error: list[str] = field(default_factory=list)
    picture: Picture | None = None
    graph: str = ""
    """What was captured, as SVG."""


def as_text(card: Card) -> str:
    """The card where HTML is not shown."""
    lines = [card.title, f"  {card.url}"]
    lines += [f"  {label}: {text}" for label, text in card.lines]
    lines += ["  worker " + ", ".join(cell for cell in row if cell) for row in card.workers]
    if card.entries:
        lines += ["  captured:"] + [f"    {_entry_line(entry)}" for entry in card.entries]
    lines += [f"  warning: {warning}" for warning in card.warnings]
    lines += [f"  {line}" for line in card.error]
    for snippet in filter(None, (card.curl, card.python)):
        lines += ["", *snippet.splitlines()]
    return "\n".join(lines)


def as_html(card: Card) -> str:
    """The card for notebooks."""
    facts = "".join(f"<div><b>{_e(label)}</b> {_e(text)}</div>" for label, text in card.lines)
    warnings = "".join(f'<div class="nbserve-warning">{_e(warning)}</div>' for warning in card.warnings)
    errors = f"<pre>{_e(chr(10).join(card.error))}</pre>" if card.error else ""
    workers = _table(("worker", "state", "process", "cores"), card.workers) if card.workers else ""
    rows = [(entry.name, entry.how, entry.where, entry_size(entry)) for entry in card.entries]
    captured = _details(f"captured: {len(rows)}", _table(("name", "how", "from", "size"), rows)) if rows else ""
    captured += _details("who needs what", card.graph) if card.graph else ""
    snippets = "".join(
        _details(name, f"<pre>{_e(code)}</pre>")
        for name, code in (("curl", card.curl), ("Python", card.python))
        if code
    )
    return (
        f'<div class="nbserve-card">{_STYLE}<div class="nbserve-title">{_e(card.title)}</div>'
        f"<div><code>{_e(card.url)}</code></div>{facts}{warnings}{errors}{_image(card.picture)}{workers}{captured}"
        f"{snippets}</div>"
    )


def curl_snippet(model: ModelStatus, reference: str) -> str:
    """A request from a shell; the token is read when it runs. `reference`: name or name@gateway."""
    command = "nbserve" if shutil.which("nbserve") else f"{shlex.quote(sys.executable)} -m nbserve"
    body, content_type = _sample_body(model)
    return (
        f'curl -H "Authorization: Bearer $({command} token {shlex.quote(reference)})" \\\n'
        f"     -H {shlex.quote(f'Content-Type: {content_type}')} \\\n"
        f"     --data-binary {shlex.quote(body)} {shlex.quote(model.url)}"
    )


def python_snippet(model: ModelStatus, reference: str) -> str:
    """A request from another Python program of this machine; the token is read when it runs."""
    body, content_type = _sample_body(model)
    is_json = content_type == "application/json"
    if body.startswith("@"):
        opened = f"open({body[1:]!r}, 'rb')"
        value = f"json.load({opened})" if is_json else f"{opened}.read()"
    else:
        value = repr(json.loads(body)) if is_json else f"{body!r}.encode()"
    imports = "import json\n\n" if "json.load(" in value else ""
    extra = "" if is_json else f", content_type={content_type!r}"
    return (
        f"{imports}from nbserve import Endpoint\n\n"
        f"endpoint = Endpoint.find({reference!r})\nprint(endpoint.predict({value}{extra}))"
    )


def build(model: ModelStatus, gateway: GatewayStatus | None, numbers: Numbers | None = None) -> Card:
    """Read the bundle for what was captured, and find out how the endpoint is named without doubt."""
    entries: list[Entry] = []
    warnings: list[str] = []
    graph = ""
    with suppress(BundleError):
        explained = explanation(model, compare=False)
        entries, warnings, graph = explained.entries, explained.warnings, graph_html(explained)
    available = gateway.memory.get("available_bytes", 0) if gateway else 0
    lines = [("memory", memory_line(model.config.workers, shared_bytes(Path(model.bundle)), available))]
    if model.state == "READY":
        lines.append(("proof", proof_line(model.proof)))
    reference = _reference(model, gateway)
    return Card(
        title=f"{model.name} version {model.version}: {model.state.lower()}",
        url=model.url,
        lines=lines,
        workers=[
            (
                f"#{worker.id}",
                worker.state.lower(),
                f"pid {worker.pid}" if worker.pid else "",
                f"cores {','.join(map(str, worker.cores))}" if worker.cores else "",
            )
            for worker in model.workers
        ],
        entries=entries,
        warnings=warnings,
        graph=graph,
        curl=curl_snippet(model, reference),
        python=python_snippet(model, reference),
        picture=draw(model, gateway.placement.get("cores", []) if gateway else [], numbers),
        error=[f"{model.error.type}: {model.error.message}", *model.error.traceback] if model.error else [],
    )


def obituary(model: ModelStatus, why: NbserveError) -> Card:
    """Of one whose gateway does not answer, or serves it no more: why, and what to do."""
    state = "its gateway does not answer" if isinstance(why, GatewayError) else "not served any more"
    hint = why.hint or "run the serving cell again"
    title = f"{model.name} version {model.version}: {state}"
    return Card(title=title, url=model.url, error=[why.message, f"What to do: {hint}"])


def _reference(model: ModelStatus, gateway: GatewayStatus | None) -> str:
    """How the snippets name the endpoint: by name, with the gateway where the name alone means several."""
    from nbserve.resolve import Gateways

    if gateway is not None:
        with suppress(NbserveError):
            serving = [each for each in Gateways() if each.serves(model.name, "")]
            if len(serving) > 1:
                return f"{model.name}@{gateway.id}"
    return model.name


def _sample_body(model: ModelStatus) -> tuple[str, str]:
    """(body as text or @file, content type) for a snippet: the sample's, where there is one."""
    sample = None
    with suppress(BundleError):
        sample = read_sample(model.bundle)
    if sample is None:
        return '"your request"', "application/json"
    with suppress(UnicodeDecodeError):
        text = sample.body.decode()
        if len(text) <= _INLINE_BYTES and not text.startswith("@"):
            return text, sample.content_type
    folder = home() / "samples"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{Path(model.bundle).name}.{'json' if 'json' in sample.content_type else 'bin'}"
    path.write_bytes(sample.body)
    return f"@{path}", sample.content_type


def _entry_line(entry: Entry) -> str:
    parts = (f"{entry.name}: {entry.how}", entry.where, entry_size(entry))
    return ", ".join(part for part in parts if part)


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{_e(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_e(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{_e(summary)}</summary>{content}</details>"


def _image(picture: Picture | None) -> str:
    """As an image: no page's style reaches into it, and its text is none of the page's."""
    if picture is None:
        return ""
    source = base64.b64encode(picture.svg.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{source}" alt="{_e(picture.description)}">'


def _e(text: str) -> str:
    return html.escape(text)


_STYLE = """<style>
.nbserve-card { color: var(--jp-ui-font-color1, inherit); background: var(--jp-layout-color1, transparent);
  border: 1px solid var(--jp-border-color1, #8888); border-radius: 4px; padding: 8px 12px; max-width: 60em;
  font-family: var(--jp-ui-font-family, sans-serif); font-size: var(--jp-ui-font-size1, 13px); }
.nbserve-card .nbserve-title { font-weight: 600; font-size: 1.15em; }
.nbserve-card .nbserve-warning { color: var(--jp-warn-color0, #b36b00); }
.nbserve-card pre { color: inherit; background: var(--jp-layout-color2, #8881); padding: 6px; margin: 4px 0;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.nbserve-card img { display: block; max-width: 100%; margin: 8px 0; background: none; }
.nbserve-card table { margin: 6px 0; } .nbserve-card td, .nbserve-card th { text-align: left; padding: 1px 10px 1px 0; }
</style>"""
