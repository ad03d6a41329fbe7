"""What must not go into an image: pickles (they load beside their notebook only) and secrets. Each with its mend.

Called by `image.py` before anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from nbserve.bundle import Bundle, secrets
from nbserve.bundle.manifest import EntryRecord, locate_in
from nbserve.bundle.secrets import Finding
from nbserve.errors import ExportError

__all__ = ["find_secrets", "refuse_pickles", "refuse_secrets"]

_NUMBERS = {".safetensors", ".npy", ".npz"}


def refuse_pickles(bundle: Bundle) -> None:
    """Raises ExportError naming the chain to each pickled value, why it is one, and the mend."""
    if not bundle.manifest.live_only:
        return
    entries = {entry.name: entry for entry in bundle.provenance.entries}
    lines = []
    for name, value in bundle.manifest.values.items():
        if value.saver == "pickle":
            entry = entries.get(name) or EntryRecord(name, "pickle (live only)")
            chain = " -> ".join(entry.chain or (name,))
            place = f", {entry.where}" if entry.where else ""
            lines.append(f"  {chain}{place}: a {value.type}{f' ({entry.note})' if entry.note else ''}")
    raise ExportError(
        "\n".join([f"{bundle.name} holds pickled values, which load beside their notebook only:", *lines]),
        hint="make the value in `initialize`, where each worker makes its own, or keep what it is made from as plain "
        "data (numbers, text, arrays, tensors); then serve again and export",
    )


def refuse_secrets(bundle: Bundle, allowed: Collection[str] = ()) -> None:
    """Raises ExportError naming each string that looks like a secret and is not allowed by name: where, which kind."""
    found = [finding for finding in find_secrets(bundle) if finding.name not in allowed]
    if not found:
        return
    lines = [f"  {finding.name}, {finding.where}: {finding.kind}" for finding in found]
    first = found[0].name
    variable = first.upper() if first.isidentifier() else "API_TOKEN"
    raise ExportError(
        "\n".join([f"{bundle.name} holds what looks like a secret; whoever has the image could read it:", *lines]),
        hint=f'read it where the handler runs, os.environ["{variable}"] in `initialize`, serve again with '
        f"--env {variable}=..., and export; or, if it is none: --allow-secret {first}",
    )


def find_secrets(bundle: Bundle) -> list[Finding]:
    """Every suspect string of a bundle, in code, values, sample and the files of models."""
    return list(dict.fromkeys(_all_findings(bundle)))


def _all_findings(bundle: Bundle) -> Iterator[Finding]:
    where = {entry.name: entry.where for entry in bundle.provenance.entries}
    values = {file: name for name, record in bundle.manifest.values.items() for file in record.files[:1]}
    for file in [*sorted(bundle.manifest.files), "sample.json", "provenance.json"]:
        path = bundle.path / file
        if path.suffix in _NUMBERS or not path.is_file():
            continue
        if path.suffix == ".py":
            yield from _of_code(bundle, file, path)
        elif file in values:
            name = values[file]
            place = f"the value {name}{f', {where[name]}' if where.get(name) else ''}"
            yield from secrets.in_json(json.loads(path.read_bytes()), name, place)
        elif file == "sample.json":
            yield from secrets.in_json(json.loads(path.read_bytes()), "sample", "the sample (sample.json)")
        else:
            yield from secrets.in_data(path.read_bytes(), file)


def _of_code(bundle: Bundle, file: str, path: Path) -> list[Finding]:
    def locate(line: int) -> str:
        cell = locate_in(bundle.provenance.source_map, line) if file == "handler.py" else None
        return cell or f"{file.removeprefix('modules/')}, line {line}"

    return secrets.in_python(path.read_text("utf-8"), file.removeprefix("modules/"), locate)
