"""`import nbserve` is quiet, and warns where the other project of that name is installed too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def import_it(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`import nbserve` in a fresh process."""
    program = [sys.executable, "-W", "always", "-c", "import nbserve"]
    return subprocess.run(program, capture_output=True, text=True, timeout=60, env=os.environ | environment)


def test_alone_it_says_nothing() -> None:
    done = import_it({})
    assert (done.returncode, done.stderr) == (0, "")


def test_beside_its_namesake_it_says_what_to_do(tmp_path: Path) -> None:
    other = tmp_path / "nbserve-9.9.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: nbserve\nVersion: 9.9\n")
    done = import_it({"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0
    assert "two projects share the import name nbserve: jupyter-nbserve (this one) and nbserve 9.9" in done.stderr
    assert "pip uninstall nbserve" in done.stderr
