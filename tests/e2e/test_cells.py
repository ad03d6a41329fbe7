"""From cells to endpoints, in a real kernel: forms, swap, errors at cell and line, prints, verbs, no token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

import httpx
import pytest

from nbserve import Endpoint, discovery
from nbserve.discovery import GatewayRecord, home
from tests.e2e.kernels import Kernel, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-cells")]

DOUBLER = """%%serve_handler doubler --sample [1, 2]
from nbserve import Handler

class Base(Handler):
    def inference(self, batch):
        return [[factor * value for value in values] for values in batch]

class Doubler(Base):
    def initialize(self, context):
        print("made here")
    def preprocess(self, rows):
        print(f"got {len(rows)}")
        return super().preprocess(rows)
"""


def gateway(kernel: Kernel) -> GatewayRecord:
    """The kernel's gateway."""
    mine = [
        each for each in discovery.records() if each.name in kernel.ok("import os; os.environ['JPY_SESSION_NAME']").text
    ]
    assert len(mine) == 1
    return mine[0]


def ask(kernel: Kernel, name: str, body: Any) -> httpx.Response:
    """One prediction as a client without nbserve does it."""
    found = gateway(kernel)
    headers = {"Authorization": f"Bearer {found.token}"}
    return httpx.post(f"{found.url}/predictions/{name}", json=body, headers=headers, trust_env=False, timeout=30)


@pytest.fixture(scope="module")
def doubler(kernel: Kernel) -> str:
    """A class that uses a value of another cell, served; its card."""
    kernel.ok("factor = 2")
    ran = kernel.ok(DOUBLER)
    assert "<div" in ran.html
    return ran.text


def test_a_class_is_served_and_shown(kernel: Kernel, doubler: str) -> None:
    assert "doubler version 1: ready" in doubler
    assert "the worker answers the sample exactly as the notebook does" in doubler
    assert "factor" in doubler
    assert ask(kernel, "doubler", [3, 4]).json() == [6, 8]
    assert kernel.ok("type(Doubler), type(_)").status == "ok"
    assert "doubler version 1: ready in" in kernel.shows("ready in")


def test_native_values_and_many_at_once(kernel: Kernel, doubler: str) -> None:
    kernel.ok("import nbserve, numpy as np; e = nbserve.Endpoint.find('doubler')")
    assert kernel.ok("e.predict(np.array([1.5, 2]))").text == "[3.0, 4.0]"
    assert kernel.ok("e.predict_many([[i] for i in range(50)]) == [[2 * i] for i in range(50)]").text == "True"
    status = kernel.ok("e.status()").text
    assert "doubler version 1: READY, default" in status
    assert "pid" in status


def test_the_snippets_of_the_card_work_when_pasted(kernel: Kernel, doubler: str) -> None:
    _, found, snippets = doubler.partition("\ncurl ")
    assert found
    curl, found, python = f"curl {snippets}".partition("\n\n")
    assert found
    environment = os.environ | {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=60, env=environment)
    assert json.loads(done.stdout) == [2, 4], done.stderr
    done = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[2, 4]", done.stderr


def test_prints_arrive_marked_at_the_serving_cell(kernel: Kernel, doubler: str) -> None:
    assert ask(kernel, "doubler", [3]).status_code == 200
    shown = kernel.shows("] got 1")
    assert "[doubler #0 batch " in shown
    assert "[doubler #0] made here" in shown
    logs = kernel.ok("%nbserve logs doubler").text
    assert "] got 1" in logs
    assert "made here" in logs


def test_a_second_run_swaps_without_a_failed_request(kernel: Kernel, doubler: str) -> None:
    kernel.ok("%nbserve serve Doubler --name swapped --sample [1]")
    kernel.ok("factor = 3")
    found, stop, seen = gateway(kernel), threading.Event(), []
    headers = {"Authorization": f"Bearer {found.token}"}

    def hammer() -> None:
        with httpx.Client(trust_env=False, headers=headers, timeout=30) as client:
            while not stop.is_set():
                answer = client.post(f"{found.url}/predictions/swapped", json=[1])
                seen.append((answer.status_code, answer.text))

    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        ran = kernel.ok("%nbserve serve Doubler --name swapped --sample [1]")
        until(lambda: seen and seen[-1] == (200, "[3]"))
    finally:
        stop.set()
        thread.join()
    assert "swapped version 2: ready" in ran.text
    assert set(seen) == {(200, "[2]"), (200, "[3]")}
    assert kernel.ok("%nbserve stop swapped").text == "stopped swapped (version all)"
    assert ask(kernel, "swapped", [1]).status_code == 404
    kernel.ok("factor = 2")


