"""The gateway as a process: how it starts, what it says, how it ends; nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from nbserve import discovery
from nbserve.config import GatewayConfig
from nbserve.errors import GatewayError
from nbserve.launch import GatewayProcess
from tests.unit.gateway.running import Running, make_bundle, running, until


def folders_of(pid: int) -> set[Path]:
    """Runtime folders of a gateway's workers: where their connection files lie, and IPython's folder."""
    everyone = [one.environ() for one in psutil.Process(pid).children(recursive=True)]
    return {Path(environment["IPYTHONDIR"]).parent for environment in everyone if "NBSERVE_ZYGOTE_FD" in environment}


def start(line: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "nbserve.gateway"], input=line, capture_output=True, timeout=60)


def test_it_is_found_while_it_runs_and_not_afterwards() -> None:
    with running(name="notebook.ipynb", kernel_id="k1") as gateway:
        (record,) = [one for one in discovery.records() if one.pid == gateway.process.pid]
        assert (record.url, record.token) == (gateway.process.url, gateway.token)
        assert (record.name, record.kernel_id, record.profile) == ("notebook.ipynb", "k1", "notebook")
        pid = gateway.process.pid
    assert not [one for one in discovery.records() if one.pid == pid]


BOUND = """
import os
from tests.unit.gateway.running import running
allowed = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, allowed[:1])  # as libgomp does to the main thread
with running() as gateway:
    print(allowed == sorted(os.sched_getaffinity(gateway.process.pid)))
