"""The rows of the explain verb: what was captured, how, from where and why. Pure; rendering is the caller's.

Called by the notebook (entries of a Captured) and the CLI (entries of a bundle's provenance).
"""

from __future__ import annotations

from collections.abc import Sequence

from nbserve.bundle.manifest import EntryRecord, Provenance
from nbserve.errors import UsageError

__all__ = ["explain"]


def explain(captured: Provenance | Sequence[EntryRecord], variable: str | None = None) -> list[dict[str, str | int]]:
    """One row an entry: name, how, cell, bytes, chain ("Digits -> model"), note.

    variable: only this one and what was captured because of it. Raises UsageError where it was not captured.
    """
    entries = captured.entries if isinstance(captured, Provenance) else list(captured)
    if variable is not None:
        found = [entry for entry in entries if variable == entry.name or variable in entry.chain]
        if not found:
            names = ", ".join(sorted(entry.name for entry in entries))
            raise UsageError(f"{variable} was not captured", hint=f"captured are: {names}")
        entries = found
    return [
        {
            "name": entry.name,
            "how": entry.how,
            "cell": entry.where,
            "bytes": entry.bytes,
            "chain": " -> ".join(entry.chain),
            "note": entry.note,
        }
        for entry in entries
    ]