def test_a_function_is_served(kernel: Kernel) -> None:
    ran = kernel.ok(
        "%%serve_handler shout --sample 'a'\ndef predict(batch):\n    return [text.upper() for text in batch]\n"
    )
    assert "shout version 1: ready" in ran.text
    assert ask(kernel, "shout", "abc").json() == "ABC"
    kernel.ok("%nbserve_stop shout")


def test_a_module_is_served_in_one_line(kernel: Kernel) -> None:
    kernel.ok("import torch\ntorch.manual_seed(0)\nlinear = torch.nn.Linear(2, 1)\nx = torch.ones(3, 2)")
    ran = kernel.ok("%nbserve serve linear --sample x[0]")
    assert "linear version 1: ready" in ran.text
    expected = json.loads(kernel.ok("print(linear(x[0]).tolist())").stdout)
    assert ask(kernel, "linear", [1, 1]).json() == pytest.approx(expected, abs=1e-5)
    kernel.ok("%nbserve stop linear")


def test_no_wait_returns_while_it_loads(kernel: Kernel) -> None:
    ran = kernel.ok("%%serve_handler later --no-wait\ndef predict(batch):\n    return batch\n")
    assert "later version 1: loading" in ran.text
    until(lambda: ask(kernel, "later", 1).status_code == 200)
    kernel.ok("%nbserve stop later")


def test_bundles_that_no_version_can_come_back_to_go_though_no_cell_waits(kernel: Kernel) -> None:
    folder = home() / "bundles"
    cell = "%%serve_handler many --no-wait\ndef predict(batch):\n    return [{number} for _ in batch]\n"
    for number in range(9):
        kernel.ok(cell.format(number=number))
        until(lambda number=number: ask(kernel, "many", 0).text == str(number))
    until(lambda: len(kernel.ok("nbserve.Endpoint.find('many').status().kept").text.split(",")) == 5)
    kernel.ok(cell.format(number=9))
    until(lambda: ask(kernel, "many", 0).text == "9")
    assert len(list(folder.glob("many-*"))) <= 7  # the new one, the replaced one, and those kept before it
    kernel.ok("%nbserve stop many")


def test_a_sample_that_raises_is_shown_without_our_frames(kernel: Kernel) -> None:
    ran = kernel.run("%%serve_handler x --sample nothing['x']\nnothing = {}\ndef predict(b): return b\n")
    assert (ran.status, ran.ename) == ("error", "KeyError")
    assert "magics.py" not in ran.traceback
    assert "<--sample nothing['x']>" in ran.traceback


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%%serve_handler x --worker 2\npass", "Did you mean '--workers'"),
        ("%%serve_handler x --workers 0\npass", "--workers must be positive, not 0"),
        ("%%serve_handler x --sample y[\npass", "--sample: not an expression"),
        ("%%serve_handler x --sample never_bound\ndef predict(b): return b", "name 'never_bound' is not defined"),
        ("%%serve_handler\npass", "needs a name"),
        ("%nbserve lst", "did you mean list?"),
        ("%nbserve serve linear[0", "not an expression"),
    ],
)
def test_a_wrong_option_is_one_line(kernel: Kernel, line: str, says: str) -> None:
    ran = kernel.run(line)
    assert ran.status == "error"
    assert ran.stderr.startswith("UsageError: ")
    assert says in ran.stderr
    assert ran.stderr.strip().count("\n") == 0
    assert ran.traceback == ""


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%%serve_handler x\nvalue = 1", "no handler in this cell: it defines no class and no function"),
        ("%%serve_handler x\nclass A:\n    pass\ndef f(): pass", "no handler in this cell: found class A, function f"),
        (
            "%%serve_handler x\nclass A:\n  def inference(s, b): return b\nclass B:\n  def handle(s, b): return b",
            "several classes of this cell can be served: A, B",
        ),
        ("%%serve_handler x --handler Cc\nclass Ccc: pass", "--handler Cc: no such name; did you mean Ccc?"),
        ("%%serve_handler x/y\ndef predict(b): return b", "'x/y' is no name for an endpoint"),
    ],
)
def test_what_cannot_be_served_says_what_was_found(kernel: Kernel, cell: str, says: str) -> None:
    ran = kernel.run(cell)
    assert ran.status == "error"
    assert ran.ename == "UsageError"
    assert says in ran.traceback
    assert "site-packages" not in ran.traceback


def test_a_syntax_error_is_shown_at_the_cells_line(kernel: Kernel) -> None:
    ran = kernel.run("%%serve_handler x\n\nclass A:\n    def inference(self batch):\n        return batch\n")
    assert ran.status == "error"
    assert f"Cell In[{ran.number}], line 4" in ran.traceback
    assert "def inference(self batch):" in ran.traceback
    assert "SyntaxError" in ran.traceback
    assert "magics.py" not in ran.traceback


