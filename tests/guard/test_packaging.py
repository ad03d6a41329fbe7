"""The wheel that users get: built here and looked into."""

from __future__ import annotations

import email
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.guard.sources import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return next(folder.glob("*.whl"))


def test_what_the_wheel_contains(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "nbserve/py.typed" in names
    assert "nbserve/_notebooks/01_quickstart.ipynb" in names
    assert {"nbserve/static/dashboard.js", "nbserve/static/trace.js"} <= set(names)
    assert [name for name in names if name.endswith("/licenses/LICENSE")]
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"nbserve"}
    assert not [name for name in names if "test" in Path(name).parts[0] or name.endswith((".pyc", ".log"))]


def test_every_module_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "nbserve").rglob("*.py")} <= names


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(info))
        entry_points = archive.read(info.replace("METADATA", "entry_points.txt")).decode()
    assert metadata["Name"] == "jupyter-nbserve"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "nbserve = nbserve.cli:main" in entry_points
    needs = metadata.get_all("Requires-Dist") or []
    assert not [need for need in needs if need.startswith("torch") and "extra ==" not in need], "torch is an extra"
    assert {"torch", "hf", "test"} <= set(metadata.get_all("Provides-Extra") or [])
    with_torch = {need.split(">")[0] for need in needs if "extra == 'torch'" in need}
    assert {"torch", "nbclient", "scikit-learn", "matplotlib"} <= with_torch, "enough for `nbserve demo`"
