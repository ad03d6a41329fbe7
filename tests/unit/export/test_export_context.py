"""The build context: what is in it, that it is the same each time, and that the endpoint's settings come through."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from nbserve import cli
from nbserve.bundle import Bundle
from nbserve.config import ModelConfig
from nbserve.export.context import settings_of
from nbserve.export.image import Asked, Exported, export_image
from nbserve.options import model_config
from nbserve.verbs import VERBS, command
from tests.unit.export.bundles import PYTHON, sample, write

CONFIG = ModelConfig(
    max_batch_size=16, slo_ms=50.0, max_rss_bytes=7, workers="1:4", env={"REGION": "north-1", "DB": "secret"}
)


def exported(bundle: Bundle, output: Path, **options: Any) -> Exported:
    stages: list[str] = []
    asked = {"name": bundle.name, "config": CONFIG, "build": False, "proof": "off"} | options
    result = export_image(Asked(bundle=bundle.path, output=output, **asked), stages.append)
    assert stages[0] == "checking the bundle"
    return result


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    bundle = write(folder / "b", modules={"features.py": "X = 1\n"}, asked=sample())
    exported(bundle, folder / "out")
    return folder / "out"


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


def instructions(context: Path) -> list[tuple[str, str]]:
    parser = DockerfileParser(path=str(context), cache_content=True)
    return [(each["instruction"], each["value"]) for each in parser.structure if each["instruction"] != "COMMENT"]


def test_the_same_bundle_gives_the_same_files(context: Path, tmp_path: Path) -> None:
    bundle = next((context.parent / "b").iterdir())
    exported(Bundle.open(bundle), tmp_path / "again")
    assert tree(tmp_path / "again") == tree(context)


def test_the_bundle_in_it_is_the_bundle_byte_for_byte_and_readable_by_all(context: Path) -> None:
    original = next((context.parent / "b").iterdir())
    assert {k: v[1] for k, v in tree(context / "bundle").items()} == {k: v[1] for k, v in tree(original).items()}
    Bundle.open(context / "bundle", check_digest=True)
    for path in [context / "bundle", *(context / "bundle").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_the_dockerfile_has_what_images_need(context: Path) -> None:
    found = instructions(context)
    names = [name for name, _ in found]
    values = dict(reversed(found))
    assert found[0] == ("ARG", f"BASE_IMAGE=python:{PYTHON}-slim-bookworm")
    assert [value for name, value in found if name == "FROM"] == ["${BASE_IMAGE} AS build", "${BASE_IMAGE}"]
    assert values["USER"] == "10001:10001"
    assert values["ENTRYPOINT"] == '["/opt/venv/bin/nbserve"]'
    assert values["CMD"] == '["serve"]'
    assert "CMD [" in values["HEALTHCHECK"]
    assert "curl" not in values["HEALTHCHECK"]
    text = (context / "Dockerfile").read_text()
    assert "--mount" not in text
    assert "# syntax" not in text
    assert names.index("RUN") < names.index("COPY", names.index("ENTRYPOINT")), "dependencies before code"
    last_stage = found[names.index("FROM", 3) :] if names.count("FROM") > 1 else found
    copies = [value for name, value in last_stage if name == "COPY"]
    assert copies[0].startswith("--from=build")
    assert copies[1].startswith("bundle/data"), "data before code"
    assert "bundle/handler.py" in copies[2]
    assert "RUN" not in {name for name, _ in last_stage}, "nothing runs in the final stage"


def test_hadolint_has_nothing_to_say(context: Path) -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([str(linter), str(context / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_only_names_of_variables_go_in(context: Path) -> None:
    for path in context.rglob("*"):
        if path.is_file() and "wheels" not in path.parts:
            assert b"north-1" not in path.read_bytes()
            assert b"secret" not in path.read_bytes()
    compose = yaml.safe_load((context / "docker-compose.yaml").read_text())["services"]["linear"]
    assert compose["environment"] == ["NBSERVE_TOKEN", "DB", "REGION"]
    assert compose["read_only"] is True
    assert compose["cap_drop"] == ["ALL"]
    assert "-e DB -e REGION" in (context / "README.md").read_text()


def test_requirements_are_pinned_and_nbserve_comes_along(context: Path) -> None:
    lines = (context / "requirements.txt").read_text().splitlines()
    assert all("==" in line or line.startswith("./wheels/") for line in lines)
    assert [line for line in lines if line.startswith("numpy==")]
    own = [line for line in lines if "nbserve" in line]
    assert own == [f"./wheels/{next((context / 'wheels').iterdir()).name}"], "an editable install has no index"
    assert (context / ".dockerignore").read_text().splitlines()[0] == "*"


def test_readme_has_the_commands(context: Path) -> None:
    text = (context / "README.md").read_text()
    assert "--data-binary @request.json http://127.0.0.1:8080/predictions/linear" in text
    assert (context / "request.json").read_bytes() == sample().body
    for word in ("--read-only", "--cap-drop ALL", "no-new-privileges", "build -t linear:"):
        assert word in text


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(),
        CONFIG,
        ModelConfig(
            workers="auto", threads=2, max_batch_delay_ms=1.5, response_timeout_s=3, startup_timeout_s=4.5, retries=0,
            max_queue_size=5, max_queue_bytes=6, device="cuda:1", swap="rolling", proof="off", isolate="off",
            max_requests=7, failures=0, redact=["password", "Card"],
        ),
    ],
)  # fmt: skip
def test_the_settings_of_the_endpoint_are_those_of_the_image(
    config: ModelConfig, tmp_path: Path, monkeypatch: Any
) -> None:
    """Through the environment into what `nbserve serve` is started with."""
    settings = settings_of(config, "other", write(tmp_path))
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NBSERVE_BUNDLE", "/app/bundle")
    monkeypatch.setenv("NBSERVE_PROFILE", "container")
    monkeypatch.setenv("NBSERVE_PORT", "8080")
    verb = command(VERBS["serve"], "cli")
    params = verb.make_context("serve", []).params
    assert (params["target"], params["profile"], params["port"], params["name"]) == (
        "/app/bundle", "container", 8080, "other",
    )  # fmt: skip
    assert model_config(params) == ModelConfig(
        **{k: getattr(config, k) for k in config.__struct_fields__ if k != "env"}
    )
    assert len(settings) == 1 or config != ModelConfig()


def test_a_long_line_of_notes_where_no_engine_answers(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """The CLI: a folder's bundle, no engine; the table says how to build."""
    bundle = write(tmp_path / "b", asked=sample())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "400")  # pytest-xdist sets it to 80, and a line is a line only where it fits
    assert cli.run(["export", str(bundle.path), "-o", str(tmp_path / "out"), "--proof", "off"]) == 0
    shown = capsys.readouterr()
    assert "neither docker nor podman answers here" in shown.out
    assert f"cd {tmp_path}/out && docker build -t linear:{bundle.digest[:12]} ." in " ".join(shown.out.split())
    assert "checking the bundle" in shown.err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["export", "nowhere"], 3, "no endpoint 'nowhere'"),
        (["export", "./nowhere"], 2, "no bundle at ./nowhere"),
        (["export", "BUNDLE", "--proof", "image", "--no-build"], 2, "with --no-build there is no image"),
        (["export", "BUNDLE", "--proof", "image"], 2, "neither docker nor podman answers here"),
    ],
)
def test_what_cannot_be(words: list[str], code: int, says: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    bundle = str(write(tmp_path / "b").path)
    assert cli.run([bundle if word == "BUNDLE" else word for word in words]) == code
    assert says in capsys.readouterr().err
