"""The build context: a folder with all that `docker build` needs. Equal input gives equal files.

    Dockerfile .dockerignore docker-compose.yaml README.md     from templates/
    requirements.txt wheels/                                   by requirements.py and wheels.py
    bundle/                                                    byte for byte the bundle
    request.json                                               the sample's question, for README's curl

Called by `image.py`. Written beside its place and put there when it is whole.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nbserve
from nbserve.bundle import Bundle, Sample
from nbserve.config import ModelConfig
from nbserve.errors import UsageError

__all__ = [
    "HARDENED",
    "STOP_TIMEOUT_S",
    "TOKEN",
    "ContextPlan",
    "copy_bundle",
    "replacing",
    "settings_of",
    "write_texts",
]

MARK = "Written by `nbserve export`"
"""Stands in the first line of our Dockerfiles: such a folder may be replaced."""
HARDENED = ("--read-only", "--tmpfs /tmp", "--cap-drop ALL", "--security-opt no-new-privileges")
"""Options of `run` that the image is proven under."""
STOP_TIMEOUT_S = 30
"""More than the container profile's shutdown grace; as long as the clouds wait."""
TOKEN = "NBSERVE_TOKEN"


class ContextPlan(NamedTuple):
    """What the texts of a context are made from. settings: NBSERVE_* for the image; variables: asked at its start."""

    bundle: Bundle
    name: str
    tag: str
    base_image: str
    engine: str
    vendored: bool
    settings: Mapping[str, str]
    variables: Sequence[str]

    @property
    def build_command(self) -> str:
        """As README.md shows it."""
        return f"{self.engine} build {'--format docker ' if self.engine == 'podman' else ''}-t {self.tag} ."

    @property
    def run_lines(self) -> list[str]:
        """The hardened run line, in parts."""
        needed = " ".join(f"-e {name}" for name in self.variables if name != TOKEN)
        parts = [f"{self.engine} run --rm -p 8080:8080", " ".join(HARDENED), f"--stop-timeout {STOP_TIMEOUT_S}"]
        return [*parts, *([needed] if needed else []), self.tag]


def settings_of(config: ModelConfig, name: str, bundle: Bundle) -> dict[str, str]:
    """How the live endpoint was asked to serve, as variables that `nbserve serve` reads; defaults are left out.

    `env` is left out too: its values may be secrets, so the image gets them when it is started.
    """
    default = ModelConfig()
    settings = {} if name == bundle.name else {"NBSERVE_NAME": name}
    for field in ModelConfig.__struct_fields__:
        value = getattr(config, field)
        if field != "env" and value is not None and value != getattr(default, field):
            settings[f"NBSERVE_{field.upper()}"] = ",".join(value) if isinstance(value, list) else str(value)
    return settings


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new folder to write into, which becomes `target` if the block ends well; an earlier export there is replaced.

    Raises UsageError where something else lies there.
    """
    if target.exists() and not _is_ours(target):
        raise UsageError(f"{target} is no earlier export and not empty", hint="give a new folder: -o DIR")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            old = temporary.with_suffix(".old")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    dockerfile = folder / "Dockerfile"
    return not any(folder.iterdir()) or (
        dockerfile.is_file() and MARK in dockerfile.read_text("utf-8", "replace").partition("\n")[0]
    )


def copy_bundle(bundle: Bundle, target: Path) -> None:
    """Copy the bundle's files, readable by every user of the image, and check the copy against the manifest."""
    files = [*bundle.manifest.files, "manifest.json", "sample.json", "provenance.json"]
    for file in files:
        source, place = bundle.path / file, target / file
        if source.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
            place.chmod(0o644)
    for folder in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    Bundle.open(target, check_digest=True)


def write_texts(plan: ContextPlan, folder: Path) -> None:
    """Write what the templates give, and the sample's question."""
    copied = folder / "bundle"
    folders = sorted(path.name for path in copied.iterdir() if path.is_dir())
    sample = plan.bundle.sample
    facts = {
        "base_image": plan.base_image,
        "build_command": plan.build_command,
        "content_type": sample.content_type if sample else "",
        "digest": plan.bundle.digest,
        "files": sorted(f"bundle/{path.name}" for path in copied.iterdir() if path.is_file()),
        "folders": [name for name in ("weights", "data") if name in folders],
        "has_request": sample is not None,
        "has_wheels": any((folder / "wheels").glob("*.whl")),
        "modules": "modules" in folders,
        "name": plan.name,
        "nbserve_version": nbserve.__version__,
        "python": plan.bundle.manifest.python,
        "request_file": _request_file(sample),
        "run_command": " \\\n  ".join(plan.run_lines),
        "service": plan.name.lower().replace(".", "-"),
        "settings": plan.settings,
        "stop_timeout_s": STOP_TIMEOUT_S,
        "tag": plan.tag,
        "variables": plan.variables,
        "vendored": plan.vendored,
    }
    render = _renderer()
    for name in ("Dockerfile", "docker-compose.yaml", "README.md"):
        (folder / name).write_text(render(f"{name}.j2", facts), "utf-8")
    (folder / ".dockerignore").write_text(render("dockerignore.j2", facts), "utf-8")
    if sample is not None:
        (folder / _request_file(sample)).write_bytes(sample.body)


def _request_file(sample: Sample | None) -> str:
    return "request.json" if sample is None or sample.content_type.startswith("application/json") else "request.bin"


def _renderer() -> Callable[[str, Mapping[str, object]], str]:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # no HTML is made here: Dockerfile, YAML, Markdown
    environment = Environment(
        loader=PackageLoader("nbserve.export"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return lambda name, facts: environment.get_template(name).render(facts)
