"""What an image must install: the bundle's distributions and all that they need, pinned as they are installed here.

`closure` is pure; `installed` reads this environment. Called by `image.py`.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

__all__ = ["OWN", "Distribution", "Pin", "closure", "installed"]

OWN = "jupyter-nbserve"


class Distribution(NamedTuple):
    """One installed distribution. `url`: where it was installed from, as pip takes it; "" = an index."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    url: str = ""


class Pin(NamedTuple):
    """One line of requirements.txt. `url`: as of Distribution."""

    name: str
    version: str
    url: str = ""

    @property
    def line(self) -> str:
        """ "torch==2.13.0+cpu"; the bare name where the version is not known."""
        return f"{self.name}=={self.version}" if self.version else self.name

    @property
    def is_on_index(self) -> bool:
        """Whether the default index has it. Local version labels (`+cpu`) may not stand there (PEP 440)."""
        return not self.url and "+" not in self.version


def closure(roots: Iterable[str], here: Mapping[str, Distribution]) -> tuple[list[Pin], list[str]]:
    """Pins for the roots ("torch==2.13.0+cpu") and what they need, sorted by name; and warnings for people.

    here: by canonical name. A root that is installed here in another version, or not at all, keeps its own pin, and
    what it needs is left to pip. nbserve itself is the one that runs here: its worker runs the bundle.
    """
    pins: dict[str, Pin] = {}
    warnings: list[str] = []
    waiting: list[tuple[str, frozenset[str]]] = [(OWN, frozenset())]
    for root in sorted(roots):
        asked = Requirement(root)
        key = canonicalize_name(asked.name)
        found = here.get(key)
        version = next((one.version for one in asked.specifier if one.operator == "=="), "")
        if key != OWN and (found is None or (version and version != found.version)):
            pins[key] = Pin(asked.name, version)
            what = f"{found.version} is installed here" if found else "it is not installed here"
            warnings.append(f"{root}: {what}, so what it needs is left to pip")
        else:
            waiting.append((key, frozenset(asked.extras)))
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        step = waiting.pop()
        distribution = here.get(step[0])
        if step in seen or distribution is None:  # None: optional by a marker, and not installed
            continue
        seen.add(step)
        pins.setdefault(step[0], Pin(distribution.name, distribution.version, distribution.url))
        waiting += _needs(distribution, step[1])
    return sorted(pins.values(), key=lambda pin: canonicalize_name(pin.name)), warnings


def _needs(distribution: Distribution, extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    needs: list[tuple[str, frozenset[str]]] = []
    for text in distribution.requires:
        try:
            need = Requirement(text)
        except InvalidRequirement:  # old metadata; pip installs it all the same
            continue
        marker = need.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *sorted(extras))):
            needs.append((canonicalize_name(need.name), frozenset(need.extras)))
    return needs


def installed() -> dict[str, Distribution]:
    """The distributions of this environment, by canonical name; the first on the path where there are two."""
    found: dict[str, Distribution] = {}
    for each in importlib.metadata.distributions():
        name = each.metadata["Name"]
        if name:
            known = Distribution(
                name, each.version, tuple(each.requires or ()), _url(each.read_text("direct_url.json"))
            )
            found.setdefault(canonicalize_name(name), known)
    return found


def _url(direct_url: str | None) -> str:
    """direct_url.json (PEP 610) -> a URL for pip; "" where the distribution came from an index."""
    if not direct_url:
        return ""
    info: dict[str, Any] = json.loads(direct_url)
    url = str(info["url"])
    if "vcs_info" in info:
        url = f"{info['vcs_info']['vcs']}+{url}@{info['vcs_info']['commit_id']}"
    return f"{url}#subdirectory={info['subdirectory']}" if info.get("subdirectory") else url
