"""A look inside a live worker: held aside while others serve, code run in it, a breakpoint hit by a real request."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbserve import cli
from nbserve.attach import attach, shown
from nbserve.config import ModelConfig
from nbserve.errors import BadRequest, Conflict, NotFound, UsageError
from nbserve.resolve import Served
from tests.debugger import Debugger
from tests.unit.gateway.running import Running, make_bundle, running, until

pytestmark = pytest.mark.xdist_group("contract-attach")

TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def gateway(bundle: Path) -> Iterator[Running]:
    """A gateway with `one` worker, and with `two`."""
    with running() as gateway:
        for name, workers in (("one", 1), ("two", 2)):
            config = ModelConfig(workers=workers, threads=1, response_timeout_s=1.0)
            gateway.client.register(str(bundle), name=name, config=config)
        yield gateway


def served(gateway: Running, name: str = "one") -> Served:
    return Served(gateway.client, name)


def states(gateway: Running, name: str) -> list[str]:
    return [worker.state for worker in gateway.client.model(name).workers]


def later(ask: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    return thread, answers


def test_requests_of_a_held_worker_go_to_the_others(gateway: Running) -> None:
    held = attach(served(gateway, "two"), 0)
    assert (held.worker.state, held.worker.others, held.worker.held) == ("PAUSED", 1, True)
    assert "requests go to 1 other worker" in shown(held)
    assert f"jupyter console --existing {held.worker.connection_file}" in shown(held)
    pids = {gateway.predict({"pid": True}, "two").json() for _ in range(20)}
    assert len(pids) == 1
    assert held.worker.pid not in pids
    assert states(gateway, "two")[0] == "PAUSED"
    attach(served(gateway, "two"), 0, release=True)
    assert states(gateway, "two") == ["READY", "READY"]
    until(lambda: gateway.predict({"pid": True}, "two").json() == held.worker.pid, "it serves again")


def test_requests_of_the_only_worker_wait_and_none_is_lost(gateway: Running) -> None:
    held = attach(served(gateway), 0)
    assert "it is the only one that serves, so requests wait in the queue" in shown(held)
    waiting = [later(lambda: gateway.predict(7, "one").status) for _ in range(5)]
    until(lambda: gateway.client.model("one").queue_items == 5, "they wait")
    time.sleep(1.2)  # longer than response_timeout_s: what waits has no clock
    assert not any(answers for _, answers in waiting)
    assert attach(served(gateway), 0, release=True).worker.held is False
    for thread, answers in waiting:
        thread.join(TIMEOUT_S)
        assert answers == [200]


def test_code_runs_in_the_worker_and_it_serves_on(gateway: Running) -> None:
    done = attach(served(gateway), 0, run="import os; print('in', os.getpid()); type(handler).__name__, context.name")
    pid = gateway.client.model("one").workers[0].pid
    assert shown(done) == f"in {pid}\n('Obedient', 'one')"
    assert not done.failed
    assert not done.worker.held, "held only while it ran"
    assert gateway.predict(1, "one").status == 200
    failed = attach(served(gateway), 0, run="1 / 0")
    assert failed.failed
    assert "ZeroDivisionError" in shown(failed)
    assert "\x1b" not in shown(failed)
    assert gateway.predict(1, "one").status == 200


def test_code_leaves_a_held_worker_held(gateway: Running) -> None:
    attach(served(gateway), 0)
    done = attach(served(gateway), 0, run="seen = 1")
    assert done.worker.held
    assert states(gateway, "one") == ["PAUSED"]
    assert shown(attach(served(gateway), 0, run="seen")).startswith("1\n")
    attach(served(gateway), 0, release=True)
    assert states(gateway, "one") == ["READY"]


def test_it_is_given_back_by_itself(gateway: Running) -> None:
    attach(served(gateway), 0, seconds=0.3)
    assert gateway.predict(1, "one").status == 200
    assert not gateway.client.model("one").workers[0].held


def test_a_held_worker_that_dies_comes_back_free(gateway: Running) -> None:
    held = attach(served(gateway), 0)
    assert held.worker.pid is not None
    os.kill(held.worker.pid, signal.SIGKILL)
    assert gateway.predict(1, "one").status == 200
    assert not gateway.client.model("one").workers[0].held


def test_what_cannot_be_held(gateway: Running) -> None:
    with pytest.raises(NotFound, match="has no worker 9; it has 0"):
        attach(served(gateway), 9)
    with pytest.raises(BadRequest, match="seconds must be above 0"):
        gateway.client.hold_worker("one", 0, seconds=-1)
    with pytest.raises(UsageError, match="goes with no other option"):
        attach(served(gateway), 0, run="1", release=True)
    assert gateway.ask("PUT /models/one/workers/0/hold", token=False).status == 401
    assert gateway.ask("PUT /models/one/workers/..%2f/hold").status == 404
    assert Conflict.status == 409


def test_the_command(gateway: Running, capsys: pytest.CaptureFixture[str]) -> None:
    where = f"one@{gateway.process.config.id}"
    assert cli.run(["attach", where, "--run", "6 * 7"]) == 0
    assert capsys.readouterr().out.strip() == "42"
    assert cli.run(["attach", where, "--run", "nowhere"]) == 1
    assert "NameError" in capsys.readouterr().out
    assert cli.run(["attach", where]) == 0
    assert "jupyter console --existing" in capsys.readouterr().out
    assert cli.run(["attach", where, "--release"]) == 0
    assert "serves" in capsys.readouterr().out


def test_a_breakpoint_is_hit_by_a_real_request_and_a_local_is_read(gateway: Running, bundle: Path) -> None:
    held = attach(served(gateway), 0, serve=True)
    assert "goes on serving" in shown(held)
    source = bundle / "handler.py"
    line = next(at for at, text in enumerate(source.read_text().splitlines(), 1) if 'return {"echo"' in text)
    with Debugger(held.worker.connection_file) as debugger:
        debugger.initialize()
        debugger.ask("attach")
        [point] = debugger.ask("setBreakpoints", source={"path": str(source)}, breakpoints=[{"line": line}])[
            "breakpoints"
        ]
        assert point["verified"]
        debugger.ask("configurationDone")
        thread, answers = later(lambda: gateway.predict({"n": 42}, "one"))
        stopped = debugger.stopped()
        frame = debugger.ask("stackTrace", threadId=stopped)["stackFrames"][0]
        assert (frame["name"], frame["line"]) == ("answer", line)
        [scope, *_] = debugger.ask("scopes", frameId=frame["id"])["scopes"]
        found = debugger.ask("variables", variablesReference=scope["variablesReference"])["variables"]
        assert {each["name"]: each["value"] for each in found}["payload"] == "{'n': 42}"
        time.sleep(1.2)  # longer than response_timeout_s: somebody reads
        assert not answers
        debugger.ask("continue", threadId=stopped)
        thread.join(TIMEOUT_S)
        [reply] = answers
        assert (reply.status, reply.json()) == (200, {"echo": {"n": 42}})
        debugger.ask("setBreakpoints", source={"path": str(source)}, breakpoints=[])
        debugger.ask("disconnect", restart=False, terminateDebuggee=False)
    attach(served(gateway), 0, release=True)
    assert gateway.predict({"n": 1}, "one").status == 200
    assert gateway.client.model("one").workers[0].pid == held.worker.pid, "the same process serves on"


class Tcp:
    """The debug protocol over TCP, as VS Code speaks it to `debugpy.listen`."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._file = self._socket.makefile("rb")
        self._seq = 0
        self._seen: list[dict[str, Any]] = []

    def __enter__(self) -> Tcp:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, command: str, **arguments: Any) -> int:
        self._seq += 1
        body = json.dumps({"seq": self._seq, "type": "request", "command": command, "arguments": arguments}).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        return self._seq

    def wait(self, **wanted: Any) -> dict[str, Any]:
        """The first message with these fields, which may have come already."""
        while True:
            for message in self._seen:
                if all(message.get(name) == value for name, value in wanted.items()):
                    self._seen.remove(message)
                    assert message.get("success", True), message
                    body: dict[str, Any] = message.get("body") or {}
                    return body
            headers = {}
            while line := self._file.readline().strip():
                name, _, value = line.partition(b":")
                headers[name.lower()] = value
            self._seen.append(json.loads(self._file.read(int(headers[b"content-length"]))))

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        return self.wait(type="response", request_seq=self.send(command, **arguments))


