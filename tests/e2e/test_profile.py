"""`%nbserve profile` in a real kernel: interrupted, without traffic, asked for wrongly, of a worker that dies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.kernels import Kernel

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-profile")]

CELL = """%%serve_handler doubled --sample 3
def predict(batch):
    return [2 * each for each in batch]
"""


@pytest.fixture(scope="module")
def doubled(kernel: Kernel) -> Kernel:
    kernel.ok(CELL)
    kernel.ok("endpoint = nbserve.Endpoint.find('doubled')")
    return kernel


def once_shown(kernel: Kernel, text: str, do: Callable[[], None]) -> Callable[[], None]:
    """For `during`: do it as soon as a display of the cell that runs shows the text."""
    kernel.displays.clear()
    done = []

    def look() -> None:
        if not done and any(text in data.get("text/plain", "") for data in kernel.displays.values()):
            done.append(True)
            do()

    return look


def test_ctrl_c_ends_it_with_what_there_is(doubled: Kernel) -> None:
    interrupt = once_shown(doubled, "batches", doubled.interrupt)
    ran = doubled.run("result = %nbserve profile doubled --send-sample --seconds 200 --batches 10000", during=interrupt)
    assert ran.status == "ok", ran.traceback
    assert doubled.ok("print(result.status.state, result.status.batches > 0)").stdout.split() == ["done", "True"]
    assert doubled.ok("print(endpoint.predict(4))").stdout.strip() == "8"


def test_ctrl_c_where_nothing_came_says_so(doubled: Kernel) -> None:
    interrupt = once_shown(doubled, "no requests come to doubled", doubled.interrupt)
    ran = doubled.run("%nbserve profile doubled --seconds 200", during=interrupt)
    assert ran.ename == "MeasureError"
    assert "no request came to worker 0" in ran.traceback
    assert "--send-sample" in ran.traceback
    assert doubled.ok("print(endpoint.profile(batches=2, send_sample=True).status.state)").stdout.split()[-1] == "done"


def test_without_traffic_it_ends_with_its_time(doubled: Kernel) -> None:
    ran = doubled.run("%nbserve profile doubled --seconds 0.5")
    assert ran.ename == "MeasureError"
    assert "no request came to worker 0" in ran.traceback


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("nosuch", "no endpoint 'nosuch'"),
        ("doubled --batches 0", "0 is not in the range"),
        ("doubled --seconds -1", "-1.0 is not in the range"),
        ("doubled --batches some", "'some' is not a valid integer"),
        ("doubled --worker 7", "no worker 7"),
        ("doubled --list --stop", "exclude each other"),
        ("doubled --show nothing", "no profile 'nothing'"),
    ],
)
def test_what_is_asked_wrongly_is_told_in_a_line(doubled: Kernel, options: str, said: str) -> None:
    ran = doubled.run(f"%nbserve profile {options}")
    assert ran.status == "error"
    assert said in ran.traceback + ran.stderr, ran
    assert "File " not in ran.traceback, "no stack of ours"


def test_batches_and_seconds_whichever_comes_first(doubled: Kernel) -> None:
    status = "print(result.status.batches, result.status.asked_batches, result.status.asked_seconds)"
    doubled.ok("result = %nbserve profile doubled --batches 1 --seconds 1 --send-sample")
    assert doubled.ok(status).stdout.split() == ["1", "1", "1.0"]


def test_a_second_one_meanwhile_is_refused(doubled: Kernel) -> None:
    doubled.ok("%nbserve profile doubled --no-wait --seconds 200")
    ran = doubled.run("%nbserve profile doubled")
    assert ran.ename == "Conflict"
    assert "doubled is being profiled already" in ran.traceback
    assert "`nbserve profile doubled --stop` ends that one" in ran.traceback
    assert doubled.ok("print(endpoint.predict(5))").stdout.strip() == "10"
    doubled.ok("%nbserve profile doubled --stop")


def test_a_worker_that_is_killed_ends_it_and_the_next_one_works(doubled: Kernel) -> None:
    doubled.ok("import os, signal, threading, concurrent.futures as futures")
    doubled.ok("%nbserve profile doubled --no-wait --seconds 200")
    doubled.ok("""
pool = futures.ThreadPoolExecutor(4)
answers = [pool.submit(endpoint.predict, number) for number in range(1, 200)]
os.kill(endpoint.status().workers[0].pid, signal.SIGKILL)
""")
    asked = "print([answer.result() for answer in answers] == [2 * number for number in range(1, 200)])"
    assert doubled.ok(asked).stdout.strip() == "True", "no request was lost"
    ran = doubled.run("%nbserve profile doubled --show last")
    assert ran.ename == "MeasureError"
    assert "the profile of doubled failed: worker 0 has gone" in ran.traceback
    assert doubled.ok("print(endpoint.profile(batches=3, send_sample=True).status.state)").stdout.split()[-1] == "done"
