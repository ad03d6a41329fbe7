"""`fingerprint.json`: what the values of a bundle were in the notebook, and whether those rebuilt are the same.

Written by `folder.py` beside the hashed content; read by the first worker of a new version (`worker/session.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbserve.bundle.fingerprint import Fingerprint, differences, fingerprint, names_of
from nbserve.errors import BundleError, ProofError

__all__ = ["FILE", "check_rebuilt", "dump_fingerprint"]

FILE = "fingerprint.json"


def dump_fingerprint(found: Fingerprint) -> bytes:
    """The file."""
    return msgspec.json.encode(found)


def check_rebuilt(root: Path, namespace: Mapping[str, Any]) -> int:
    """How many things of handler.py's globals were found to be as they were in the notebook.

    0 where the bundle says nothing of them, or they were captured with other releases of Python or their libraries,
    whose objects may differ by right. Raises ProofError naming the first differences by path.
    """
    try:
        here = msgspec.json.decode((root / FILE).read_bytes(), type=Fingerprint)
    except FileNotFoundError:
        return 0
    except msgspec.MsgspecError as exc:
        raise BundleError(f"{root}: {FILE} cannot be read: {exc}", hint="capture it again") from exc
    there = fingerprint({name: namespace[name] for name in here.values if name in namespace}, names_of(namespace))
    if here.made_with != there.made_with:
        return 0
    if found := differences(here, there):
        raise ProofError(
            "what the worker rebuilt is not what the notebook has: "
            + "; ".join(f"{path}: {what}" for path, what in found),
            hint="give its class a __reduce__ or __getstate__ that keeps it, or make it in `initialize`",
        )
    return len(here.entries)
