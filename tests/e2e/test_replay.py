"""A failed request, run again in a real kernel: the cell's own lines in traceback and debugger, what has changed."""

from __future__ import annotations

import json
import re
import time
from queue import Empty
from typing import Any

import pytest

from nbserve import discovery
from tests.debugger import Debugger
from tests.e2e.kernels import CELL_TIMEOUT_S, Kernel, Ran, _take

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-replay")]

RATIO = """%%serve_handler ratio --sample {"a": 1, "b": 2} --redact secret
from nbserve import Handler
import json

class Ratio(Handler):
    def preprocess(self, rows):
        return [(row["a"], row["b"]) for row in rows]

    def inference(self, pairs):
        return [self.one(a, b) for a, b in pairs]

    def one(self, a, b):
        if isinstance(b, str):
            b = json.loads(b)
        result = a / b
        return scale * result
"""


def ask(kernel: Kernel, code: str) -> str:
    """A prediction that fails; the id of the failure."""
    ran = kernel.run(f"endpoint.predict({code})")
    assert ran.status == "error", ran
    return kernel.ok("print(endpoint.failures[0].id)").stdout.strip()


def talk(kernel: Kernel, code: str, answers: list[str]) -> tuple[Ran, list[str]]:
    """Run a cell that asks: the debugger's prompts are answered one by one; what was printed before each prompt."""
    client: Any = kernel.client
    asked = client.execute(code, allow_stdin=True)
    ran, told, seen = Ran(), list(answers), [""]
    deadline = time.monotonic() + CELL_TIMEOUT_S
    while True:
        assert time.monotonic() < deadline, f"the cell did not end: {seen}"
        message = kernel._next(0.02)
        if message is not None and message["parent_header"].get("msg_id") == asked:
            _take(ran, message)
            if message["msg_type"] == "stream":
                seen[-1] += re.sub(r"\x1b\[[\d;]*m", "", message["content"]["text"])
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        try:
            client.get_stdin_msg(timeout=0.02)
        except Empty:
            continue
        while (message := kernel._next(0.1)) is not None:  # what was printed before it asked
            if message["msg_type"] == "stream":
                seen[-1] += re.sub(r"\x1b\[[\d;]*m", "", message["content"]["text"])
        client.input(told.pop(0) if told else "q")
        seen.append("")
    reply: Any = client.get_shell_msg(timeout=30)
    while reply["parent_header"].get("msg_id") != asked:
        reply = client.get_shell_msg(timeout=30)
    ran.status = reply["content"]["status"]
    return ran, seen


@pytest.fixture(scope="module")
def ratio(kernel: Kernel) -> int:
    """Serves `ratio`; the number of its cell."""
    kernel.ok("scale = 2.0")
    ran = kernel.ok(RATIO)
    kernel.ok("import nbserve; endpoint = nbserve.Endpoint.find('ratio')")
    return ran.number


@pytest.fixture(scope="module")
def zero(kernel: Kernel, ratio: int) -> str:
    """A failure: divided by zero."""
    return ask(kernel, '{"a": 1, "b": 0, "secret": "hunter2"}')


def test_the_table_and_the_card_show_cell_line_and_row(kernel: Kernel, ratio: int, zero: str) -> None:
    table = kernel.ok("%nbserve failures ratio").text
    assert zero in table
    assert f"In[{ratio}], line 15" in table
    assert "1 of 1" in table
    card = kernel.ok(f"next(each for each in endpoint.failures if each.id == {zero!r})")
    assert f"{zero}: 500 ZeroDivisionError" in card.text
    assert "-->   15         result = a / b" in card.text
    assert '"b": 0' in card.text
    assert f"%nbserve replay {zero} --break inference" in card.text
    assert '"secret": "REDACTED"' in card.text
    listed = kernel.ok("%nbserve failures ratio --json").results[-1]["text/plain"]
    assert "'status': 500" in listed


