"""The benchmark's own arithmetic: CPU of a process tree, medians, comparisons, the script for wrk."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import psutil
import pytest
from rich.console import Console

from tests.benchmarks import neighbours, report
from tests.benchmarks.endpoints import tree_cpu_s
from tests.benchmarks.scenarios import SCENARIOS
from tests.benchmarks.wrk import _lua_string, parse

BURN = "import time\nwhile time.process_time() < {s}: pass\n"
PARENT = """\
import subprocess, sys
ended = subprocess.run([sys.executable, "-c", {burn!r}])
program = {burn!r} + "print('done', flush=True); input()"
living = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
input()
living.communicate(b"\\n")
"""


def test_cpu_of_a_tree_counts_living_and_ended_children() -> None:
    program = PARENT.format(burn=BURN.format(s=0.3))
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"done\n"
        used = tree_cpu_s(psutil.Process(parent.pid))
        parent.communicate(b"\n")
    assert 0.55 < used < 1.5


def run(rate: float, **figures: float) -> dict[str, float]:
    base = {"requests_per_s": rate, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_s_per_1000": 0.5, "batch_mean": 4.0, "errors": 0}
    return base | figures


def test_medians_and_spread() -> None:
    row = report.summarize([run(90), run(100, errors=1), run(120, p50_ms=7)])
    assert row["requests_per_s"] == 100
    assert row["spread"] == pytest.approx(0.3)
    assert (row["p50_ms"], row["errors"], row["runs"]) == (1.0, 1, 3)


def test_mean_batch_is_of_what_was_gained() -> None:
    assert report.mean_batch({"1": 10}, {"1": 12, "4": 2}) == pytest.approx(2.5)
    assert report.mean_batch({"1": 10}, {"1": 10}) == 0


def test_neighbours_are_compared_with_the_quiet_runs_and_fail_as_they_do() -> None:
    def runs(*p99_ms: float) -> list[dict[str, Any]]:
        return [{"p50_ms": 1.0, "p99_ms": ms, "client_lag_ms": 0.1, "times": 2, "errors": {"504": 1}} for ms in p99_ms]

    quiet, loud = neighbours.summarize({"quiet": runs(2.0, 2.0, 9.0), "starts": runs(2.0, 3.0, 8.0)})
    assert (quiet["ratio"], loud["ratio"], loud["worst_ms"]) == (1.0, 1.5, 8.0)
    assert (loud["times"], loud["errors"], loud["runs"]) == (6, {"504": 3}, 3)
    assert neighbours.neighbours_table([quiet, loud]).row_count == 2

    def fails() -> None:
        raise ValueError("it did not come back")

    with pytest.raises(ValueError, match="come back"), neighbours.Disturbance(fails):
        pass


def test_compare_dims_what_lies_within_the_spread() -> None:
    key = {"scenario": "noop", "connections": 1, "batching": "on"}
    old = key | report.summarize([run(95), run(105)])
    new = key | report.summarize([run(204, p50_ms=1.05), run(206, p50_ms=1.05)])
    console = Console(record=True, width=120, file=None, quiet=False)
    with console.capture() as shown:
        console.print(report.compare([old], [new, new | {"connections": 64}]))
    assert "2.05" in shown.get()
    table = report.compare([old], [new])
    assert list(table.columns[4].cells) == ["[dim]1.05[/dim]"]
    assert table.row_count == 1


def test_markdown_has_a_line_for_each_row() -> None:
    key = {"scenario": "noop", "connections": 1, "batching": "on"}
    answer = {
        "load_ext_s": 0.1,
        "serve_s": 1.0,
        "answer_s": 0.002,
        "total_s": 1.102,
        "rerun_s": 0.4,
        "rerun_cell_s": 0.5,
    }
    result = {
        "machine": "a machine",
        "commit": "abc",
        "settings": "1 run",
        "first_answer": {"noop": [answer]},
        "load": [key | report.summarize([run(1234)])],
    }
    text = report.markdown(result)
    assert "| noop | 0.100 | 1.000 | 0.002 | 1.102 | 0% | 0.400 | 0.500 |" in text
    assert "| noop | 1 | on | 1,234 | 0% | 1 | 2 | 0.5 | 4 | 0 |" in text


def test_figures_of_wrk() -> None:
    seen = parse(
        {"requests": 500, "duration_us": 2_000_000, "p50_us": 1500, "p99_us": 9000, "max_us": 20000}
        | {"bad_status": 1, "broken": 2, "timeouts": 3}
    )
    assert (seen.requests_per_s, seen.p50_ms, seen.p99_ms, seen.errors) == (250, 1.5, 9.0, 6)


def test_bodies_survive_lua_quoting() -> None:
    assert _lua_string(b'{"a": "\\\xc3\n"}') == '"{\\034a\\034: \\034\\092\\195\\010\\034}"'


def test_the_picture_is_5_4_kilobytes() -> None:
    assert len(SCENARIOS["mlp"].bodies[0]) == pytest.approx(5400, rel=0.02)
