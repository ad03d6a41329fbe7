"""What the dashboard says that does not change from second to second: the card, the machine's cores, what can be done.

Called by `dashboard.py` when it is made and when another version serves. No token in it: it may end up in a notebook.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from nbserve.errors import BundleError
from nbserve.explanation import read_sample
from nbserve.notebook.card import Card
from nbserve.tables import entry_size
from nbserve.wire.management import GatewayStatus, ModelStatus

__all__ = ["facts"]

SAMPLE_CHARS = 5000
"""A longer sample is not put into the try-it box; it can be sent from there all the same."""


def facts(
    model: ModelStatus, gateway: GatewayStatus, card: Card, changed: list[str], *, can_profile: bool
) -> dict[str, Any]:
    """Plain data for the browser. `changed`: what is another in the notebook now (explanation.changed)."""
    placement = gateway.placement
    tag_version = model.digest[:12]
    python = _manifest_python(model)
    return {
        "name": model.name,
        "version": model.version,
        "state": model.state,
        "url": model.url,
        "lines": [list(line) for line in card.lines],
        "warnings": card.warnings,
        "errors": card.error,
        "entries": [[entry.name, entry.how, entry.where, entry_size(entry)] for entry in card.entries],
        "curl": card.curl,
        "python": card.python,
        "sample": _sample(model),
        "cores": placement.get("cores", []),
        "reserved": placement.get("reserved", []),
        "snapshot": _snapshot(model),
        "changed": changed,
        "kept": model.kept,
        "can_profile": can_profile,
        "max_batch_size": model.config.max_batch_size,
        "promote": {
            "tag": f"{model.name.lower().strip('._-')}:{tag_version}",
            "base_image": f"python:{python}-slim-bookworm" if python else "",
            "output": f"{model.name}-image",
        },
    }


def _sample(model: ModelStatus) -> dict[str, Any] | None:
    sample = None
    with suppress(BundleError):
        sample = read_sample(model.bundle)
    if sample is None:
        return None
    text: str | None = None
    with suppress(UnicodeDecodeError):
        text = sample.body.decode()
    if text is not None and len(text) > SAMPLE_CHARS:
        text = None
    return {"content_type": sample.content_type, "text": text, "bytes": len(sample.body)}


def _snapshot(model: ModelStatus) -> str:
    """When the notebook's objects were captured: "14:02", with the day where it was not today."""
    try:
        created_at = msgspec.json.decode((Path(model.bundle) / "provenance.json").read_bytes()).get("created_at", 0.0)
    except (OSError, msgspec.MsgspecError, AttributeError):
        return ""
    if not created_at:
        return ""
    then, today = time.localtime(created_at), time.localtime()
    return time.strftime("%H:%M" if then[:3] == today[:3] else "%Y-%m-%d %H:%M", then)


def _manifest_python(model: ModelStatus) -> str:
    from nbserve.bundle.values import read_manifest

    with suppress(BundleError, OSError):
        return read_manifest(Path(model.bundle)).python
    return ""