def test_an_error_says_how_to_replay_it(kernel: Kernel, ratio: int) -> None:
    ran = kernel.run("endpoint.predict({'a': 1, 'b': 0})")
    assert "What to do: in a notebook, `%nbserve replay ratio` runs it again" in ran.traceback


def test_a_replay_fails_on_the_cells_own_lines(kernel: Kernel, ratio: int, zero: str) -> None:
    ran = kernel.run(f"%nbserve replay {zero}")
    assert ran.ename == "ZeroDivisionError"
    assert f"row 1 of 1, ZeroDivisionError in inference, In[{ratio}], line 15" in ran.stdout
    assert "changed" not in ran.stdout
    places = re.findall(r"(?:Cell|File) (\S+), line (\d+), in ", ran.traceback)
    assert places[-1] == (f"In[{ratio}]", "15")
    assert {place for place, _ in places} == {f"In[{ratio}]"}, "no frame of ours"
    assert "pipeline.py" not in ran.traceback
    assert f"%debug opens at In[{ratio}], line 15" in ran.traceback


def test_the_debugger_opens_in_the_cell(kernel: Kernel, ratio: int, zero: str) -> None:
    assert kernel.run("1 + nowhere").ename == "NameError", "an older traceback is not the one that it opens on"
    assert kernel.run("endpoint.replay()").ename == "ZeroDivisionError"
    _, seen = talk(kernel, "%debug", ["p a, b", "up", "p len(pairs)", "q"])
    assert "result = a / b" in seen[0]
    assert "ipykernel" in seen[0], "the file that the front end's debugger knows the cell by"
    assert "(15)one()" in seen[0]
    assert "(1, 0)" in seen[1]
    assert "in <listcomp>" in seen[2] or "inference" in seen[2]


def test_a_library_that_raises_is_shown_but_the_debugger_stays_in_the_cell(kernel: Kernel, ratio: int) -> None:
    broken = ask(kernel, '{"a": 1, "b": "{"}')
    ran = kernel.run(f"%nbserve replay {broken}")
    assert ran.ename == "JSONDecodeError"
    assert "json/decoder.py" in ran.traceback
    assert f"%debug opens at In[{ratio}], line 14" in ran.traceback
    _, seen = talk(kernel, "%debug", ["p b", "q"])
    assert "b = json.loads(b)" in seen[0]
    assert "'{'" in seen[1]


def test_pdb_at_once_and_a_stop_before(kernel: Kernel, ratio: int, zero: str) -> None:
    ran, seen = talk(kernel, f"%nbserve replay {zero} --pdb", ["p a", "q"])
    assert "result = a / b" in seen[0]
    assert seen[1].strip() == "1"
    assert ran.ename == "ZeroDivisionError"
    ran, seen = talk(kernel, f"%nbserve replay {zero} --break inference", ["p pairs", "c"])
    assert "--> 10" in seen[0] or "return [self.one(a, b)" in seen[0]
    assert seen[1].strip() == "[(1, 0)]"
    assert ran.ename == "ZeroDivisionError"
    ran, seen = talk(kernel, f"%nbserve replay {zero} --break preprocess", ["q"])
    assert ran.status == "ok"
    assert "the debugger was left" in ran.text
    ran = kernel.run(f"%nbserve replay {zero} --break postprocess")
    assert ran.ename == "UsageError"
    assert "has no postprocess of its own" in ran.traceback


