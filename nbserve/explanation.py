"""What a bundle is made of, read from its manifest and provenance: the verb `explain`, and the card.

All of it is in the bundle's folder. Where the notebook that captured it runs in this process, it also says what has
changed since, and shows the text of cells (`remember`).
"""

from __future__ import annotations

import ast
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from nbserve.errors import BundleError, UsageError
from nbserve.resolve import Gateways, bundle_folder
from nbserve.wire.management import ModelStatus

if TYPE_CHECKING:
    from nbserve.bundle.proof import Sample

__all__ = [
    "Entry",
    "Explanation",
    "Live",
    "Skipped",
    "Variable",
    "bundle_explanation",
    "changes_since",
    "explain",
    "explanation",
    "of_variable",
    "read_sample",
    "remember",
    "shared_bytes",
]


class Entry(msgspec.Struct):
    """One thing that was captured. `bytes`: of its data or its source; `chain`: from the handler to it; `needs`: what
    it refers to; `bound`: cells that bound the name, in the order in which they ran, as (label, line).
    """

    name: str
    how: str
    where: str = ""
    bytes: int = 0
    chain: list[str] = msgspec.field(default_factory=list)
    note: str = ""
    needs: list[str] = msgspec.field(default_factory=list)
    bound: list[tuple[str, int]] = msgspec.field(default_factory=list)


class Skipped(msgspec.Struct):
    """What was seen and not taken. `why` completes "X was not taken: "."""

    name: str
    why: str
    where: str = ""


class Variable(msgspec.Struct):
    """One captured name. `needed_by`: all that refer to it. `source`: the line or statement that made it, "" where
    only the cell knows it and its notebook is not this process.
    """

    name: str
    source: str = ""
    source_where: str = ""
    needed_by: list[str] = msgspec.field(default_factory=list)


class Explanation(msgspec.Struct):
    """What was captured, how, from which cell; what the proof said.

    `version` and `proof` are those of the endpoint, empty for a bundle that is looked at alone.
    """

    name: str
    version: str
    bundle: str
    digest: str
    proof: dict[str, Any]
    entries: list[Entry]
    warnings: list[str]
    origin: str = ""
    """When, where and with which Python it was captured."""
    requirements: list[str] = msgspec.field(default_factory=list)
    has_sample: bool = False
    skipped: list[Skipped] = msgspec.field(default_factory=list)
    imported: list[str] = msgspec.field(default_factory=list)
    """Requirements that no captured line names; the sample run imported them."""
    changed: list[str] = msgspec.field(default_factory=list)
    """What is another in the notebook now; empty, too, where this process is not that notebook."""
    variable: Variable | None = None
    """The one that was asked for; then `entries` are its chain from the handler, itself the last."""

    def __repr__(self) -> str:
        from nbserve.explained import as_renderable
        from nbserve.tables import to_text

        return to_text(as_renderable(self))

    def _repr_html_(self) -> str:
        from nbserve.explained_html import as_html

        return as_html(self)


class Live(Protocol):
    """The notebook that captured a bundle: `capture.snapshot.Snapshot`."""

    @property
    def bundle(self) -> Path: ...
    def changes(self) -> list[str]: ...
    def statement(self, name: str, label: str) -> str: ...


_QUICK_BYTES = 1_000_000_000
"""Compared in half a second."""
_LIVE: dict[str, Live] = {}
"""Endpoint -> what this process captured for it last."""


def remember(name: str, live: Live) -> None:
    """From now on, explain compares what this endpoint serves with what is live."""
    _LIVE[name] = live


def explain(gateways: Gateways, name: str, variable: str = "", gateway: str = "", version: str = "") -> Explanation:
    """What was captured, how, from which cell: of an endpoint (and what its proof said), or of a bundle's folder.

    variable: only this name. Raises UsageError where it was not captured, BundleError, NotFound.
    """
    folder = bundle_folder(name)
    if folder is not None:
        return bundle_explanation(folder, variable)
    return explanation(gateways.find(name, gateway=gateway, version=version).model(), variable)


def explanation(model: ModelStatus, variable: str = "", *, compare: bool = True) -> Explanation:
    """Of a served version. compare: with what is live in this notebook, which reads all tensors (0.25 s for 400 MB).

    Raises BundleError where its bundle cannot be read here, UsageError.
    """
    live = _live(model)
    found = _whole(Path(model.bundle))
    found = msgspec.structs.replace(found, name=model.name, version=model.version, proof=model.proof)
    found.warnings += model.warnings  # what workers found out while they serve
    if live is not None and compare:
        found.changed = live.changes()
    return of_variable(found, variable, live) if variable else found