"""


@pytest.mark.parametrize(("binding", "is_whole"), [("true", True), ("false", False)])
def test_a_gateway_has_all_cores_where_openmp_has_bound_the_notebook(binding: str, is_whole: bool) -> None:
    """Without a binding one core is what somebody wanted (taskset), and stays."""
    environment = os.environ | {"OMP_PROC_BIND": binding}
    done = subprocess.run(
        [sys.executable, "-c", BOUND], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [str(is_whole or len(os.sched_getaffinity(0)) == 1)]


def test_the_port_of_last_time_is_taken_again_if_it_can_be() -> None:
    with running() as first:
        port = first.port
        with running(preferred_port=port) as second:
            assert second.port != port, "silently another one"
    with running(preferred_port=port) as third:
        assert third.port == port


@pytest.mark.parametrize("which", ["port", "management_port", "metrics_port"])
def test_a_taken_port_says_by_whom(which: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        options: dict[str, Any] = {which: port}
        with pytest.raises(GatewayError) as caught:
            GatewayProcess(GatewayConfig(id="taken", token="t", **options))
        assert f"port {port} is taken by" in caught.value.message
        assert f"pid {os.getpid()}" in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"", "cannot be read"),
        (b"{\n", "cannot be read"),
        (b'{"id": "x", "nonsense": 1}\n', "nonsense"),
        (b'{"id": "x"}\n', "needs a token"),
        (b'{"id": "x", "profile": "server"}\n', "needs a token"),
        (b'{"id": "x", "token": "t", "host": "203.0.113.1"}\n', "cannot listen on 203.0.113.1"),
    ],
)
def test_a_configuration_that_cannot_be(line: bytes, told: str) -> None:
    done = start(line)
    assert done.returncode == 1
    assert told in json.loads(done.stdout)["error"]["message"]


def test_its_one_line_and_then_silence() -> None:
    config = GatewayConfig(id="line", token="t", owner_pid=os.getpid())
    with subprocess.Popen(
        [sys.executable, "-m", "nbserve.gateway"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(config) + b"\n")
        process.stdin.flush()
        said = json.loads(process.stdout.readline())
        assert set(said) == {"url", "port", "management_url", "metrics_url", "pid"}
        assert said["pid"] == process.pid
        assert said["url"] == said["management_url"] == said["metrics_url"] == f"http://127.0.0.1:{said['port']}"
        assert process.stdout.read() == b"", "its end is closed while it runs"
        assert process.poll() is None
        process.terminate()
        assert process.wait(30) == 0


def test_sigterm_finishes_what_is_in_hand(tmp_path: Path) -> None:
    with running() as gateway:
        gateway.client.register(str(make_bundle(tmp_path)))
        replies: list[int] = []
        thread = threading.Thread(target=lambda: replies.append(gateway.predict({"sleep_s": 1.0}).status))
        thread.start()
        until(lambda: gateway.client.model("obedient").workers[0].state == "BUSY", "it is at work")
        folders = folders_of(gateway.process.pid)
        gateway.process.terminate()
        thread.join()
        assert replies == [200]
        assert gateway.process.wait(30) == 0
        assert len(folders) == 1
        assert not any(folder.exists() for folder in folders)


def test_the_grace_ends(tmp_path: Path) -> None:
    with running(shutdown_grace_s=0.5) as gateway:
        gateway.client.register(str(make_bundle(tmp_path)))
        replies: list[int] = []
        thread = threading.Thread(target=lambda: replies.append(gateway.predict({"sleep_s": 60}).status))
        thread.start()
        until(lambda: gateway.client.model("obedient").workers[0].state == "BUSY", "it is at work")
        began = time.monotonic()
        gateway.process.terminate()
        thread.join()
        assert replies == [503]
        assert gateway.process.wait(30) == 0
        assert time.monotonic() - began < 10


def test_shutdown_over_http(tmp_path: Path) -> None:
    with running() as gateway:
        gateway.client.register(str(make_bundle(tmp_path)))
        gateway.client.shutdown()
        assert gateway.process.wait(30) == 0


def test_ctrl_c_is_the_notebooks(tmp_path: Path) -> None:
    with running() as gateway:
        gateway.client.register(str(make_bundle(tmp_path)))
        os.kill(gateway.process.pid, signal.SIGINT)
        assert gateway.predict(1).status == 200
    with running(profile="server") as gateway:
        os.kill(gateway.process.pid, signal.SIGINT)
        assert gateway.process.wait(30) == 0


@pytest.mark.parametrize("busy", [False, True])
def test_it_goes_with_its_owner(tmp_path: Path, busy: bool) -> None:
    """The kernel is killed: gateway and workers are gone within 2 s, even in the middle of a request."""
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process = GatewayProcess(GatewayConfig(id=f"owned{busy}", token="t", owner_pid=owner.pid))
    gateway = Running(process)
    try:
        gateway.client.register(str(make_bundle(tmp_path)))
        folders = folders_of(process.pid)
        everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert len(everyone) >= 2
        if busy:
            connection = gateway.connect()
            body = b'{"sleep_s": 60}'
            head = gateway.head("POST /predictions/obedient", "Content-Type: application/json", "Content-Length: 15")
            connection.send(head + body)
            until(lambda: gateway.client.model("obedient").workers[0].state == "BUSY", "it is at work")
        owner.kill()
        owner.wait()
        process.wait(2.0)  # also reaps it
        assert not [one for one in everyone if one.is_running()]
        assert not any(folder.exists() for folder in folders)
        assert not [one for one in discovery.records() if one.id == process.config.id]
        if busy:
            connection.sock.close()
    finally:
        owner.kill()
        owner.wait()
        if process.is_running():
            process.kill()
        gateway.client.close()


def test_a_detached_one_stays() -> None:
    with running(owner_pid=None) as gateway:
        assert gateway.client.status().owner_pid is None


def test_an_owner_that_has_gone_already() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    process = GatewayProcess(GatewayConfig(id="orphan", token="t", owner_pid=gone.pid))
    try:
        assert process.wait(10) == 0
    finally:
        if process.is_running():
            process.kill()


def test_a_slow_reader_of_events_is_cut_off_and_harms_nobody(tmp_path: Path) -> None:
    with running() as gateway:
        gateway.client.register(str(make_bundle(tmp_path)))
        with gateway.connect() as connection:
            connection.send(gateway.head("GET /events"))
            text = "x" * 60_000
            for _ in range(600):  # 36 MB, of which the reader takes nothing
                gateway.predict({"print": text})
            assert gateway.predict(1).status == 200
            assert psutil.Process(gateway.process.pid).memory_info().rss < 250e6
            received, tail = 0, b""
            with contextlib.suppress(ConnectionResetError):  # it may have been cut off for good
                while not tail.endswith(b"0\r\n\r\n") and (data := connection.sock.recv(1 << 20)):
                    received, tail = received + len(data), (tail + data)[-1000:]
        assert received < 30e6
        assert b"too slow" in tail or not tail.endswith(b"0\r\n\r\n")


def test_the_event_stream_ends_with_the_gateway(tmp_path: Path) -> None:
    with running() as gateway:
        texts: list[str] = []

        def follow() -> None:
            texts.extend(event.text for event in gateway.client.events())

        thread = threading.Thread(target=follow)
        thread.start()
        gateway.client.register(str(make_bundle(tmp_path)))
        until(lambda: texts, "the reader reads")
        gateway.process.terminate()
        thread.join(20)
        assert not thread.is_alive()
        assert texts[-1] == "the gateway has ended"


STARTS_CHILDREN = """
import os, subprocess, sys

class Obedient:
    def inference(self, batch):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return [[child.pid, os.getpid()]]
"""


@pytest.mark.parametrize("ended", ["unregistered", "worker killed", "gateway killed"])
def test_what_a_handler_has_started_ends_with_its_worker(tmp_path: Path, ended: str) -> None:
    process = GatewayProcess(GatewayConfig(id="parents", token="t"))
    gateway = Running(process)
    try:
        gateway.client.register(str(make_bundle(tmp_path, source=STARTS_CHILDREN, sample=None)))
        child, worker = gateway.predict(1).json()
        assert psutil.Process(child).ppid() == worker
        if ended == "unregistered":
            gateway.client.unregister("obedient")
        elif ended == "worker killed":
            os.kill(worker, signal.SIGKILL)
        else:
            process.kill()
        until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", "it has ended")
    finally:
        if process.is_running():
            process.kill()
        gateway.client.close()