def test_a_front_ends_debugger_stops_in_the_serving_cell(kernel: Kernel, ratio: int, zero: str) -> None:
    """A breakpoint set in the cell that was served, as JupyterLab sets it; then a replay."""
    with Debugger(kernel.manager.connection_file) as debugger:
        debugger.initialize()
        debugger.ask("attach")
        file = debugger.ask("dumpCell", code=RATIO)["sourcePath"]
        debugger.ask("setBreakpoints", source={"path": file}, breakpoints=[{"line": 15}])
        debugger.ask("configurationDone")
        asked = kernel.client.execute(f"%nbserve replay {zero}")
        stopped = debugger.stopped()
        frame = debugger.ask("stackTrace", threadId=stopped)["stackFrames"][0]
        assert (frame["name"], frame["line"], frame["source"]["path"]) == ("one", 15, file)
        [scope, *_] = debugger.ask("scopes", frameId=frame["id"])["scopes"]
        found = debugger.ask("variables", variablesReference=scope["variablesReference"])["variables"]
        assert {each["name"]: each["value"] for each in found}["b"] == "0"
        debugger.ask("setBreakpoints", source={"path": file}, breakpoints=[])
        debugger.ask("continue", threadId=stopped)
        reply: Any = kernel.client.get_shell_msg(timeout=60)
        while reply["parent_header"].get("msg_id") != asked:
            reply = kernel.client.get_shell_msg(timeout=60)
        assert reply["content"]["ename"] == "ZeroDivisionError"
        debugger.ask("disconnect", restart=False, terminateDebuggee=False)


def test_both_answers_against_the_live_endpoint(kernel: Kernel, ratio: int, zero: str) -> None:
    ran = kernel.ok(f"%nbserve replay {zero} --against live")
    assert "here: ZeroDivisionError: division by zero" in ran.text
    assert "live: 500 ZeroDivisionError: division by zero" in ran.text


def test_a_changed_cell_is_noticed(kernel: Kernel, ratio: int, zero: str) -> None:
    source = RATIO.partition("\n")[2].replace("result = a / b", "result = a / b if b else 0")
    changed = kernel.ok(source)
    try:
        ran = kernel.ok(f"%nbserve replay {zero}")
        assert f"changed since: Ratio.one (now In[{changed.number}])" in ran.stdout
        assert "does not fail here (what was changed may be the mend)" in ran.text
        assert "0.0" in ran.text
        compared = kernel.ok(f"endpoint.replay({zero!r}, against='live')").text
        assert "here: 0.0" in compared
        assert "live: 500" in compared
        swapped = kernel.ok(RATIO.replace("result = a / b", "result = a / b if b else 0"))
        assert "ratio version 2: ready" in swapped.text
        card = f"next(each for each in endpoint.failures if each.id == {zero!r})"
        assert "result = a / b\n" in kernel.ok(card).text, "as it was served then"
        assert zero in kernel.ok("%nbserve failures ratio").text, "what failed before the swap can be replayed after it"
        assert "changed since: Ratio.one" in kernel.ok(f"%nbserve replay {zero}").stdout
    finally:
        kernel.ok(RATIO)
    assert "-->   15         result = a / b" in kernel.ok(card).text, "the same bundle, from another cell now"


def test_a_withheld_body_cannot_be_replayed(kernel: Kernel, ratio: int) -> None:
    word = ask(kernel, r"b'\xff', content_type='application/json'")
    ran = kernel.run(f"%nbserve replay {word}")
    assert ran.ename == "UsageError"
    assert "withheld: it is no JSON, so that nothing could be redacted in it" in ran.traceback


def test_a_body_that_is_no_json_fails_before_your_code(kernel: Kernel, ratio: int) -> None:
    kernel.ok("%%serve_handler plain --sample 1\ndef predict(batch):\n    return batch\n")
    kernel.ok("endpoint = nbserve.Endpoint.find('plain')")
    word = ask(kernel, "b'{', content_type='application/json'")
    ran = kernel.run(f"%nbserve replay {word} --pdb")
    assert ran.ename == "BadRequest"
    assert "the body is not valid JSON" in ran.traceback
    assert "none of your code had run" in ran.stdout
    kernel.ok("%nbserve stop plain\nendpoint = nbserve.Endpoint.find('ratio')")


