"""From a name to the gateway that serves it, over all gateways that discovery finds. Called by the verbs.

A notebook's own gateways come first; a name that several others serve is an error that names them, never a guess.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nbserve import discovery
from nbserve.client import Client
from nbserve.discovery import GatewayRecord
from nbserve.errors import GatewayError, NotFound, UsageError
from nbserve.wire.management import GatewayStatus, ModelStatus

__all__ = ["Gateway", "Gateways", "Served", "bundle_folder"]


def bundle_folder(word: str) -> Path | None:
    """The bundle that a user's `NAME|BUNDLE` means, or None: then it is an endpoint's name.

    A folder that holds manifest.json is a bundle. What reads as a path is meant to be one: raises UsageError where not.
    """
    folder = Path(word).expanduser()
    if (folder / "manifest.json").is_file():
        return folder
    if os.sep in word or word.startswith((".", "~")):
        what = "has no manifest.json" if folder.is_dir() else "is not a folder"
        raise UsageError(f"no bundle at {word}: it {what}", hint="give the folder that holds manifest.json")
    return None


@dataclass(frozen=True)
class Served:
    """One model at one gateway. `version` empty: the default one at the time of asking."""

    client: Client
    name: str
    version: str = ""

    def model(self) -> ModelStatus:
        """What the gateway says of it now. Raises NotFound, GatewayError."""
        return self.client.model(self.name, self.version)


@dataclass(frozen=True)
class Gateway:
    """A gateway that answered."""

    record: GatewayRecord
    client: Client
    status: GatewayStatus

    @property
    def owner(self) -> str:
        """How a person tells it from others: its notebook or name, and its id."""
        return f"{self.record.name or self.record.profile} ({self.record.id})"

    @property
    def is_own(self) -> bool:
        """Whether it is the gateway of this very kernel, or of this notebook (from `!nbserve` in a cell, too)."""
        session = os.environ.get("JPY_SESSION_NAME")
        return self.status.owner_pid == os.getpid() or (bool(session) and self.record.name == session)

    def serves(self, name: str, version: str) -> bool:
        """Whether it has this model (and version)."""
        return any(m.name == name and version in ("", m.version) for m in self.status.models)

    def is_called(self, word: str) -> bool:
        """Whether a user's word means this gateway: its id or the start of it, its name or the last part of that."""
        name = self.record.name
        return self.record.id.startswith(word) or word in (name, name.rpartition("/")[2])


class Gateways:
    """All gateways of this machine that answer. beside: but for the one with this client."""

    def __init__(self, beside: Client | None = None) -> None:
        self._beside = beside

    def __iter__(self) -> Iterator[Gateway]:
        """In the order of their start."""
        for record in discovery.records():
            if self._beside is not None and record.token == self._beside.token:
                continue
            client = Client.of(record)
            with suppress(GatewayError):  # it may end between the file and the question
                yield Gateway(record, client, client.status())

    def matching(self, word: str = "") -> list[Gateway]:
        """All, this notebook's own first; or those that `word` means. Raises NotFound where none is."""
        gateways = sorted(self, key=lambda gateway: not gateway.is_own)
        matching = [gateway for gateway in gateways if gateway.is_called(word)] if word else gateways
        if word and not matching:
            raise NotFound(f"no gateway {word!r}", hint=_owners("running", gateways))
        return matching

    def find(self, name: str, *, gateway: str = "", version: str = "") -> Served:
        """The one gateway that serves `name` (or `name@gateway`). Raises NotFound, UsageError where several do."""
        if not gateway:
            name, _, gateway = name.partition("@")
        gateways = self.matching(gateway)
        serving = [each for each in gateways if each.serves(name, version)]
        serving = [each for each in serving if each.is_own] or serving
        if not serving:
            names = sorted({model.name for each in gateways for model in each.status.models})
            known = f"served: {', '.join(names)}" if names else "nothing is served now"
            wanted = f"{name!r} version {version}" if version else repr(name)
            raise NotFound(f"no endpoint {wanted}", hint=known)
        if len(serving) > 1:
            raise UsageError(
                f"{name!r} is served by {len(serving)} gateways: {', '.join(each.owner for each in serving)}",
                hint=f"say which: {name}@{serving[0].record.id}, or --gateway {serving[0].record.id}",
            )
        return Served(serving[0].client, name, version)


def _owners(word: str, gateways: Sequence[Gateway]) -> str:
    if not gateways:
        return "none is running"
    return f"{word}: {', '.join(gateway.owner for gateway in gateways)}"
