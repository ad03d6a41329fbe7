"""Which versions there are: the default of each name, what can be rolled back to, who serves which path.

Plain data with its questions. gateway/registry is one, and changes it; gateway/inference looks up `routes`. All on the
gateway's loop, no locks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nbserve.config import ModelConfig
from nbserve.errors import NotFound, RequestError, Unavailable
from nbserve.gateway.inference import Route
from nbserve.gateway.version import ModelVersion

__all__ = ["Catalogue", "Replaced"]

KEPT_VERSIONS = 5
"""Replaced versions of a name that can be rolled back to."""


class Replaced(NamedTuple):
    """What it takes to serve a version again."""

    version: str
    bundle_path: Path
    config: ModelConfig


class Catalogue:
    """All versions of a gateway."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self._versions: dict[str, dict[str, ModelVersion]] = {}
        self._defaults: dict[str, ModelVersion] = {}
        self._last_number: dict[str, int] = {}
        self._replaced: dict[str, list[Replaced]] = {}  # oldest first

    # -- questions ---------------------------------------------------------------------------------------------------

    def find(self, name: str, version: str = "") -> ModelVersion:
        """A version; without one the default, or the newest where there is none. Raises NotFound."""
        versions = self._versions.get(name)
        if not versions:
            raise NotFound(f"model {name!r} is not served here", hint="`nbserve list` shows what is")
        if version:
            if version not in versions:
                raise NotFound(f"model {name!r} has no version {version!r}; it has {', '.join(versions)}")
            return versions[version]
        return self._defaults.get(name) or list(versions.values())[-1]

    def get(self, name: str, version: str) -> ModelVersion | None:
        """This very version, if it is listed."""
        return self._versions.get(name, {}).get(version)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a name, the default one first. Raises NotFound."""
        first = self.find(name)
        return [first, *(entry for entry in self._versions[name].values() if entry is not first)]

    def names(self) -> list[str]:
        """Sorted."""
        return sorted(self._versions)

    def entries(self) -> Iterator[ModelVersion]:
        """All versions of all names, as they came."""
        for versions in self._versions.values():
            yield from versions.values()

    def listed(self) -> list[ModelVersion]:
        """All versions, by name, the default one of a name first."""
        return [entry for name in self.names() for entry in self.versions(name)]

    def default(self, name: str) -> ModelVersion | None:
        """Where requests that name no version go."""
        return self._defaults.get(name)

    def is_default(self, entry: ModelVersion) -> bool:
        """Whether requests that name no version go to it."""
        return self._defaults.get(entry.name) is entry

    def why_not(self, name: str, version: str) -> RequestError:
        """Why no version serves under this name."""
        try:
            entry = self.find(name, version)
        except NotFound as error:
            return error
        return Unavailable(
            f"{entry.name}: no worker is ready, version {entry.version} is {entry.state}", retry_after_s=1
        )

    def kept(self, name: str) -> list[Replaced]:
        """Replaced versions that can be rolled back to, the last one first."""
        return self._replaced.get(name, [])[::-1]

    def kept_as(self, name: str, version: str) -> Replaced:
        """One of them, the last where none is named. Raises NotFound."""
        replaced = self.kept(name)
        if not replaced:
            raise NotFound(f"no version of {name} was replaced since it was first served: there is none to go back to")
        for one in replaced:
            if version in ("", one.version):
                return one
        there = ", ".join(one.version for one in replaced)
        raise NotFound(f"{name} has no version {version} to go back to", hint=f"kept are, last first: {there}")

    # -- changes -----------------------------------------------------------------------------------------------------

    def add(self, entry: ModelVersion) -> None:
        """From here on it is listed."""
        self._versions.setdefault(entry.name, {})[entry.version] = entry

    def forget(self, entry: ModelVersion) -> bool:
        """It is listed no longer. Whether it was the last of its name."""
        versions = self._versions.get(entry.name, {})
        if versions.get(entry.version) is entry:
            del versions[entry.version]
        if not versions:
            self._versions.pop(entry.name, None)
        return not versions

    def next_version(self, name: str) -> str:
        """A number that no version of this name ever had."""
        numbers = [int(version) for version in self._versions.get(name, {}) if version.isdigit()]
        self._last_number[name] = max([self._last_number.get(name, 0), *numbers]) + 1
        return str(self._last_number[name])

    def route(self, entry: ModelVersion, *, default: bool) -> None:
        """Requests for it go to it; `default`: those that name no version, too."""
        self.routes[f"/predictions/{entry.key}"] = entry
        if default:
            self.routes[f"/predictions/{entry.name}"] = self._defaults[entry.name] = entry

    def unroute(self, entry: ModelVersion) -> None:
        """No request goes to it any more."""
        self.routes.pop(f"/predictions/{entry.key}", None)
        if self.is_default(entry):
            del self._defaults[entry.name]
            del self.routes[f"/predictions/{entry.name}"]

    def keep(self, old: ModelVersion, instead: str) -> None:
        """It was replaced by version `instead`, which takes its place among the kept ones if it was one of them."""
        others = [one for one in self._replaced.get(old.name, []) if one.version != instead]
        self._replaced[old.name] = [*others, Replaced(old.version, old.bundle.path, old.config)][-KEPT_VERSIONS:]

    def drop_kept(self, name: str) -> None:
        """There is nothing to go back to any more."""
        self._replaced.pop(name, None)
