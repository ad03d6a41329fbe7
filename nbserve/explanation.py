"""What a served version is made of, read from its bundle's provenance. Behind the verb `explain` and the card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbserve.errors import BundleError
from nbserve.wire.management import ModelStatus

if TYPE_CHECKING:
    from nbserve.bundle.proof import Sample

__all__ = ["Entry", "Explanation", "explanation", "read_sample", "shared_bytes"]


class Entry(msgspec.Struct):
    """One thing that was captured. `bytes`: of its data or its source; `chain`: from the handler to it."""

    name: str
    how: str
    where: str = ""
    bytes: int = 0
    chain: list[str] = msgspec.field(default_factory=list)
    note: str = ""


class Explanation(msgspec.Struct):
    """What was captured, how, from which cell; what the proof said."""

    name: str
    version: str
    bundle: str
    digest: str
    proof: dict[str, Any]
    entries: list[Entry]
    warnings: list[str]

    def __repr__(self) -> str:
        from nbserve.tables import explained, to_text

        return to_text(explained(self))


class _Provenance(msgspec.Struct):
    entries: list[Entry] = msgspec.field(default_factory=list)
    warnings: list[str] = msgspec.field(default_factory=list)


def explanation(model: ModelStatus) -> Explanation:
    """Read it from the version's bundle. Raises BundleError where the bundle cannot be read here."""
    found = _read(Path(model.bundle))
    return Explanation(
        name=model.name,
        version=model.version,
        bundle=model.bundle,
        digest=model.digest,
        proof=model.proof,
        entries=found.entries,
        warnings=found.warnings,
    )


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