def test_a_batch_that_fails_only_together_is_replayed_together(kernel: Kernel, ratio: int) -> None:
    kernel.ok(
        "%%serve_handler pair --sample 1 --isolate off --max-batch-size 2 --max-batch-delay-ms 2000\n"
        "def predict(batch):\n"
        "    if len(batch) > 1 and 13 in batch:\n"
        "        raise ValueError(f'{len(batch)} rows with a 13')\n"
        "    return batch\n"
    )
    kernel.ok("pair = nbserve.Endpoint.find('pair')")
    ran = kernel.run("pair.predict_many([5, 13], concurrency=2)")
    assert "2 rows with a 13" in ran.traceback
    kernel.ok("assert len(pair.failures) == 2")
    ran = kernel.run("%nbserve replay pair")
    assert ran.ename == "ValueError"
    assert "replayed with its batch of 2" in ran.stdout
    assert "2 rows with a 13" in ran.traceback
    kernel.ok("%nbserve stop pair")


def test_coroutines_functions_and_modules_are_replayed(kernel: Kernel, ratio: int) -> None:
    ran = kernel.ok(
        "%%serve_handler slowly --sample 1\n"
        "import asyncio\n"
        "class Slowly:\n"
        "    async def inference(self, batch):\n"
        "        await asyncio.sleep(0)\n"
        "        return [1 / value for value in batch]\n"
    )
    kernel.ok("endpoint = nbserve.Endpoint.find('slowly')")
    word = ask(kernel, "0")
    failed = kernel.run(f"%nbserve replay {word}")
    assert failed.ename == "ZeroDivisionError"
    assert f"%debug opens at In[{ran.number}], line 6" in failed.traceback
    failed, seen = talk(kernel, f"%nbserve replay {word} --break inference", ["n", "p batch", "n", "q"])
    assert "await asyncio.sleep(0)" in seen[0], "the first line of a coroutine"
    assert "return [1 / value for value in batch]" in seen[1], "and the one behind its await"
    assert seen[2].strip() == "[0]"
    assert "ZeroDivisionError" in seen[3]
    failed, seen = talk(kernel, f"%nbserve replay {word} --break inference", ["q"])
    assert failed.status == "ok"
    assert "the debugger was left" in failed.text
    assert kernel.ok("import asyncio; await asyncio.sleep(0); 'the loop of the notebook'").text
    kernel.ok("import torch; layer = torch.nn.Linear(2, 1)")
    kernel.ok("%nbserve serve layer --sample torch.ones(2)")
    kernel.ok("endpoint = nbserve.Endpoint.find('layer')")
    word = ask(kernel, "[1.0, 2.0, 3.0]")
    failed = kernel.run(f"%nbserve replay {word}")
    assert failed.ename == "RuntimeError"
    assert "shapes cannot be multiplied" in failed.traceback
    kernel.ok("%nbserve stop slowly\n%nbserve stop layer\nendpoint = nbserve.Endpoint.find('ratio')")


def test_a_coroutine_that_ran_out_of_time_is_looked_at_by_an_interrupt(kernel: Kernel, ratio: int) -> None:
    ran = kernel.ok(
        "%%serve_handler waits --sample 1 --response-timeout-s 0.5 --retries 0\n"
        "import asyncio\n"
        "class Waits:\n"
        "    async def inference(self, batch):\n"
        "        if 13 in batch:\n"
        "            asyncio.get_running_loop().call_soon(lambda: print('it waits', flush=True))\n"
        "            await asyncio.sleep(3600)\n"
        "        return batch\n"
    )
    kernel.ok("endpoint = nbserve.Endpoint.find('waits')")
    word = ask(kernel, "13")
    interrupted = []

    def interrupt() -> None:
        if not interrupted and any("it waits" in str(each["content"].get("text")) for each in kernel.messages[before:]):
            interrupted.append(True)
            kernel.interrupt()

    before = len(kernel.messages)
    failed = kernel.run(f"%nbserve replay {word}", during=interrupt)
    assert failed.ename == "KeyboardInterrupt"
    assert f"%debug opens at In[{ran.number}], line 7" in failed.traceback
    _, seen = talk(kernel, "%debug", ["p batch", "q"])
    assert "await asyncio.sleep(3600)" in seen[0]
    assert seen[1].strip() == "[13]"
    kernel.ok("%nbserve stop waits\nendpoint = nbserve.Endpoint.find('ratio')")


