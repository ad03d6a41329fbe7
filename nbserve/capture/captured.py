"""`capture`: the handler and all it needs, ready to be written as a bundle.

Called by `notebook/` for `%%serve_handler` and `%nbserve serve`. Nothing is written until `Captured.write`.
"""

from __future__ import annotations

import inspect
import platform
import re
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbserve.bundle.ambient import snapshot
from nbserve.bundle.folder import Bundle, Content, write_bundle
from nbserve.bundle.manifest import EntryRecord, HandlerRecord, Kind, Manifest, Provenance, Span
from nbserve.bundle.proof import Sample
from nbserve.capture.cells import Cells
from nbserve.capture.graph import Node
from nbserve.capture.modules import distributions_of
from nbserve.capture.walk import Walker
from nbserve.errors import UsageError

__all__ = ["Captured", "Entry", "capture"]

Entry = EntryRecord


@dataclass
class Captured:
    """What was captured. entries: one row a thing, in handler.py's order. warnings: for the user to read.

    target: what the notebook runs for the proof. values: the live objects that became data, by name.
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
    _content: Content = field(repr=False)

    @property
    def live_only(self) -> bool:
        """Is a pickle among the values?"""
        return self.manifest.live_only

    def write(self, root: Path, sample: Sample | None = None) -> Bundle:
        """Write `root/<name>-<digest12>`, values as they are now; the one that is there is used if content is equal.

        Raises BundleError where the disk refuses.
        """
        provenance = Provenance(
            created_at=time.time(),
            host=socket.gethostname(),
            python=platform.python_version(),
            platform=platform.platform(),
            entries=self.entries,
            warnings=self.warnings,
            source_map=self.source_map,
        )
        return write_bundle(Path(root), self.manifest, self._content, provenance, sample)


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
    surroundings, notes = snapshot(packages, texts, filtered=filtered)
    walker.warnings += notes
    source, spans = walker.graph.render(
        handler.name, accessor=accessor, future=walker.sources.future, ambient=surroundings
    )
    used = {node.name for node in nodes}
    values = {key: record for key, record in walker.saver.records.items() if key in used}
    requirements = distributions_of(walker.imports.roots)
    manifest = Manifest(
        name=name,
        handler=handler,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        live_only=any(record.saver == "pickle" for record in values.values()),
        values=values,
        requirements=requirements,
    )
    files = [node for node in walker.graph.nodes.values() if node.how == "module file"]
    return Captured(
        name=name,
        kind=handler.kind,
        target=target,
        entries=[*(_entry(node, walker) for node in [*nodes, *files]), *_ambient_entries(handler.name, surroundings)],
        warnings=list(dict.fromkeys(walker.warnings)),
        handler_source=source,
        values={key: walker.saver.objects[key] for key in values},
        manifest=manifest,
        source_map=spans,
        _content=_content(walker, values, source, requirements),
    )


def _entry(node: Node, walker: Walker) -> Entry:
    size = node.bytes or len(walker.imports.files.get(node.name, b"")) or len(node.text)
    return Entry(node.name, node.how, node.where, size, node.chain, node.note)


def _ambient_entries(target: str, surroundings: dict[str, Any]) -> list[Entry]:
    return [
        Entry(f"{key} (setting)", "source", "", len(repr(value)), (target, key), f"{value!r}")
        for key, value in surroundings.items()
    ]


def _content(walker: Walker, values: dict[str, Any], source: str, requirements: list[str]) -> Content:
    wanted = {file for record in values.values() for file in record.files}
    texts = {"handler.py": source.encode(), "requirements.txt": "".join(f"{each}\n" for each in requirements).encode()}
    texts |= {f"modules/{place}": data for place, data in walker.imports.files.items()}
    files = {file: chunks for file, chunks in walker.saver.content.files.items() if file in wanted}
    files |= {file: _fixed(data) for file, data in texts.items()}
    folders = {folder: save for folder, save in walker.saver.content.folders.items() if folder in wanted}
    return Content(files, folders)


def _fixed(data: bytes) -> Any:
    def chunks() -> Iterator[bytes]:
        yield data

    return chunks
