"""`capture`: the handler and all it needs, ready to be written as a bundle.

Called by `notebook/` for `%%serve_handler` and `%nbserve serve`. Nothing is written until `Captured.write`.
"""

from __future__ import annotations

import ast
import functools
import inspect
import platform
import re
import socket
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from nbserve.bundle.ambient import snapshot
from nbserve.bundle.digests import same_bytes
from nbserve.bundle.folder import Bundle, Content, Draft
from nbserve.bundle.imports import MAX_DOC_BYTES
from nbserve.bundle.manifest import (
    EntryRecord,
    HandlerRecord,
    Kind,
    Manifest,
    Provenance,
    SkippedRecord,
    Span,
    ValueRecord,
    locate_in,
)
from nbserve.bundle.proof import Sample
from nbserve.bundle.requirements import asked
from nbserve.capture.cautions import Text, absolute_paths, partly_used, suspect_strings
from nbserve.capture.cells import Cells
from nbserve.capture.graph import Node
from nbserve.capture.modules import origin
from nbserve.capture.requirements import distributions_of, extras_in_cells, requirements_text, state_of_path
from nbserve.capture.seen import not_taken
from nbserve.capture.walk import Walker
from nbserve.capture.watch import Watch
from nbserve.errors import UsageError

__all__ = ["Captured", "Entry", "capture"]

Entry = EntryRecord


@dataclass
class Captured:
    """What was captured. entries: one row a thing, in handler.py's order. warnings: for the user to read.

    target: what the notebook runs for the proof. values: the live objects that became data, by name. watch: these and
    the literals, as they were when captured; the first worker compares with it what it rebuilt. skipped: what was seen
    and not taken.
    """

    name: str
    kind: Kind
    target: Any
    entries: list[Entry]
    warnings: list[str]
    handler_source: str
    values: dict[str, Any]
    manifest: Manifest
    source_map: list[Span]
    skipped: list[SkippedRecord]
    watch: Watch = field(repr=False)
    _content: Content = field(repr=False)
    imported: list[str] = field(default_factory=list, init=False)
    """Requirements that only the sample run showed; see `note_imports`."""

    @property
    def live_only(self) -> bool:
        """Is a pickle among the values?"""
        return self.manifest.live_only

    def draft(self, root: Path) -> Draft:
        """Its content as it is now, written under `root` before the sample runs; see `finish`. Raises BundleError."""
        return Draft(Path(root), self.manifest, self._content)

    def note_changes(self, draft: Draft) -> None:
        """Warn of values that are not what they were when they were captured: the sample run changed them."""
        self.warnings += [
            f"{path} {'were' if path.endswith(' more') else 'was'} changed in place by the sample run; "
            f"workers start from what it was before"
            for path in self.watch.changed(self.manifest.values, draft.changed())
        ]

    def finish(self, draft: Draft, sample: Sample | None = None) -> Bundle:
        """`root/<name>-<digest12>`; the one that is there is used if content is equal. Raises BundleError."""
        provenance = Provenance(
            created_at=time.time(),
            host=socket.gethostname(),
            python=platform.python_version(),
            platform=platform.platform(),
            entries=self.entries,
            warnings=self.warnings,
            skipped=self.skipped,
            imported=self.imported,
            source_map=self.source_map,
        )
        return draft.finish(provenance, sample, self.watch.fingerprint)

    def differing(self, folder: Path) -> set[str]:
        """Files that are not in a bundle's folder as they would be written now; what a library writes is left out."""
        return {file for file, chunks in self._content.files.items() if not same_bytes(folder / file, chunks())}

    def note_imports(self, roots: Collection[str]) -> None:
        """Top-level packages that the sample run imported: what no captured line names is required all the same.

        They are no part of the bundle's identity: whether a package is imported by then depends on what ran before.
        """
        self.imported = _beyond(self.manifest.requirements, distributions_of(roots))
        taken = {name.partition("/")[0].removesuffix(".py") for name in (entry.name for entry in self.entries)}
        for root in sorted(set(roots) - taken):
            if root in sys.modules and origin(sys.modules[root]) == "local":
                self.warnings.append(
                    f"the sample run imported {root}, a module of yours that no captured line imports: it is not part "
                    f"of the bundle; import it in a cell"
                )

    def write(self, root: Path, sample: Sample | None = None) -> Bundle:
        """Draft and finish at once, values as they are now."""
        with self.draft(root) as draft:
            return self.finish(draft, sample)


