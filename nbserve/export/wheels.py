"""The wheels that go into the context: nbserve's own where no index has it, and those that pip fetches or builds.

Called by `image.py`. pip runs under the user's own configuration, which never goes into the image.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

import nbserve
from nbserve.bundle.requirements import without_password
from nbserve.errors import ExportError
from nbserve.export.requirements import OWN, Pin

__all__ = ["fetch_wheels", "requirement_lines", "write_own_wheel"]

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can say: equal files give equal wheels."""
_SHOWN_LINES = 15
_PLACES = ("index-url", "extra-index-url", "find-links")


def fetch_wheels(pins: Sequence[Pin], folder: Path, *, complete: bool) -> None:
    """Have pip fetch the wheels of these pins, and build those that come as source or lie in a folder.

    complete: the pins name all that is needed; else pip adds what is missing. Raises ExportError with pip's words.
    """
    if not pins:
        return
    wanted = [f"{pin.name} @ {pin.url}" if pin.url else pin.line for pin in pins]
    command = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--quiet"]
    command += ["--no-deps"] if complete else ["--find-links", str(folder)]
    done = subprocess.run(
        [*command, "--wheel-dir", str(folder), *wanted], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_SHOWN_LINES:])
        raise ExportError(
            f"pip cannot fetch the wheels for the image:\n{said}",
            hint=f"{_looked_in()}give pip the index they were installed from (PIP_INDEX_URL or PIP_EXTRA_INDEX_URL), "
            "or, where pip itself is missing, install it into this environment",
        )


def _looked_in() -> str:
    """Where pip is configured to look here, without passwords."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    settings = (line.partition("=") for line in done.stdout.splitlines())
    urls = [url for key, _, value in settings if key.endswith(_PLACES) for url in value.strip("'").split()]
    shown = ", ".join(dict.fromkeys(map(without_password, urls)))
    return f"pip is configured to look in {shown}; " if urls else ""


def write_own_wheel(folder: Path) -> None:
    """nbserve's wheel, from the files that run here: an editable install has no index to come from. Deterministic."""
    files = _package_files(Path(nbserve.__file__).parent)
    distribution = importlib.metadata.distribution(OWN)
    stem = f"{OWN.replace('-', '_')}-{distribution.version}"
    info = {
        "METADATA": distribution.read_text("METADATA") or "",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: nbserve\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": distribution.read_text("entry_points.txt") or "",
    }
    files |= {f"{stem}.dist-info/{name}": text.encode() for name, text in info.items()}
    record = f"{stem}.dist-info/RECORD"
    lines = [f"{name},sha256={_urlsafe(data)},{len(data)}" for name, data in files.items()]
    files[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            wheel.writestr(entry, data)


def requirement_lines(pins: Sequence[Pin], folder: Path, *, vendored: bool) -> list[str]:
    """requirements.txt, to be installed where `wheels/` lies: pins; what only `wheels/` has stands there by its file,
    so that no index can put another distribution of that name in its place."""
    files = {parse_wheel_filename(path.name)[0]: path.name for path in sorted(folder.glob("*.whl"))}
    return [
        pin.line if vendored or pin.is_on_index else f"./wheels/{files[canonicalize_name(pin.name)]}" for pin in pins
    ]


def _package_files(package: Path) -> dict[str, bytes]:
    paths = sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(package.parent).as_posix(): path.read_bytes() for path in paths}


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