def test_a_debugger_that_speaks_tcp_stops_there_too(gateway: Running, bundle: Path) -> None:
    """As the guide tells users of VS Code."""
    held = attach(served(gateway, "two"), 1, serve=True)
    attach(served(gateway, "two"), 0)  # so that the request comes to worker 1
    told = attach(served(gateway, "two"), 1, serve=True, run="import debugpy; debugpy.listen(('127.0.0.1', 0))")
    match = re.search(r"\('127\.0\.0\.1', (\d+)\)", shown(told))
    assert match, shown(told)
    source = bundle / "handler.py"
    line = next(at for at, text in enumerate(source.read_text().splitlines(), 1) if 'return {"echo"' in text)
    with Tcp(int(match[1])) as debugger:
        debugger.ask("initialize", clientID="test", adapterID="python", linesStartAt1=True, pathFormat="path")
        attached = debugger.send("attach", justMyCode=False)
        debugger.wait(type="event", event="initialized")
        debugger.ask("setBreakpoints", source={"path": str(source)}, breakpoints=[{"line": line}])
        debugger.ask("configurationDone")
        debugger.wait(type="response", request_seq=attached)
        thread, answers = later(lambda: gateway.predict({"n": 43}, "two"))
        stopped = debugger.wait(type="event", event="stopped")["threadId"]
        frame = debugger.ask("stackTrace", threadId=stopped)["stackFrames"][0]
        assert frame["line"] == line
        assert debugger.ask("evaluate", expression="payload['n']", frameId=frame["id"])["result"] == "43"
        debugger.ask("disconnect", terminateDebuggee=False)
        thread.join(TIMEOUT_S)
        assert answers[0].json() == {"echo": {"n": 43}}
    for worker in (0, 1):
        attach(served(gateway, "two"), worker, release=True)
    assert gateway.client.model("two").workers[1].pid == held.worker.pid
