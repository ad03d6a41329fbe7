"""Who lives with whom: a gateway and its workers go with the kernel, or stay with --detach and are found again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from nbserve import Endpoint, discovery
from nbserve.errors import NotFound
from tests.e2e.kernels import marked, running_kernel, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-life")]

ECHO = "%%serve_handler {name} --sample 1 {options}\ndef predict(batch):\n    return batch\n"
GONE_WITHIN_S = 10.0
"""Two seconds on an idle machine; tests share theirs."""


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    """One `nbserve` command."""
    return subprocess.run([sys.executable, "-m", "nbserve", *words], capture_output=True, text=True, timeout=60)


def test_a_killed_kernel_takes_gateway_and_workers_with_it(tmp_path: Path) -> None:
    with running_kernel(tmp_path) as kernel:
        kernel.ok(ECHO.format(name="mortal", options="--workers 2"))
        assert len(marked(kernel.mark)) >= 4  # kernel, gateway, two workers
        record = next(each for each in discovery.records() if each.name == str(tmp_path / "test.ipynb"))
        os.kill(kernel.pid, signal.SIGKILL)
        began = time.monotonic()
        until(lambda: not marked(kernel.mark), GONE_WITHIN_S)
        assert time.monotonic() - began < GONE_WITHIN_S
        assert record.id not in {each.id for each in discovery.records()}
        with pytest.raises(NotFound):
            Endpoint.find("mortal")


def test_a_detached_endpoint_stays_and_is_found_again(tmp_path: Path) -> None:
    with running_kernel(tmp_path) as first:
        first.ok(ECHO.format(name="lasting", options="--detach"))
        url = Endpoint.find("lasting").url
        first.manager.shutdown_kernel()
        assert Endpoint.find("lasting").predict(5) == 5

        with running_kernel(tmp_path) as second:
            assert "lasting" in second.ok("%nbserve list").text
            assert second.ok("import nbserve; nbserve.Endpoint.find('lasting').predict(6)").text == "6"
            ran = second.ok(ECHO.format(name="lasting", options="--detach"))
            assert "lasting version 2: ready" in ran.text
            assert Endpoint.find("lasting").url == url
        assert Endpoint.find("lasting").predict(7) == 7

        listed = json.loads(cli("list", "--json").stdout)
        mine = [row for row in listed if row["name"] == "lasting" and row["default"]]
        assert [(row["version"], row["workers"], row["url"]) for row in mine] == [("2", 1, url)]
        assert cli("token", "lasting").stdout.strip() == mine[0]["token"]
        assert cli("predict", "lasting", "[8]").stdout.strip() == "[8]"
        stopped = cli("stop", "lasting")
        assert stopped.returncode == 0, stopped.stderr
        until(lambda: not marked(first.mark), GONE_WITHIN_S)
        assert cli("predict", "lasting", "[8]").returncode == 3


def test_detaching_later_moves_the_endpoint(tmp_path: Path) -> None:
    with running_kernel(tmp_path) as kernel:
        kernel.ok(ECHO.format(name="mover", options=""))
        before = Endpoint.find("mover").url
        kernel.ok(ECHO.format(name="mover", options="--detach"))
        assert Endpoint.find("mover").url != before
        assert Endpoint.find("mover").predict(1) == 1
        kernel.ok(ECHO.format(name="mover", options=""))
        assert Endpoint.find("mover").url == before
        until(lambda: len([each for each in discovery.records() if each.name == str(tmp_path / "test.ipynb")]) == 1)


def test_two_notebooks_with_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with running_kernel(tmp_path / "a") as one, running_kernel(tmp_path / "b") as two:
        for kernel, answer in ((one, "'a'"), (two, "'b'")):
            kernel.ok(f"%%serve_handler twin\ndef predict(batch):\n    return [{answer}] * len(batch)\n")
        assert one.ok("import nbserve; nbserve.Endpoint.find('twin').predict(1)").text == "'a'"
        assert one.ok("%nbserve predict twin 1").text == '"a"'
        assert two.ok("%nbserve predict twin 1").text == '"b"'
        refused = cli("predict", "twin", "1")
        assert refused.returncode == 2
        assert "is served by 2 gateways" in refused.stderr
        assert str(tmp_path / "a" / "test.ipynb") in refused.stderr
        ids = {record.name: record.id for record in discovery.records()}
        assert cli("predict", f"twin@{ids[str(tmp_path / 'b' / 'test.ipynb')]}", "1").stdout.strip() == '"b"'
        two.ok("%nbserve stop twin")
        foreign = two.run("%nbserve stop twin")
        assert "'twin' is not served by this notebook, but by" in foreign.traceback
        assert f"%nbserve stop twin@{ids[str(tmp_path / 'a' / 'test.ipynb')]}" in foreign.traceback
        assert one.ok("%nbserve predict twin 1").text == '"a"'
        assert "stopped twin" in two.ok(f"%nbserve stop twin@{ids[str(tmp_path / 'a' / 'test.ipynb')]}").text


def test_a_notebook_whose_gateway_was_killed_is_told_so(tmp_path: Path) -> None:
    with running_kernel(tmp_path) as kernel:
        kernel.ok(ECHO.format(name="orphan", options=""))
        [pid] = [record.pid for record in discovery.records() if record.name == str(tmp_path / "test.ipynb")]
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in marked(kernel.mark))
        gone = kernel.run("%nbserve status orphan")
        assert "run the serving cells again: this notebook's gateway was killed by SIGKILL (its log: " in gone.traceback
        kernel.ok(ECHO.format(name="orphan", options=""))
        assert kernel.ok("%nbserve predict orphan 5").text == "5"


def test_a_restarted_kernel_has_its_port_again(tmp_path: Path) -> None:
    with running_kernel(tmp_path) as first:
        first.ok(ECHO.format(name="port", options=""))
        url = Endpoint.find("port").url
    with running_kernel(tmp_path) as second:
        second.ok(ECHO.format(name="port", options=""))
        assert Endpoint.find("port").url == url
        refused = second.run("%nbserve gateway --port 1")
        assert "its port cannot be changed under them" in refused.traceback


def test_a_terminals_ipython_serves_too(tmp_path: Path) -> None:
    cells = [
        "%%serve_handler plain --sample 2\ndef predict(batch):\n    return [2 * one for one in batch]\n",
        "%nbserve predict plain 21",
        "%%serve_handler plain\nvalue = 1\nvalue / 0\n",
    ]
    script = tmp_path / "cells.ipy"
    script.write_text("%load_ext nbserve\n" + "".join(f"get_ipython().run_cell({cell!r})\n" for cell in cells))
    command = [sys.executable, "-m", "IPython", "--colors=nocolor", "--no-banner", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert "plain version 1: ready in" in done.stdout, done.stdout + done.stderr
    assert "Out[0]: 42" in done.stdout
    assert "----> 3 value / 0" in done.stdout
    until(lambda: "plain" not in cli("list").stdout, GONE_WITHIN_S)


def test_a_taken_port_is_said_with_its_owner_and_a_free_one_is_kept(tmp_path: Path) -> None:
    with running_kernel(tmp_path) as kernel, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = kernel.run(f"%nbserve gateway --port {port}")
        assert (refused.status, refused.ename) == ("error", "GatewayError")
        assert str(port) in refused.traceback
        assert str(os.getpid()) in refused.traceback
        taken.close()
        assert f":{port}" in kernel.ok(f"%nbserve gateway --port {port}").text
        kernel.ok(ECHO.format(name="moved", options=""))
        assert f":{port}/" in Endpoint.find("moved").url


def test_ten_endpoints_at_once(tmp_path: Path) -> None:
    with running_kernel(tmp_path) as kernel:
        for number in range(10):
            kernel.ok(ECHO.format(name=f"many{number}", options="--no-wait --threads 1"))
        endpoints = [until(lambda: _ready(f"many{number}")) for number in range(10)]  # noqa: B023 - called at once
        assert [endpoint.predict(n) for n, endpoint in enumerate(endpoints)] == list(range(10))
        status = cli("status").stdout
        assert "cores:" in status
        assert cli("stop", "--all").stdout.count("stopped many") == 10
        assert cli("list").stdout.count("many") == 0


def _ready(name: str) -> Endpoint | None:
    endpoint = Endpoint.find(name)
    return endpoint if endpoint.status().state == "READY" else None


def test_a_bundle_is_served_from_the_command_line_until_ctrl_c(tmp_path: Path) -> None:
    with running_kernel(tmp_path) as kernel:
        kernel.ok(ECHO.format(name="shipped", options=""))
        bundle = Endpoint.find("shipped").status().bundle
    command = [sys.executable, "-m", "nbserve", "serve", bundle, "--name", "shop", "--port", "0", "--workers", "2"]
    environment = os.environ | {"NBSERVE_TOKEN": "open-sesame"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as server:
        assert server.stderr is not None
        try:
            said = []
            for line in server.stderr:
                said.append(line)
                if "is ready at" in line:
                    break
            found = Endpoint.find("shop")
            assert f"shop version 1 is ready at {found.url}\n" in said
            assert "open-sesame" not in "".join(said)
            assert found.token == "open-sesame"
            assert found.workers == 2
            headers = {"Authorization": "Bearer open-sesame"}
            assert httpx.post(found.url, json=[1], headers=headers, trust_env=False).json() == [1]
            assert httpx.post(found.url, json=[1], trust_env=False).status_code == 401
            server.send_signal(signal.SIGINT)
            assert server.wait(30) == 0
            assert "stopping" in server.stderr.read()
        finally:
            server.kill()
    assert cli("status", "shop").returncode == 3
