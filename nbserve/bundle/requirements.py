"""One requirement of a bundle, and whether it is met here: name, extras, and the version or URL that it is pinned to.

Written by `capture/requirements.py`; read by `verify.py` and `export/`. The lines are those of pip (PEP 508).
"""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from packaging.requirements import InvalidRequirement, Requirement

__all__ = ["Asked", "Source", "asked", "found_here", "source_of", "without_password"]


class Asked(NamedTuple):
    """What a line asks. Either `version` or `url` is known, or neither: any will do."""

    name: str
    extras: frozenset[str]
    version: str
    url: str


class Source(NamedTuple):
    """Where a distribution was installed from. url: as pip takes it, "" for an index. is_public: other machines may
    have it by this URL too; a folder or file of this one they have not."""

    url: str = ""
    is_public: bool = True
    is_editable: bool = False


def asked(line: str) -> Asked:
    """A line of requirements.txt. What pip's grammar does not know counts as a bare name."""
    try:
        found = Requirement(line)
    except InvalidRequirement:
        return Asked(line.strip(), frozenset(), "", "")
    version = next((one.version for one in found.specifier if one.operator == "=="), "")
    return Asked(found.name, frozenset(found.extras), version, found.url or "")


def found_here(line: str) -> tuple[str, str]:
    """(what the line pins, what is installed here): versions or URLs; the second is "" where it is not installed."""
    wanted = asked(line)
    try:
        distribution = importlib.metadata.distribution(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return wanted.url or wanted.version or "any", ""
    if wanted.url:
        source = source_of(distribution.read_text("direct_url.json"))
        return wanted.url, source.url or distribution.version
    return wanted.version or distribution.version, distribution.version


def source_of(direct_url: str | None) -> Source:
    """direct_url.json (PEP 610) -> where pip would get the same from; passwords are left out."""
    if not direct_url:
        return Source()
    info: dict[str, Any] = json.loads(direct_url)
    url = without_password(str(info["url"]))
    if "vcs_info" in info:
        url = f"{info['vcs_info']['vcs']}+{url}@{info['vcs_info']['commit_id']}"
    is_editable = bool(info.get("dir_info", {}).get("editable"))
    is_public = not urlsplit(url).scheme.endswith("file") and "dir_info" not in info
    subdirectory = info.get("subdirectory")
    return Source(f"{url}#subdirectory={subdirectory}" if subdirectory else url, is_public, is_editable)


def without_password(url: str) -> str:
    """The URL without the user and password in front of its host; a bare user such as `git@` stays."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)) if at and ":" in user else url
