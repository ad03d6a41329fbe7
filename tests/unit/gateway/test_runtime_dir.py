"""The folder of a gateway: gone with it, also where it was killed; never another's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbserve.gateway import runtime_dir
from nbserve.gateway.runtime_dir import YOUNG_S, RuntimeDir, remove_abandoned

HOLDS = """
import time
from nbserve.gateway.runtime_dir import RuntimeDir
print(RuntimeDir().path, flush=True)
time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(runtime_dir, "MAX_CHARS", 400)
    return tmp_path


def later() -> float:
    return time.time() + YOUNG_S + 1


def test_one_of_a_living_gateway_stays_and_one_of_a_killed_gateway_goes(place: Path) -> None:
    environment = os.environ | {"TMPDIR": str(place)}
    program = HOLDS.replace("print(", "import nbserve.gateway.runtime_dir as r; r.MAX_CHARS = 400\nprint(")
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().strip())
        (folder / "socket").touch()
        try:
            remove_abandoned(place, later())
            assert folder.exists()
        finally:
            other.kill()
    remove_abandoned(place, time.time())
    assert folder.exists(), "it may be one that has no lock yet"
    remove_abandoned(place, later())
    assert not folder.exists()


def test_it_goes_when_it_is_removed_and_others_are_left_alone(place: Path) -> None:
    (place / "nbs-gw-file").touch()
    (place / "nbs-gw-link").symlink_to(place)
    (place / "nbs-verify-1").mkdir()
    mine = RuntimeDir()
    assert mine.path.stat().st_mode & 0o777 == 0o700
    remove_abandoned(place, later())
    mine.remove()
    assert sorted(one.name for one in place.iterdir()) == ["nbs-gw-file", "nbs-gw-link", "nbs-verify-1"]
