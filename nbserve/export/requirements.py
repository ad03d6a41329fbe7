"""What an image must install: the bundle's distributions and all that they need, pinned as they are installed here.

`closure` is pure; `installed` reads this environment. Called by `image.py`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nbserve.bundle.requirements import asked, source_of

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
        wanted = asked(root)
        key = canonicalize_name(wanted.name)
        found = here.get(key)
        differs = found is None or (wanted.version, wanted.url) not in _known_as(found)
        if key != OWN and differs:
            pins[key] = Pin(wanted.name, wanted.version, wanted.url)
            what = f"{found.url or found.version} is installed here" if found else "it is not installed here"
            warnings.append(f"{root}: {what}, so what it needs is left to pip")
        else:
            waiting.append((key, wanted.extras))
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


def _known_as(found: Distribution) -> tuple[tuple[str, str], ...]:
    """Pins that this distribution meets, as (version, URL)."""
    return (found.version, ""), ("", found.url), ("", "")


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
        metadata = each.metadata  # parsed each time it is asked for
        name = metadata["Name"]
        if name:
            needs = metadata.get_all("Requires-Dist") or (each.requires if each.read_text("requires.txt") else None)
            url = source_of(each.read_text("direct_url.json")).url
            known = Distribution(name, metadata["Version"], tuple(needs or ()), url)
            found.setdefault(canonicalize_name(name), known)
    return found
