"""An endpoint becomes an image, for real: exported, built without network, run hardened, asked, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbserve import cli
from nbserve.export.engine import Engine
from tests.container.storage import Storage
from tests.unit.export.bundles import LINEAR, sample, write
from tests.unit.gateway.running import Running, running, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(800)]

HARDENED = "--read-only --tmpfs /tmp --cap-drop all --security-opt no-new-privileges -m 1g --cpus 1 --pids-limit 200"
ASK = """
import http.client, json, sys
c = http.client.HTTPConnection("127.0.0.1", 8080, timeout=20)
headers = {"Content-Type": "application/json"} | json.loads(sys.argv[4])
c.request(sys.argv[1], sys.argv[2], body=sys.argv[3] or None, headers=headers)
r = c.getresponse()
print(json.dumps([r.status, r.read().decode()]))
"""


class Container:
    """A running image."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.name, self._storage = name, storage

    def run(self, *command: str) -> str:
        """Standard output of a command in it."""
        return self._storage.podman("exec", self.name, *command)

    def ask(self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> tuple[int, str]:
        """One request from inside: there is no network here."""
        answer = self.run("/opt/venv/bin/python", "-c", ASK, method, path, body, json.dumps(headers or {}))
        status, text = json.loads(answer)
        return status, text

    def predict(self, payload: Any) -> Any:
        """An answer of the endpoint."""
        status, text = self.ask("POST", "/predictions/linear", json.dumps(payload))
        assert status == 200, text
        return json.loads(text)

    def state(self) -> dict[str, Any]:
        """As the engine tells it."""
        facts: dict[str, Any] = json.loads(self._storage.podman("container", "inspect", self.name))[0]["State"]
        return facts

    def is_healthy(self) -> bool:
        """What the image's own HEALTHCHECK says now."""
        command = ["podman", "healthcheck", "run", self.name]
        return subprocess.run(command, env=os.environ, capture_output=True, check=False, timeout=60).returncode == 0


@contextlib.contextmanager
def started(storage: Storage, tag: str, *options: str, arguments: tuple[str, ...] = ()) -> Iterator[Container]:
    """A hardened container of an image, ready."""
    container = Container(storage, f"test-{secrets.token_hex(4)}")
    storage.podman("run", "-d", "--name", container.name, *HARDENED.split(), *options, tag, *arguments)
    try:
        until(lambda: container.is_healthy() or not container.state()["Running"], "it is healthy", 90)
        assert container.state()["Running"], storage.podman("logs", container.name)
        yield container
    finally:
        storage.podman("rm", "-f", "--time", "0", container.name)


def export(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """`nbserve export ... --json`."""
    capsys.readouterr()
    assert cli.run(["export", *words, "--json"]) == 0, capsys.readouterr().err
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    return facts


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The endpoint in a gateway of a notebook's kind."""
    folder = tmp_path_factory.mktemp("live")
    with running() as gateway:
        gateway.client.register(str(write(folder, asked=sample()).path))
        yield gateway


@pytest.fixture(scope="module")
def built(storage: Storage, live: Running, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Its export, as JSON on standard output."""
    folder = tmp_path_factory.mktemp("export")
    command = [
        "-m",
        "nbserve",
        "export",
        "linear",
        "-o",
        str(folder / "out"),
        "--vendor",
        "-t",
        "linear:first",
        "--json",
    ]
    done = subprocess.run([os.sys.executable, *command], capture_output=True, text=True, check=False)  # type: ignore[attr-defined]
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts | {"stages": done.stderr}


def test_the_export_is_done_after_proof_against_the_live_endpoint(built: dict[str, Any], storage: Storage) -> None:
    assert built["engine"] == "podman"
    assert built["proof"]["kind"] == "image"
    assert built["proof"]["checked"] == "sample"
    assert built["proof"]["against"] == "the live endpoint"
    assert built["proof"]["max_difference"] == 0.0
    assert "step 1/" in built["stages"]
    assert "proving the image" in built["stages"]
    assert storage.podman("ps", "-a", "-q") == "", "the container of the proof is gone"
    image = json.loads(storage.podman("image", "inspect", "linear:first"))[0]
    assert image["Id"] == built["image"]
    assert image["Size"] == built["image_bytes"]
    assert image["User"] == "10001:10001"


def test_it_runs_hardened_and_answers_as_the_live_endpoint(
    built: dict[str, Any], storage: Storage, live: Running
) -> None:
    with started(storage, "linear:first", "-e", "REGION=north") as container:
        for row in ([1.5, -2.0], [0, 0], [1e9, 3.25e-7]):
            assert container.predict(row) == live.predict(row, "linear").json()
        assert container.run("id", "-u").strip() == "10001"
        assert container.predict("REGION") == "north"
        (status,) = json.loads(container.run("nbserve", "status", "--json"))
        assert status["profile"] == "container"
        assert len(status["placement"]["usable"]) >= 1
        assert status["models"][0]["workers"][0]["threads"] == 1, "--cpus 1"
        assert status["memory"]["total_bytes"] == 2**30, "--memory 1g"
        assert container.ask("GET", "/models")[0] == 403, "management is off"
        assert container.ask("GET", "/metrics")[0] == 200
        assert container.predict("orphan") == 0
        until(lambda: not zombies(container), "process 1 has collected the orphan", 10)
        began = time.monotonic()
        storage.podman("stop", "-t", "60", container.name)
        assert container.state()["ExitCode"] == 0
        assert time.monotonic() - began < 45, "SIGTERM, not SIGKILL"
        log = storage.podman("logs", container.name)
        assert log == "", "the log is standard error"


def test_without_a_folder_to_write_to_it_says_what_to_do(built: dict[str, Any]) -> None:
    """`--read-only` alone: podman then mounts folders by itself, docker does not."""
    command = ["podman", "run", "--rm", "--read-only", "--read-only-tmpfs=false", "linear:first"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "no folder for temporary files can be written to" in done.stderr
    assert "What to do: mount one: --tmpfs /tmp" in done.stderr
    assert "Traceback" not in done.stderr


def zombies(container: Container) -> list[str]:
    """Processes that have ended and that nobody waited for."""
    program = (
        "import glob; print(*[p for p in glob.glob('/proc/[0-9]*/stat')"
        " if open(p).read().rpartition(')')[2].split()[0] == 'Z'])"
    )
    return container.run("/opt/venv/bin/python", "-c", program).split()


def test_it_runs_as_root_with_a_token_when_told_to_serve(built: dict[str, Any], storage: Storage) -> None:
    options = ("--user", "0", "-e", "NBSERVE_TOKEN=t0ken-of-the-test", "-e", "NBSERVE_MAX_BATCH_SIZE=3")
    with started(storage, "linear:first", *options, arguments=("serve",)) as container:
        assert container.predict([1.0, 2.0]) == [6.25, -1.25]
        assert container.ask("GET", "/models")[0] == 401
        token = {"Authorization": "Bearer t0ken-of-the-test"}
        status, text = container.ask("GET", "/models/linear", headers=token)
        assert status == 200
        assert json.loads(text)[0]["config"]["max_batch_size"] == 3
        assert container.predict("NBSERVE_TOKEN") is None, "the token is no business of the handler's"
        storage.podman("kill", "--signal", "TERM", container.name)
        until(lambda: not container.state()["Running"], "it has ended", 45)
        assert container.state()["ExitCode"] == 0


def test_a_change_of_code_makes_only_the_last_layers_anew(
    built: dict[str, Any], storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write(tmp_path / "b", asked=sample())
    changed = write(tmp_path / "b", LINEAR.replace("SCALE = 1.0", "SCALE = 2.0"), asked=sample(answer=(12.5, -2.5)))
    words = ["-o", str(tmp_path / "out"), "--vendor", "-t"]
    # once more, from the cache: whoever edits nbserve while its tests run has another wheel by now
    export(capsys, str(before.path), *words, "linear:again", "--proof", "off")
    facts = export(capsys, str(changed.path), *words, "linear:changed")
    assert facts["proof"]["against"] == "the notebook"
    first, second = (
        json.loads(storage.podman("image", "inspect", tag))[0]["RootFS"]["Layers"]
        for tag in ("linear:again", "linear:changed")
    )
    assert len(first) == len(second)
    assert first[:-1] == second[:-1]
    assert first[-1] != second[-1]


def test_an_image_that_answers_otherwise_is_no_export(
    built: dict[str, Any], storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The handler takes something from this machine: the image's answer differs, and both are shown."""
    marker = tmp_path / "marker"
    marker.write_text("")
    handler = LINEAR.replace("SCALE = 1.0", f"SCALE = 1.0 if os.path.exists({str(marker)!r}) else 3.0")
    bundle = write(tmp_path / "b", handler, asked=sample())
    with running() as gateway:
        gateway.client.register(str(bundle.path), name="here-only")
        words = ["export", "here-only", "-o", str(tmp_path / "out"), "--vendor", "-t", "linear:wrong", "--json"]
        assert cli.run(words) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "[6.25, -1.25]" in shown.err
    assert "18.75" in shown.err
    assert storage.podman("ps", "-a", "-q") == ""


def test_docker_is_driven_as_podman_is(
    built: dict[str, Any], storage: Storage, live: Running, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The docker client against podman's service, which speaks the daemon's API."""
    docker = shutil.which("docker", path=f"{os.environ['PATH']}:/usr/local/bin:/usr/bin")
    if docker is None:
        pytest.skip("no docker client")
    socket = storage.folder / "engine.sock"
    with pytest.MonkeyPatch.context() as patch, service(socket):
        patch.setenv("PATH", f"{Path(docker).parent}:{os.environ['PATH']}")
        patch.setenv("DOCKER_HOST", f"unix://{socket}")
        patch.setenv("DOCKER_BUILDKIT", "0")
        patch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        facts = export(capsys, "linear", "-o", str(tmp_path / "out"), "--vendor", "-t", "linear:docker")
    assert facts["engine"] == "docker"
    assert facts["proof"]["checked"] == "sample"
    assert facts["proof"]["max_difference"] == 0.0
    assert facts["layers"] == built["layers"]
    for made in (facts, built):
        sizes = [layer["size_bytes"] for layer in made["layer_sizes"]]
        assert sum(sizes) == pytest.approx(made["image_bytes"], rel=0.1), made["layer_sizes"]
        assert any("pip install" in layer["what"] or "COPY" in layer["what"] for layer in made["layer_sizes"])
    assert Engine("podman").image("linear:docker").size_bytes > 0


@contextlib.contextmanager
def service(socket: Path) -> Iterator[None]:
    """`podman system service` on a socket."""
    command = ["podman", "system", "service", "--time=0", f"unix://{socket}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(socket.exists, "the service listens")
            yield
        finally:
            process.send_signal(signal.SIGTERM)
