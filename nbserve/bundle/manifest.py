"""What a bundle says of itself: `manifest.json` (hashed) and `provenance.json` (not hashed), as typed data.

Written by `folder.write_bundle`, read by `Bundle.open`. The digest is that of the canonical manifest, which holds the
digest of every file: equal content gives an equal digest, whenever and wherever it was captured.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

__all__ = [
    "SCHEMA",
    "EntryRecord",
    "HandlerRecord",
    "Kind",
    "Manifest",
    "Provenance",
    "SkippedRecord",
    "Span",
    "ValueRecord",
    "locate_in",
]

SCHEMA = 1

Kind = Literal["class", "function", "module"]
"""How a handler is called: a class with `inference`, a function `predict(batch)`, an `nn.Module`."""


class HandlerRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The global of handler.py that is served."""

    name: str
    kind: Kind


class ValueRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One value: `saver` says how it is read, `type` what it is; files are relative to the bundle."""

    saver: Literal["structure", "pickle"]
    type: str
    files: list[str]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The hashed content. `files` has the sha256 of every file but this one, sample.json and provenance.json."""

    schema: int = SCHEMA
    name: str
    handler: HandlerRecord
    python: str
    """Minor version, "3.11"."""
    live_only: bool = False
    """True: a value is a pickle; it serves beside the notebook that wrote it, and cannot be exported."""
    values: dict[str, ValueRecord] = msgspec.field(default_factory=dict)
    requirements: list[str] = msgspec.field(default_factory=list)
    files: dict[str, str] = msgspec.field(default_factory=dict)

    def digest(self) -> str:
        """sha256 over the canonical JSON of this manifest, in hex."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Lines `start`..`end` (1-based, inclusive) of handler.py are the lines from `line` of `where`."""

    start: int
    end: int
    where: str
    line: int


class EntryRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was captured and why: one row of the explain verb.

    how: import | source | value | module file | pickle (live only). where: "In[3]" or a file, empty where unknown.
    bytes: of data; of the text for code. chain: names from the handler to this one. needs: entries that it refers to.
    bound: cells that bound the name, in the order they ran: ("In[3]", line).
    """

    name: str
    how: Literal["import", "source", "value", "module file", "pickle (live only)"]
    where: str = ""
    bytes: int = 0
    chain: tuple[str, ...] = ()
    note: str = ""
    needs: tuple[str, ...] = ()
    bound: tuple[tuple[str, int], ...] = ()


class SkippedRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What capture saw and did not take. why: completes "X was not taken: "."""

    name: str
    why: str
    where: str = ""


class Provenance(msgspec.Struct, kw_only=True):
    """Where a bundle came from; not part of its identity."""

    created_at: float = 0.0
    """Unix time."""
    host: str = ""
    python: str = ""
    platform: str = ""
    entries: list[EntryRecord] = msgspec.field(default_factory=list)
    warnings: list[str] = msgspec.field(default_factory=list)
    skipped: list[SkippedRecord] = msgspec.field(default_factory=list)
    imported: list[str] = msgspec.field(default_factory=list)
    """Pinned requirements of what the sample run imported and no captured line names."""
    source_map: list[Span] = msgspec.field(default_factory=list)
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


def locate_in(source_map: list[Span], line: int) -> str | None:
    """Line of handler.py -> "In[5], line 3"; None for lines that no cell wrote."""
    for span in source_map:
        if span.start <= line <= span.end:
            return f"{span.where}, line {span.line + line - span.start}"
    return None