def test_an_error_of_the_body_is_shown_at_the_cells_line_without_our_frames(kernel: Kernel) -> None:
    ran = kernel.run("%%serve_handler x\nvalue = 1\n1 / 0\ndef predict(b): return b\n")
    assert (ran.status, ran.ename) == ("error", "ZeroDivisionError")
    assert f"Cell In[{ran.number}], line 3" in ran.traceback
    assert "----> 3 1 / 0" in ran.traceback
    assert "nbserve" not in ran.traceback.replace("%%serve_handler", "")
    assert kernel.ok("value").text == "1"


def test_initialize_that_raises_shows_its_own_traceback(kernel: Kernel) -> None:
    cell = (
        "%%serve_handler broken\nclass Broken:\n    def initialize(self, context):\n        missing['key']\n"
        "    def inference(self, batch):\n        return batch\n"
    )
    kernel.ok("missing = {}")
    ran = kernel.run(cell)
    assert (ran.status, ran.ename) == ("error", "LoadError")
    assert f"In[{ran.number}], line 4" in ran.traceback
    assert "missing['key']" in ran.traceback
    assert "KeyError" in ran.traceback
    assert "initialize" in ran.traceback
    assert ask(kernel, "broken", 1).status_code == 404
    assert kernel.ok("print('after')").stdout == "after\n"


def test_an_error_in_a_request_is_shown_at_cell_and_line(kernel: Kernel) -> None:
    ran = kernel.ok("%%serve_handler fails\n# a comment\ndef predict(batch):\n    return [1 / one for one in batch]\n")
    answer = ask(kernel, "fails", 0)
    assert answer.status_code == 500
    assert answer.json()["where"] == f"In[{ran.number}], line 4"
    raised = kernel.run("nbserve.Endpoint.find('fails').predict(0)")
    assert raised.ename == "HandlerError"
    assert "ZeroDivisionError: division by zero" in raised.traceback
    assert f"In[{ran.number}], line 4" in raised.traceback
    assert ask(kernel, "fails", 4).json() == 0.25
    kernel.ok("%nbserve stop fails")


def test_an_interrupt_while_loading_leaves_the_old_version(kernel: Kernel) -> None:
    kernel.ok("%%serve_handler slow\ndef predict(batch):\n    return ['old'] * len(batch)\n")
    cell = (
        "%%serve_handler slow\nimport time\nclass Slow:\n    def initialize(self, context):\n"
        "        print('begins'); time.sleep(60)\n    def inference(self, batch):\n        return batch\n"
    )
    interrupted = threading.Event()

    def interrupt_once() -> None:
        begun = any("begins" in data.get("text/plain", "") for data in kernel.displays.values())
        if begun and not interrupted.is_set():
            interrupted.set()
            kernel.interrupt()

    ran = kernel.run(cell, during=interrupt_once)
    assert interrupted.is_set()
    assert (ran.status, ran.ename) == ("error", "KeyboardInterrupt")
    assert "version 1 is served still" in ran.traceback
    assert "interrupted; version 1 is served still" in kernel.shows("interrupted")
    assert ask(kernel, "slow", 1).json() == "old"
    versions = [model.version for model in Endpoint.find("slow")._served.client.models() if model.name == "slow"]
    assert versions == ["1"]
    kernel.ok("%nbserve stop slow")


def test_an_answer_that_differs_is_not_served_and_both_are_shown(kernel: Kernel) -> None:
    cell = "%%serve_handler who --sample 1 {options}\nimport os\ndef predict(b):\n    return [os.getpid() for _ in b]\n"
    ran = kernel.run(cell.format(options=""))
    assert (ran.status, ran.ename) == ("error", "ProofError")
    assert str(kernel.pid) in ran.traceback
    assert "notebook:" in ran.traceback
    assert "worker:" in ran.traceback
    assert ask(kernel, "who", 1).status_code == 404
    kernel.ok(cell.format(options="--proof off"))
    assert ask(kernel, "who", 1).json() != kernel.pid
    kernel.ok("%nbserve stop who")


@pytest.mark.parametrize(
    ("body", "options", "says"),
    [
        ("time.sleep(60)", "--startup-timeout-s 8", ["StartupTimeout: still in initialize", "--startup-timeout-s"]),
        ("os.kill(os.getpid(), 9)", "", ["SIGKILL"]),
    ],
)
def test_initialize_that_hangs_or_is_killed(kernel: Kernel, body: str, options: str, says: list[str]) -> None:
    ran = kernel.run(
        f"%%serve_handler stuck {options}\nimport os, time\nclass Stuck:\n    def initialize(self, context):\n"
        f"        {body}\n    def inference(self, batch):\n        return batch\n"
    )
    assert (ran.status, ran.ename) == ("error", "LoadError")
    for word in says:
        assert word in ran.traceback
    assert ask(kernel, "stuck", 1).status_code == 404


