"""What a bundle is made of, read from its manifest and provenance. Behind the verb `explain` and the card."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbserve.errors import BundleError
from nbserve.wire.management import ModelStatus

if TYPE_CHECKING:
    from nbserve.bundle.proof import Sample

__all__ = ["Entry", "Explanation", "bundle_explanation", "explanation", "read_sample", "shared_bytes"]


class Entry(msgspec.Struct):
    """One thing that was captured. `bytes`: of its data or its source; `chain`: from the handler to it."""

    name: str
    how: str
    where: str = ""
    bytes: int = 0
    chain: list[str] = msgspec.field(default_factory=list)
    note: str = ""


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

    def __repr__(self) -> str:
        from nbserve.tables import explained, to_text

        return to_text(explained(self))


class _Provenance(msgspec.Struct):
    created_at: float = 0.0
    host: str = ""
    python: str = ""
    platform: str = ""
    entries: list[Entry] = msgspec.field(default_factory=list)
    warnings: list[str] = msgspec.field(default_factory=list)


def explanation(model: ModelStatus) -> Explanation:
    """Of a served version. Raises BundleError where its bundle cannot be read here."""
    found = bundle_explanation(Path(model.bundle))
    return msgspec.structs.replace(found, name=model.name, version=model.version, proof=model.proof)


def bundle_explanation(bundle: Path) -> Explanation:
    """Of a bundle, from its folder alone. Raises BundleError where it cannot be read."""
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
    )


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