def test_a_request_that_killed_its_worker_is_not_run_here_unasked(kernel: Kernel, ratio: int) -> None:
    kernel.ok(
        "%%serve_handler deadly --sample 1 --retries 0\n"
        "import os\n"
        "def predict(batch):\n"
        "    if 13 in batch:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return batch\n"
    )
    kernel.ok("endpoint = nbserve.Endpoint.find('deadly')")
    word = ask(kernel, "13")
    ran = kernel.run(f"%nbserve replay {word}")
    assert ran.ename == "UsageError"
    assert "killed its worker" in ran.traceback
    assert "--force" in ran.traceback
    kernel.ok("%nbserve stop deadly\nendpoint = nbserve.Endpoint.find('ratio')")


def test_without_the_handler_it_is_the_code_as_it_was_served(kernel: Kernel, ratio: int, zero: str) -> None:
    """As in a fresh kernel, of an endpoint that was started elsewhere."""
    kernel.ok("import IPython; kept = Ratio; del Ratio; sources = IPython.get_ipython()._nbserve_extension.sources")
    kernel.ok("old = sources.pop('ratio')")
    try:
        ran = kernel.run(f"%nbserve replay {zero}")
        assert ran.ename == "ZeroDivisionError"
        assert "this notebook has no Ratio: replayed with the code as it was served" in ran.stdout
        assert re.search(r"%debug opens at In\[\d+\], line 15", ran.traceback)
        _, seen = talk(kernel, "%debug", ["p a, b", "q"])
        assert "handler.py" in seen[0]
        assert "result = a / b" in seen[0]
        assert "(1, 0)" in seen[1]
    finally:
        kernel.ok("sources['ratio'] = old; Ratio = kept")


def test_one_that_ran_out_of_time_is_looked_at_by_an_interrupt(kernel: Kernel, ratio: int) -> None:
    ran = kernel.ok(
        "%%serve_handler stuck --sample 1 --response-timeout-s 0.5 --retries 0\n"
        "import time\n"
        "def predict(batch):\n"
        "    while 13 in batch:\n"
        "        time.sleep(0.01)\n"
        "    return batch\n"
    )
    kernel.ok("endpoint = nbserve.Endpoint.find('stuck')")
    word = ask(kernel, "13")
    before, interrupted = len(kernel.messages), False

    def interrupt() -> None:
        nonlocal interrupted
        if interrupted:
            return
        interrupted = any("interrupt the kernel" in str(message["content"]) for message in kernel.messages[before:])
        if interrupted:
            kernel.interrupt()

    failed = kernel.run(f"%nbserve replay {word}", during=interrupt)
    assert failed.ename == "KeyboardInterrupt"
    assert "it ran out of time" in failed.stdout
    assert re.search(rf"%debug opens at In\[{ran.number}\], line [45]", failed.traceback)
    kernel.ok("%nbserve stop stuck\nendpoint = nbserve.Endpoint.find('ratio')")


def test_text_from_outside_stays_text(kernel: Kernel, ratio: int) -> None:
    word = ask(kernel, r'{"a": 1, "b": "<script>alert(1)</script>\x1b[31m"}')
    shown = kernel.ok("endpoint.failures[0]")
    assert word in shown.text
    assert "<script>" in shown.text
    assert "<script>" not in shown.html
    assert "&lt;script&gt;" in shown.html
    assert "\x1b[31m" not in shown.text
    assert "<script>" not in kernel.ok("endpoint.failures").html


def test_the_token_was_in_no_output(kernel: Kernel, ratio: int) -> None:
    name = kernel.ok("import os; os.environ['JPY_SESSION_NAME']").text.strip("'")
    [mine] = [each for each in discovery.records() if each.name == name]
    assert mine.token not in json.dumps(kernel.messages, default=str)
