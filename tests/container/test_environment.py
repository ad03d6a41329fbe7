"""With no engine at hand the proof is a clean virtual environment: it serves the bundle and answers as it should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbserve import cli
from tests.unit.export.bundles import LINEAR, sample, write
from tests.unit.gateway.running import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(800)]


@pytest.fixture
def _no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("sh", "sleep"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.usefixtures("_no_engine")
def test_the_clean_environment_answers_as_the_endpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what is true of this machine only is found: here a variable that the new process does not have."""
    handler = LINEAR.replace("SCALE = 1.0", 'SCALE = float(os.environ.get("NBSERVE_TEST_SCALE", "1"))')
    right = write(tmp_path / "b", handler, asked=sample())
    with running() as gateway:
        gateway.client.register(str(right.path))
        words = ["export", "linear", "-o", str(tmp_path / "out"), "--vendor"]
        assert cli.run([*words, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["image"], facts["engine"]) == ("", "")
        assert facts["proof"]["kind"] == "venv"
        assert (facts["proof"]["checked"], facts["proof"]["max_difference"]) == ("sample", 0.0)
        assert facts["proof"]["against"] == "the live endpoint"
        assert "neither docker nor podman answers here" in facts["notes"][0]
        assert cli.run([*words, "--env", "NBSERVE_TEST_SCALE=3"]) == 1
    shown = capsys.readouterr().err
    assert "[6.25, -1.25]" in shown
    assert "18.75" in shown
