"""Which distributions a bundle needs, pinned as they are installed here. From their metadata; nothing is guessed.

Called by `captured.py` with the top-level packages that captured code and values import, and with those that the
sample run imported. Extras are those that the user asked pip for in a cell, and those that an installed distribution
requires.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nbserve.bundle.requirements import asked, source_of

__all__ = [
    "distributions_of",
    "editable_at",
    "extras_in_cells",
    "imported_meanwhile",
    "packages",
    "pinned",
    "requirements_text",
]

_OWN = "jupyter-nbserve"
Extras = Mapping[str, Collection[str]]
"""Canonical name of a distribution -> extras."""
_PIP_INSTALL = re.compile(r"\bpip3?\s+(?:\S+\s+)*?install\s+(?P<words>[^\n;|&]*)")


def distributions_of(roots: Collection[str], extras: Extras | None = None) -> list[str]:
    """Pinned requirements ("torch==2.13.0") for top-level packages; what no distribution holds is left out."""
    found = {_OWN}
    for root in set(roots) - {"nbserve"}:
        if root not in sys.stdlib_module_names:
            found |= set(packages().get(root, ())) or _editable_of(root)
    return sorted(filter(None, (pinned(name, extras or {}) for name in found)), key=str.lower)


def _editable_of(root: str) -> set[str]:
    """Metadata of editable installs may not name their packages: then their place tells."""
    module = sys.modules.get(root)
    try:
        spec = getattr(module, "__spec__", None) or importlib.util.find_spec(root)
    except (ImportError, ValueError):
        spec = None
    places = [*(spec.submodule_search_locations or ()), spec.origin or ""] if spec is not None else []
    return {name for place in places if place and (name := editable_at(Path(place)))}


def pinned(distribution: str, extras: Extras) -> str:
    """ "torch==2.13.0", "fancy[gpu] @ git+https://host/fancy@COMMIT", or "" where it is not installed.

    A URL stands there where other machines have it by that URL too. An editable install is pinned by its version, for
    its metadata and what it requires, and export builds its wheel; its code goes along as a local module.
    """
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
    key = canonicalize_name(distribution)
    known = {canonicalize_name(each) for each in found.metadata.get_all("Provides-Extra") or ()}
    by_others = _required_extras(state_of_path()).get(key, ())
    asked_for = {canonicalize_name(each) for each in (*extras.get(key, ()), *by_others)}
    wanted = sorted(known & asked_for) if key != _OWN else []
    name = f"{distribution}[{','.join(wanted)}]" if wanted else distribution
    source = source_of(found.read_text("direct_url.json"))
    return f"{name} @ {source.url}" if source.url and source.is_public else f"{name}=={found.version}"


def requirements_text(lines: Iterable[str]) -> str:
    """requirements.txt of a bundle. A local version label (`+cpu`) is no default index's: a comment says so."""
    texts = []
    for line in lines:
        label = asked(line).version.partition("+")[2]
        if label:
            texts.append(f'# built for "{label}": give pip the index that has it, with --extra-index-url\n')
        texts.append(f"{line}\n")
    return "".join(texts)


def extras_in_cells(sources: Iterable[str]) -> dict[str, set[str]]:
    """Extras that cells asked pip for: `%pip install "fancy[gpu]"`, `!pip install fancy[gpu]`. sources: transformed."""
    found: dict[str, set[str]] = {}
    for source in sources:
        if "install" in source and "pip" in source:
            for words in _installs(source):
                for word in words:
                    try:
                        requirement = Requirement(word)
                    except InvalidRequirement:  # an option or a path
                        continue
                    if requirement.extras:
                        found.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    return found


_IMPORTED: dict[str, set[str]] = {}


@contextlib.contextmanager
def imported_meanwhile(endpoint: str) -> Iterator[set[str]]:
    """Top-level packages that are imported within, and were within for this endpoint before; filled at the end."""
    before, roots = set(sys.modules), _IMPORTED.setdefault(endpoint, set())
    try:
        yield roots
    finally:
        roots |= {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names


def _installs(source: str) -> Iterator[list[str]]:
    """Words after `pip install`, of each such line or shell line of a cell."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            if node.func.attr in ("run_line_magic", "run_cell_magic", "system", "getoutput", "getoutput_split"):
                for match in _PIP_INSTALL.finditer(" ".join(texts)):
                    try:
                        yield shlex.split(match["words"], comments=True)
                    except ValueError:  # an open quotation mark
                        continue


# --- what is installed; read again when something was installed or removed


def state_of_path() -> tuple[tuple[str, int], ...]:
    """Changes when a distribution comes or goes: folders on the path that hold some, and when they last changed."""
    found = []
    for entry in dict.fromkeys(sys.path):
        with contextlib.suppress(OSError):
            changed_ns = Path(entry or ".").stat().st_mtime_ns
            if _holds_distributions(os.path.abspath(entry), changed_ns):
                found.append((entry, changed_ns))
    return tuple(found)


@functools.lru_cache(maxsize=256)
def _holds_distributions(folder: str, _changed_ns: int) -> bool:
    """The notebook's own folder, which changes all the time, is none of them."""
    return any(name.endswith((".dist-info", ".egg-info", ".egg-link", ".pth")) for name in os.listdir(folder))


def packages() -> dict[str, list[str]]:
    """Top-level package -> distributions that hold it."""
    return _packages(state_of_path())


@functools.lru_cache(maxsize=1)
def _packages(_state: object) -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


def editable_at(path: Path) -> str | None:
    """The distribution of `pip install -e` whose top-level package or module this file or folder is."""
    top = path if path.is_dir() else path.parent if path.name.startswith("__init__.") else path
    for name, tree in _editable(state_of_path()):
        if top.parent in (tree, tree / "src"):
            return name
    return None


@functools.lru_cache(maxsize=1)
def _editable(_state: object) -> list[tuple[str, Path]]:
    found = []
    for distribution in importlib.metadata.distributions():
        text = distribution.read_text("direct_url.json")
        if source_of(text).is_editable:
            found.append((distribution.name, Path(unquote(urlsplit(json.loads(text or "")["url"]).path))))
    return found


@functools.lru_cache(maxsize=1)
def _required_extras(_state: object) -> dict[str, set[str]]:
    """Extras that installed distributions require of others, whatever their own extras: "uvicorn[standard]"."""
    found: dict[str, set[str]] = {}
    for distribution in importlib.metadata.distributions():
        for text in distribution.requires or ():
            if "[" not in text.partition(";")[0]:
                continue
            try:
                need = Requirement(text)
            except InvalidRequirement:  # old metadata
                continue
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                found.setdefault(canonicalize_name(need.name), set()).update(need.extras)
    return found
