"""A bundle proven alone: real gateways and workers, real differences; nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from nbserve import Endpoint, discovery
from nbserve.bundle import Sample
from nbserve.bundle.folder import Content, write_bundle
from nbserve.bundle.manifest import HandlerRecord, Manifest, Provenance
from nbserve.config import ModelConfig
from nbserve.errors import BundleError, UsageError
from nbserve.verify import PackageDifference, package_differences, verify, verify_in
from tests.unit.gateway.running import running, until

SAMPLE = Sample(
    content_type="application/json",
    body=b'"hello"',
    expected_content_type="application/json",
    expected_body=b'"hello"',
)
ECHO = "def predict(batch):\n    return batch\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder for all temporary files and records, which must be empty in the end."""
    folder = Path(tempfile.mkdtemp(prefix="nbs-"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    monkeypatch.setenv("NBSERVE_HOME", str(folder / "home"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    left = [path for path in folder.rglob("*") if path.name != "runtime"]
    shutil.rmtree(folder)
    assert not left


def make(root: Path, source: str = ECHO, sample: Sample | None = SAMPLE, **fields: Any) -> Path:
    """A bundle whose handler is the function `predict`."""
    handler = HandlerRecord("predict", "function")
    manifest = Manifest(name="echo", handler=handler, python="3.11", **fields)
    content = Content({"handler.py": lambda: iter([source.encode()])}, {})
    return write_bundle(root, manifest, content, Provenance(), sample).path


def answering(expected: bytes) -> Sample:
    return msgspec.structs.replace(SAMPLE, expected_body=expected)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "nbserve", *words], capture_output=True, text=True, timeout=120)


def test_an_answer_that_is_the_notebooks(tmp_path: Path) -> None:
    sample = msgspec.structs.replace(SAMPLE, body=b"[0.5]", expected_body=b"[0.50000001]")
    bundle = make(tmp_path, sample=sample)
    found = verify(bundle)
    assert (found.passed, found.checked, found.difference) == (True, "sample", "")
    assert found.max_difference == pytest.approx(1e-8)
    assert found.answer_ms is not None
    assert found.bundle == str(bundle)
    assert (found.executable, found.packages, found.notes) == (sys.executable, [], [])
    assert "verified: the sample is answered as in the notebook (largest difference 1e-08)" in repr(found)
    assert discovery.records() == []


def test_an_answer_that_differs_is_shown_with_the_recorded_one_and_exit_code_1(tmp_path: Path) -> None:
    bundle = make(tmp_path, sample=answering(b'"good-bye"'))
    done = command("verify", str(bundle))
    assert done.returncode == 1, done.stderr
    assert "echo: NOT verified" in done.stdout
    assert 'notebook: "good-bye"' in done.stdout
    assert 'worker:   "hello"' in done.stdout
    assert done.stderr == ""
    done = command("verify", str(bundle), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["passed"] is False


def test_without_a_sample_only_initialize_was_checked(tmp_path: Path) -> None:
    done = command("verify", str(make(tmp_path, sample=None)))
    assert done.returncode == 0
    assert "it has no sample, so that only `initialize` was checked" in done.stdout


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    bundle = make(tmp_path)
    (bundle / "handler.py").write_text(ECHO + "\n")
    with pytest.raises(BundleError, match=r"handler.py was changed"):
        verify(bundle)
    done = command("verify", str(bundle))
    assert done.returncode == 1
    assert "handler.py was changed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_that_cannot_be_loaded_says_where_and_which_packages_differ(tmp_path: Path) -> None:
    source = "import no_such_module\n\n\n" + ECHO
    found = verify(make(tmp_path, source, requirements=["no-such-module==1.0"]))
    assert not found.passed
    assert "No module named 'no_such_module'" in found.difference
    assert found.packages == [PackageDifference("no-such-module", "1.0", "")]
    assert "no-such-module: not installed here, the notebook had 1.0" in repr(found)


def test_a_handler_that_fails_on_the_sample(tmp_path: Path) -> None:
    found = verify(make(tmp_path, "def predict(batch):\n    raise ValueError('it hurts')\n"))
    assert not found.passed
    assert "ValueError: it hurts" in found.difference
    assert "line 2" in found.difference


def test_random_answers_are_proven_by_their_seed_and_noted(tmp_path: Path) -> None:
    source = "import random\n\n\ndef predict(batch):\n    return [random.random() for _ in batch]\n"
    found = verify(make(tmp_path, source, answering(b"0.8444218515250481")))  # the first number under seed 0
    assert found.passed
    assert found.max_difference is None
    assert "differ from one request to the next" in found.notes[0]


def test_a_handler_that_answers_right_only_once_fails(tmp_path: Path) -> None:
    source = (
        "calls = []\n\n\ndef predict(batch):\n    calls.append(1)\n"
        "    return ['hello' if len(calls) == 1 else 'again' for _ in batch]\n"
    )
    found = verify(make(tmp_path, source))
    assert not found.passed
    assert "the first answer is the notebook's, a later one is not" in found.difference
    assert '"again"' in found.difference


def test_what_is_installed_against_what_the_notebook_had() -> None:
    installed = metadata.version("click")
    assert package_differences([f"click=={installed}"]) == []
    assert package_differences(["click==0.1", "no-such-thing==2"]) == [
        PackageDifference("click", "0.1", installed),
        PackageDifference("no-such-thing", "2", ""),
    ]


def test_an_endpoint_by_its_name_with_its_own_environment(tmp_path: Path) -> None:
    source = "import os\n\n\ndef predict(batch):\n    return [os.environ['WORD']] * len(batch)\n"
    bundle = make(tmp_path, source)
    with running() as gateway:
        gateway.client.register(str(bundle), config=_with_env(WORD="hello"))
        done = command("verify", "echo", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["bundle"] == str(bundle)
        done = command("verify", "echo", "--env", "WORD=other")
        assert done.returncode == 1
        assert 'worker:   "other"' in done.stdout
        assert Endpoint.find("echo").verify().passed


def _with_env(**env: str) -> ModelConfig:
    return ModelConfig(env=env)


def test_by_another_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment that sees our packages through a .pth file, as an installed one has them."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=False)
    bundle = make(tmp_path, "import os\n\n\ndef predict(batch):\n    return [os.environ['WORD']] * len(batch)\n")
    with pytest.raises(UsageError, match="has no nbserve"):
        verify_in(str(folder), bundle)
    [packages] = folder.glob("lib/python3*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")] + [str(Path(__file__).parents[2])]
    (packages / "ours.pth").write_text("\n".join(ours))
    monkeypatch.chdir(tmp_path)
    found = verify_in(str(folder), bundle, _with_env(WORD="hello"))
    assert found.passed, found.difference
    assert found.executable == str(folder / "bin" / "python")
    done = command("verify", str(bundle), "--python", str(folder / "bin" / "python"), "--env", "WORD=other")
    assert done.returncode == 1
    assert 'worker:   "other"' in done.stdout


def test_no_such_interpreter(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Python interpreter at"):
        verify_in(str(tmp_path / "nothing"), make(tmp_path))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ended_in_the_middle_it_ends_its_gateway(tmp_path: Path, number: signal.Signals, code: int) -> None:
    started = tmp_path / "started"
    source = f"import time\n\nopen({str(started)!r}, 'w').close()\ntime.sleep(600)\n\n\n" + ECHO
    bundle = make(tmp_path, source)
    words = [sys.executable, "-m", "nbserve", "verify", str(bundle)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(started.exists, "the worker loads it")
        everyone = psutil.Process(process.pid).children(recursive=True)
        assert len(everyone) >= 2
        assert discovery.records() == [], "it is nobody else's gateway"
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert (out, err.strip()) == ("", "")
    assert not [one for one in everyone if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_worker_of_another_python_says_which_one_to_use(tmp_path: Path) -> None:
    handler = HandlerRecord("predict", "function")
    content = Content({"handler.py": lambda: iter([ECHO.encode()])}, {})
    bundle = write_bundle(tmp_path, Manifest(name="echo", handler=handler, python="3.9"), content, Provenance(), SAMPLE)
    found = verify(bundle.path)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert not found.passed
    assert f"echo was captured under Python 3.9, and this worker runs Python {here}" in found.difference
    assert "start nbserve with Python 3.9" in found.difference