def changes_since(model: ModelStatus) -> list[str]:
    """What is another in this notebook than what is served; where that takes long, only `explain` tells."""
    live = _live(model)
    return live.changes() if live is not None and shared_bytes(Path(model.bundle)) <= _QUICK_BYTES else []


def _live(model: ModelStatus) -> Live | None:
    live = _LIVE.get(model.name)
    return live if live is not None and str(live.bundle) == model.bundle else None


def bundle_explanation(bundle: Path, variable: str = "") -> Explanation:
    """Of a bundle, from its folder alone. Raises BundleError where it cannot be read, UsageError."""
    found = _whole(bundle)
    return of_variable(found, variable, None) if variable else found


def _whole(bundle: Path) -> Explanation:
    from nbserve.bundle.values import read_manifest

    found, manifest = _read(bundle), read_manifest(bundle)
    return Explanation(
        name=manifest.name,
        version="",
        bundle=str(bundle.absolute()),
        digest=manifest.digest(),
        proof={},
        entries=found.entries,
        warnings=found.warnings,
        origin=_origin(found),
        requirements=manifest.requirements,
        has_sample=(bundle / "sample.json").is_file(),
        skipped=found.skipped,
        imported=found.imported,
    )


def of_variable(found: Explanation, name: str, live: Live | None) -> Explanation:
    """The same for one captured name. Raises UsageError where it was not captured, saying why where that is known."""
    by_name = {entry.name: entry for entry in found.entries}
    entry = by_name.get(name)
    if entry is None:
        skipped = next((one for one in found.skipped if one.name == name), None)
        place = f" ({skipped.where})" if skipped is not None and skipped.where else ""
        why = f"{place}: {skipped.why}" if skipped is not None else ": nothing that is served uses it"
        raise UsageError(f"{name} was not captured{why}", hint=f"captured are: {', '.join(sorted(by_name))}")
    source, where = _source(Path(found.bundle) / "handler.py", name), "handler.py"
    if entry.how in ("value", "pickle (live only)"):
        source, where = (live.statement(name, entry.where) if live is not None else ""), entry.where
    needed_by = [one.name for one in found.entries if name in one.needs]
    chain = [by_name[one] for one in entry.chain if one in by_name and one != name]
    mentions = [text for text in found.warnings if name in text.replace("`", " ").split()]
    return msgspec.structs.replace(
        found,
        entries=[*chain, entry],
        warnings=mentions,
        skipped=[],
        variable=Variable(name, source, where if source else "", needed_by),
    )


def _source(handler: Path, name: str) -> str:
    """The statement of a handler.py that makes a global; "" where there is none."""
    try:
        text = handler.read_text("utf-8")
        body = ast.parse(text).body
    except (OSError, SyntaxError):
        return ""
    for node in body:
        names = [alias.asname or alias.name for alias in node.names] if isinstance(node, _IMPORTS) else []
        names += [node.name] if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) else []
        names += [ast.unparse(target) for target in node.targets] if isinstance(node, ast.Assign) else []
        if name in names:
            first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
            return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    return ""


_IMPORTS = (ast.Import, ast.ImportFrom)


class _Provenance(msgspec.Struct):
    created_at: float = 0.0
    host: str = ""
    python: str = ""
    platform: str = ""
    entries: list[Entry] = msgspec.field(default_factory=list)
    warnings: list[str] = msgspec.field(default_factory=list)
    skipped: list[Skipped] = msgspec.field(default_factory=list)
    imported: list[str] = msgspec.field(default_factory=list)


def _origin(found: _Provenance) -> str:
    parts = [f"Python {found.python}" if found.python else "", found.platform, found.host]
    if found.created_at:
        parts.insert(0, time.strftime("%Y-%m-%d %H:%M", time.localtime(found.created_at)))
    return ", ".join(filter(None, parts))


def shared_bytes(bundle: Path) -> int:
    """Data in a bundle that its workers share, one copy for all; 0 where the bundle cannot be read."""
    try:
        return sum(entry.bytes for entry in _read(bundle).entries if entry.how == "value")
    except BundleError:
        return 0


def _read(bundle: Path) -> _Provenance:
    path = bundle / "provenance.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Provenance)
    except FileNotFoundError:
        if not bundle.is_dir():
            raise BundleError(f"the bundle {bundle} is gone") from None
        return _Provenance()  # a bundle that was not captured from a notebook need not have one
    except (OSError, msgspec.MsgspecError) as exc:
        raise BundleError(f"{path} cannot be read: {exc}") from exc


def read_sample(bundle: str) -> Sample | None:
    """The sample in a bundle, None where it has none."""
    from nbserve.bundle.proof import parse_sample

    path = Path(bundle) / "sample.json"
    return parse_sample(path.read_bytes()) if path.is_file() else None