def test_a_sample_that_the_handler_cannot_answer_fails_in_the_notebook(kernel: Kernel) -> None:
    ran = kernel.run("%%serve_handler picky --sample 0\ndef predict(batch):\n    return [1 / one for one in batch]\n")
    assert (ran.status, ran.ename) == ("error", "HandlerError")
    assert "the handler failed on the sample: ZeroDivisionError" in ran.traceback
    assert f"In[{ran.number}], line 3" in ran.traceback


def test_what_cannot_be_shipped_names_the_chain(kernel: Kernel) -> None:
    kernel.ok(
        "import threading\nlock = threading.Lock()\ndef guarded(x):\n    with lock:\n        return x\nlock.acquire()"
    )
    ran = kernel.run("%%serve_handler locked\ndef predict(batch):\n    return [guarded(one) for one in batch]\n")
    assert (ran.status, ran.ename) == ("error", "CaptureError")
    assert "lock" in ran.traceback
    assert "guarded" in ran.traceback


def test_environment_and_workers_of_the_options(kernel: Kernel) -> None:
    cell = (
        "%%serve_handler configured --workers 2 --env GREETING='good day' --env OTHER=1 --max-batch-size 4\n"
        "import os\ndef predict(batch):\n    return [os.environ['GREETING'] for _ in batch]\n"
    )
    ran = kernel.ok(cell)
    assert "2 workers" in ran.text
    assert ask(kernel, "configured", 1).json() == "good day"
    assert kernel.ok("nbserve.Endpoint.find('configured').status().config.max_batch_size").text == "4"
    kernel.ok("%nbserve stop configured")


def test_logs_are_followed_until_interrupted(kernel: Kernel, doubler: str) -> None:
    followed: list[str] = []

    def interrupt_when_shown() -> None:
        texts = [m["content"]["text"] for m in kernel.messages if m["msg_type"] == "stream"]
        if any("] got 1" in text for text in texts) and not followed:
            followed.extend(texts)
            kernel.interrupt()

    ran = kernel.run("%nbserve logs doubler -f", during=interrupt_when_shown)
    assert ran.status == "ok"
    assert "[doubler #0 warm-up] got 1" in "".join(followed)


def test_help_and_completion(kernel: Kernel, doubler: str) -> None:
    shown = kernel.documentation("%%serve_handler")
    for option in ("--sample", "--max-batch-delay-ms", "--detach", "--startup-timeout-s", "[default: 120.0]"):
        assert option in shown
    assert "--max-batch-size" in kernel.completions("%%serve_handler digits --max-b")
    assert kernel.completions("%nbserve sc") == ["scale"]
    assert kernel.completions("%%serve_handler digits --device cu") == ["cuda"]
    assert "doubler" in kernel.completions("%nbserve logs dou")
    assert "max(" not in kernel.completions("%%serve_handler digits --max")


def test_scale_explain_list_and_status(kernel: Kernel, doubler: str) -> None:
    assert kernel.ok("%nbserve scale doubler 2").text.count("READY") >= 3
    explained = kernel.ok("%nbserve explain doubler").text
    assert "factor" in explained
    assert "Doubler" in explained
    assert "-> Base -> factor" in kernel.ok("%nbserve explain doubler factor").text
    kernel.ok("factor = 3")
    for asked in ("%nbserve status doubler", "%nbserve explain doubler"):
        assert "factor has changed since" in kernel.ok(asked).text
    kernel.ok("factor = 2")
    assert "changed since" not in kernel.ok("%nbserve status doubler").text
    assert "nothing that is served uses it" in kernel.run("%nbserve explain doubler nobody").traceback
    listed = kernel.ok("%nbserve list").text
    assert "doubler" in listed
    assert "test.ipynb" in listed
    assert "serves" not in kernel.ok("%nbserve status").text
    kernel.ok("rows = %nbserve list --json")
    assert kernel.ok("[sorted(row) for row in rows][0]").text.count("token") == 0
    assert kernel.ok("%nbserve token doubler").text == "'***'"


def test_unload_and_load_again(kernel: Kernel, doubler: str) -> None:
    kernel.ok("%unload_ext nbserve")
    assert "not found" in kernel.run("%nbserve list").stderr
    assert ask(kernel, "doubler", [1]).json() == [2]
    kernel.ok("%load_ext nbserve")
    assert "doubler" in kernel.ok("%nbserve list").text


def test_last_of_all_no_message_held_the_token(kernel: Kernel, doubler: str) -> None:
    token = gateway(kernel).token
    assert len(token) > 20
    assert len(kernel.messages) > 5
    assert not [message for message in kernel.messages if token in json.dumps(message, default=str)]
