"""`bench` on a real endpoint: from a cell, from the command line, as a method; two versions compared; Ctrl-C."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from nbserve import Endpoint
from nbserve.errors import MeasureError, NotFound, UsageError
from nbserve.measure.result import METRICS, BenchResult
from tests.e2e.kernels import Kernel, running_kernel, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-bench")]

SLEEPY = """\
%%serve_handler sleepy --sample [1, 2] --max-batch-size 4
import time
from nbserve import Handler

class Sleepy(Handler):
    def preprocess(self, rows):
        time.sleep(0.01 * len(rows))
        return [row.payload for row in rows]
    def inference(self, batch):
        return batch
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One notebook, whose endpoint `sleepy` takes ten milliseconds of preprocessing a row."""
    with running_kernel(tmp_path_factory.mktemp("bench")) as running:
        running.ok(SLEEPY)
        yield running


def test_the_magic_shows_the_verdict_table_and_plots(kernel: Kernel) -> None:
    ran = kernel.ok("%nbserve_bench sleepy --duration 1.5 --warmup 0.3")
    result = ran.results[-1]
    assert "req/s at p99" in result["text/plain"].splitlines()[0]
    assert "<svg" in result["text/html"] or "image/svg" in result["text/html"]
    assert Endpoint.find("sleepy").token not in json.dumps(ran.results)
    assert ran.results[0]["text/plain"] == "sleepy: starting the load", "progress, in a display of its own"
    assert ran.stderr == ""


def test_what_is_found_of_an_endpoint_of_ours(kernel: Kernel) -> None:
    result = Endpoint.find("sleepy").bench(duration_s=2.0, warmup_s=0.5)
    [run] = result.runs
    assert run.load.concurrency == 4, "enough to fill a batch"
    assert 0 < run.rate <= 100
    assert not run.errors
    assert run.stages_ms["preprocess"]["mean"] >= 10
    assert {"queue", "batch", "inference", "network"} <= set(run.stages_ms)
    assert set(run.batch_sizes) <= {1, 2, 3, 4}
    in_batches = sum(size * count for size, count in run.batch_sizes.items())
    assert in_batches == pytest.approx(run.answered, abs=12), "what was in flight at the start and the end"
    assert run.workers_busy is not None
    assert run.workers_busy > 0.5
    assert run.gateway_cpu is not None
    assert run.gateway_cpu > 0
    assert run.server_cpu_s_per_1000 is not None
    assert result.limit == "preprocess", result.verdict
    assert "the limit is preprocess" in result.verdict
    assert (result.version, result.digest) == ("1", Endpoint.find("sleepy").status().digest)
    assert result.environment["workers"][0]["cores"]
    assert result.environment["config"]["max_batch_size"] == 4


def test_the_command_measures_names_and_urls(kernel: Kernel, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("[1]\n[2]\n")
    for name in ("sleepy", Endpoint.find("sleepy").url):
        words = [name, "--rate", "20", "--duration", "1", "--warmup", "0", "--data", str(data), "--json"]
        command = [sys.executable, "-m", "nbserve", "bench", *words]
        done = subprocess.run(command, capture_output=True, timeout=60)
        result = msgspec.json.decode(done.stdout, type=BenchResult)
        assert done.returncode == int(result.failed), done.stderr
        assert result.runs[0].answered > 5
        assert not result.runs[0].errors, "with the token, though a URL has none"
        assert result.environment["asked"]["bodies"] == 2
        assert result.version == "1"


def test_data_is_an_expression_in_a_notebook(kernel: Kernel) -> None:
    shown = kernel.ok('%nbserve bench sleepy --data {"a": [1, 2]} --duration 0.5 --warmup 0 --json').text
    assert "'body_bytes': 11" in shown
    refused = kernel.run("%nbserve bench sleepy --data ./nothing.json")
    assert "neither a file nor an expression" in refused.stderr


def test_a_body_that_is_refused_is_not_measured(kernel: Kernel) -> None:
    with pytest.raises(MeasureError, match="answers 400 to the request") as raised:
        Endpoint.find("sleepy").bench(data=b"{", content_type="application/json", duration_s=1.0)
    assert "--data" in raised.value.hint


def test_without_a_sample_something_must_be_said(kernel: Kernel) -> None:
    kernel.ok("%%serve_handler plain\ndef predict(batch):\n    return batch\n")
    with pytest.raises(UsageError, match="served without a sample"):
        Endpoint.find("plain").bench()
    assert Endpoint.find("plain").bench(data=1, duration_s=0.5, warmup_s=0.0).runs[0].answered > 0
    kernel.ok("%nbserve stop plain")


def test_two_identical_versions_are_not_called_different(kernel: Kernel) -> None:
    """The kept version is loaded beside the other for the measurement, and gone afterwards.

    By the definition of a 95 % interval one comparison in twenty is wrong: what is different is so in each of three.
    """
    kernel.ok(SLEEPY)
    endpoint = Endpoint.find("sleepy")
    different = set(METRICS)
    for _ in range(3):
        result = endpoint.bench(against="1", duration_s=2.5)
        different &= {one.metric for one in result.comparisons if one.different}
        if not different:
            break
    assert [run.label for run in result.runs] == ["version 2", "version 1"]
    assert [one.metric for one in result.comparisons] == ["rate", "p50", "p99"]
    assert not different, result.comparisons
    assert result.interval_method == "10 turns, Student's t"
    assert [model.version for model in endpoint._served.client.models()] == ["2"]
    assert endpoint.status().kept == ["1"]


def test_a_faster_version_is_called_different(kernel: Kernel) -> None:
    kernel.ok(SLEEPY.replace("0.01 *", "0.005 *"))
    result = Endpoint.find("sleepy").bench(against="1", duration_s=1.5)
    by_metric = {one.metric: one for one in result.comparisons}
    assert by_metric["rate"].different
    assert by_metric["rate"].change_percent > 20
    assert by_metric["p50"].change_percent < -15


def test_versions_that_are_not_there(kernel: Kernel) -> None:
    endpoint = Endpoint.find("sleepy")
    with pytest.raises(NotFound, match="no version '77'") as raised:
        endpoint.bench(against="77")
    assert "kept: " in raised.value.hint
    with pytest.raises(UsageError, match="that is the version which is measured"):
        endpoint.bench(against=endpoint.version)


def test_an_interrupted_cell_leaves_no_load(kernel: Kernel) -> None:
    notebook = psutil.Process(kernel.pid)
    seen: set[int] = set()
    interrupted = False

    def interrupt_once_it_runs() -> None:
        nonlocal interrupted
        load = {one.pid for one in notebook.children() if "nbserve.measure.load" in _command_of(one)}
        seen.update(load)
        if load and not interrupted and Endpoint.find("sleepy").status().requests.get("2xx", 0) > before + 10:
            interrupted = True
            kernel.interrupt()

    before = Endpoint.find("sleepy").status().requests.get("2xx", 0)
    began_s = time.monotonic()
    ran = kernel.run("%nbserve bench sleepy --duration 100", during=interrupt_once_it_runs)
    assert ran.ename == "KeyboardInterrupt"
    assert time.monotonic() - began_s < 60
    assert seen
    until(lambda: not [pid for pid in seen if os.path.exists(f"/proc/{pid}")])
    assert Endpoint.find("sleepy").predict([1]) == [1]


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