def capture(target: Any, *, name: str, namespace: dict[str, Any], cells: Cells, sample: Any = None) -> Captured:
    """Walk from `target` (a class, a function, or an nn.Module instance) through `namespace`.

    name: of the endpoint: letters, digits, "_", "-", ".". sample: the payload of `--sample`; for an nn.Module it says
    the dtype of payloads. Raises CaptureError naming the chain, the cell and the mend; UsageError for other targets.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UsageError(f"{name!r} is no name for an endpoint", hint="use letters, digits, '_', '-' and '.'")
    walker = Walker(namespace, cells)
    if inspect.isclass(target):
        kind: Kind = "class"
        shown = target.__name__
        walker.capture_target(shown, target)
    elif inspect.isfunction(target) or hasattr(target, "__wrapped__"):
        kind = "function"
        shown = _function_name(target, namespace)
        walker.capture_target(shown, target)
    elif _is_module(target):
        kind, shown = "module", "handler"
        target = _module_target(walker, target, namespace, sample)
        shown = _served_name(walker)
    else:
        raise UsageError(f"a {type(target).__name__} cannot be served", hint="give a class, a function or an nn.Module")
    return _collect(walker, name, HandlerRecord(shown, kind), target)


def _beyond(known: list[str], found: list[str]) -> list[str]:
    """Requirements found that the known ones do not bring along."""
    if set(found) <= set(known):
        return []
    brought = _brought(tuple(known), state_of_path())
    return [line for line in found if canonicalize_name(asked(line).name) not in brought]


@functools.lru_cache(maxsize=8)
def _brought(known: tuple[str, ...], _state: object) -> frozenset[str]:
    """What these requirements bring along here. Read again where something was installed: it takes 0.2 s."""
    from nbserve.export.requirements import closure, installed

    pins, _ = closure(known, installed())
    return frozenset(canonicalize_name(pin.name) for pin in pins)


def _function_name(function: Any, namespace: dict[str, Any]) -> str:
    own = str(getattr(function, "__name__", ""))
    if namespace.get(own) is function or (own.isidentifier() and own not in namespace):
        return own
    return next((key for key, value in namespace.items() if value is function and key.isidentifier()), "predict")


def _is_module(obj: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(obj, torch.nn.Module)


def _served_name(walker: Walker) -> str:
    return next(reversed(walker.graph.nodes))


def _module_target(walker: Walker, module: Any, namespace: dict[str, Any], sample: Any) -> Any:
    """Binds the module, and below it a ModuleHandler for it; returns a live one."""
    from nbserve.bundle.module_handler import ModuleHandler, payload_dtype

    found = next((key for key, value in namespace.items() if value is module and not key.startswith("_")), "model")
    walker.bind(found, module, (found,))
    maker = walker.refer(ModuleHandler, "ModuleHandler", (found,))
    dtype = payload_dtype(module, sample)
    shown = "handler" if "handler" not in walker.graph.nodes else "served_handler"
    node = Node(shown, "source", (shown,), f'{shown} = {maker}({found}, dtype="{dtype}")', hard={found, maker})
    node.order = 1 + max(each.order for each in walker.graph.nodes.values())
    walker.graph.nodes[shown] = node
    return ModuleHandler(module, dtype)


def _collect(walker: Walker, name: str, handler: HandlerRecord, target: Any) -> Captured:
    accessor = walker.graph.free("value")
    nodes = walker.graph.ordered(handler.name)
    if accessor != "value":
        for node in nodes:
            if node.how in ("value", "pickle (live only)") and f'value("{node.name}")' in node.text:
                node.text = node.text.replace("= value(", f"= {accessor}(")
    walker.saver.close()
    packages = walker.imports.roots
    texts = [node.text for node in nodes] + [data.decode(errors="replace") for data in walker.imports.files.values()]
    filtered = walker.cells.mention("warnings") and walker.cells.mention("error")
    surroundings, notes = snapshot(packages, texts, filtered=filtered, loggers=walker.saver.loggers())
    walker.warnings += notes
    source, spans = walker.graph.render(
        handler.name, accessor=accessor, future=walker.sources.future, ambient=surroundings
    )
    used = {node.name: node for node in nodes}
    values = {key: record for key, record in walker.saver.records.items() if key in used}
    requirements = distributions_of(walker.imports.roots, extras_in_cells(cell.source for cell in walker.cells))
    manifest = Manifest(
        name=name,
        handler=handler,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        live_only=any(record.saver == "pickle" for record in values.values()),
        values=values,
        requirements=requirements,
    )
    files = [node for node in walker.graph.nodes.values() if node.how == "module file"]
    entries = [_entry(node, used, walker) for node in [*nodes, *files]]
    walker.warnings += [
        f"{table} has the memory of {array}, which it did not copy: in workers each has its own, and what is written "
        f"into {array} does not show in {table}; make it with copy=True"
        for array, table in walker.saver.taken_apart()
        if {array, table} <= used.keys()
    ]
    walker.warnings += _cautions(walker, nodes, values, source, spans)
    return Captured(
        name=name,
        kind=handler.kind,
        target=target,
        entries=[*entries, *_ambient_entries(handler.name, surroundings)],
        warnings=list(dict.fromkeys(walker.warnings)),
        handler_source=source,
        values={key: walker.saver.objects[key] for key in values},
        manifest=manifest,
        source_map=spans,
        skipped=_not_taken(walker, entries),
        watch=Watch({each: walker.held(each) for each in used if walker.holds(each)}),
        _content=_content(walker, values, source, requirements),
    )


def _entry(node: Node, used: Collection[str], walker: Walker) -> Entry:
    size = node.bytes or len(walker.imports.files.get(node.name, b"")) or len(node.text)
    needs = tuple(sorted((node.hard | node.soft) & set(used) - {node.name}))
    bound = tuple(walker.cells.bindings(node.name))
    return Entry(node.name, node.how, node.where, size, node.chain, node.note, needs, bound)


def _not_taken(walker: Walker, entries: list[Entry]) -> list[SkippedRecord]:
    taken = {entry.name for entry in entries}
    nodes = walker.graph.nodes.values()
    return not_taken(
        taken,
        {entry.where for entry in entries},
        walker.undefined,
        {node.name: node.where for node in nodes if node.name not in taken},
        walker.imports.roots,
        {name: walker.held(name) for name in taken},
        walker.cells,
    )


def _cautions(
    walker: Walker, nodes: list[Node], values: dict[str, ValueRecord], source: str, spans: list[Span]
) -> list[str]:
    """Warnings about what was captured, not about how."""
    shared = {name for node in nodes if node.how not in ("source", "import") for name in node.hard}
    code = [node.text for node in nodes if node.how == "source"]
    found = [
        partly_used(node.name, walker.saver.objects[node.name], node.bytes, node.where, code)
        for node in nodes
        if node.name in values and node.name not in shared
    ]
    where = walker.cells.where
    literals = {
        line: where(ast.unparse(statement.targets[0]))
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        for line in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    }

    def locate(line: int) -> str:
        return locate_in(spans, line) or literals.get(line) or f"handler.py, line {line}"

    texts = [Text(source, "handler.py", locate)]
    for place, data in walker.imports.files.items():
        if place.endswith(".py"):
            texts.append(Text(data.decode(errors="replace"), place, partial("{}, line {}".format, place)))
    trees = {name: walker.saver.tree(record.files[0], MAX_DOC_BYTES) for name, record in values.items()}
    docs = {name: tree for name, tree in trees.items() if tree is not None}
    return [*filter(None, found), *suspect_strings(texts, docs, where), *absolute_paths(texts, docs, where)]


def _ambient_entries(target: str, surroundings: dict[str, Any]) -> list[Entry]:
    return [
        Entry(f"{key} (setting)", "source", "", len(repr(value)), (target, key), f"{value!r}")
        for key, value in surroundings.items()
    ]


def _content(walker: Walker, values: dict[str, Any], source: str, requirements: list[str]) -> Content:
    wanted = {file for record in values.values() for file in record.files}
    texts = {"handler.py": source.encode(), "requirements.txt": requirements_text(requirements).encode()}
    texts |= {f"modules/{place}": data for place, data in walker.imports.files.items()}
    files = {file: chunks for file, chunks in walker.saver.content.files.items() if file in wanted}
    files |= {file: _fixed(data) for file, data in texts.items()}
    folders = {folder: save for folder, save in walker.saver.content.folders.items() if folder in wanted}
    return Content(files, folders)


def _fixed(data: bytes) -> Any:
    def chunks() -> Iterator[bytes]:
        yield data

    return chunks
