"""The comparison's own parts: bars, page, the same weights everywhere, nothing left of a server that was started."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.benchmarks.peers import contestants, page
from tests.benchmarks.peers.bars import Row, bars, row_of
from tests.benchmarks.peers.contestants import Setup, running
from tests.benchmarks.peers.run import open_capacity, parse_options, same
from tests.benchmarks.peers.workloads import WORKLOADS

SERVERS = Path(contestants.__file__).parent / "servers"


def figures(cpu: float, **others: float) -> dict[str, float]:
    return {"cpu_s_per_1000": cpu, "requests_per_s": 100.0, "p50_ms": 0.4, "p99_ms": 2.0, "errors": 0} | others


def row(workload: str, load: str, server: str, cpu: float, **others: float) -> Row:
    return row_of(workload, load, server, [figures(cpu, **others)])


ROWS = [
    row("noop", "c=64", "nbserve", 0.02),
    row("noop", "c=64", "mosec", 0.04),
    row("noop", "c=64", "FastAPI", 0.1),
    row("noop", "c=64", "LitServe", 1.1),
    row("noop", "c=1", "nbserve", 0.1),
    row("noop", "c=1", "mosec", 0.2, p50_ms=6.0),
    row("noop", "c=1", "FastAPI", 0.1),
    row("noop", "c=1", "LitServe", 1.3),
    row("noop", "c=1", "nbserve, batching off", 0.1, p50_ms=0.3),
    row("noop", "30 %", "nbserve", 0.1),
    row("noop", "30 %", "mosec", 0.2),
    row("noop", "30 %", "nbserve, mosec's wait", 0.05),
    row("encoder", "c=32", "nbserve", 20, requests_per_s=80),
    row("encoder", "c=32", "mosec", 21, requests_per_s=76),
    row("encoder", "c=32", "mosec, torch's threads", 41, requests_per_s=50),
]


def test_a_row_is_the_median_of_its_runs() -> None:
    one = row_of("noop", "c=1", "mosec", [figures(0.2), figures(0.1, errors=1), figures(0.4, p50_ms=9)])
    assert (one["cpu_s_per_1000"], one["p50_ms"], one["errors"], one["runs"]) == (0.2, 0.4, 1, 3)
    assert one["spread"] == pytest.approx(1.5)


def test_bars_of_the_rows_that_are_there() -> None:
    found = {bar.what: (round(bar.value, 3), bar.holds) for bar in bars(ROWS)}
    assert found == {
        "no-op, c=64: CPU s / 1000": (0.02, True),
        "no-op, c=64: CPU / mosec's": (0.5, True),
        "no-op, c=64: CPU / FastAPI's": (0.2, True),
        "no-op, 30 %: CPU / the cheapest other's": (0.5, True),
        "no-op, 30 %, mosec's wait: CPU / the cheapest other's": (0.25, True),
        "no-op, c=1: p50 ms": (0.4, True),
        "no-op, c=1: p50 / batching off": (1.333, False),
        "encoder, c=32: requests/s / mosec's": (1.053, True),
        "encoder: CPU of torch's default threads / ours": (2.05, True),
        "errors in all runs of all servers": (0, True),
    }


def test_missed_bars_are_seen() -> None:
    slow = [row("noop", "c=64", "nbserve", 0.0301), row("noop", "c=64", "mosec", 0.04, errors=1)]
    assert [bar.holds for bar in bars(slow)] == [False, False, False]
    behind = [row("encoder", "c=32", "nbserve", 20, requests_per_s=75), *ROWS[-2:]]
    assert [bar.holds for bar in bars(behind)] == [False, True, True]


def result() -> dict[str, Any]:
    tried = [
        {"workload": "noop", "server": "mosec", "wait_ms": wait, "load": "c=64"} | figures(cpu)
        for wait, cpu in ((0, 0.05), (1, 0.04))
    ]
    alone = {"workload": "noop", "server": "nbserve", "wait_ms": 0, "load": "c=64"} | figures(0.02)
    return {
        "date": "2026-11-23",
        "machine": "a machine",
        "commit": "abc",
        "settings": "medians of 1 runs of 1 s",
        "minutes": 1.5,
        "versions": {"mosec": "0.9.8"},
        "workloads": {"noop": "nothing", "encoder": "something"},
        "tried": [*tried, alone],
        "rows": ROWS,
        "bars": [bar._asdict() | {"holds": bar.holds} for bar in bars(ROWS)],
    }


def test_the_page_has_every_figure_and_keeps_its_words(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    written = tmp_path / "peers.md"
    written.write_text(f"# Before\n\n{page.BEGIN}\nold figures\n{page.END}\n\nAfter.\n")
    page.write(tmp_path, result())
    text = written.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\n\nAfter.\n")
    assert "old figures" not in text
    assert "| c=64 | LitServe | 1.1 | 0% | 100 | 0.4 | 2 | 0 |" in text
    assert "| no-op, c=1: p50 / batching off | 1.33 | <= 1.2 | MISSED |" in text
    assert "| noop | mosec | 1 | 0.04 |" in text
    assert "| noop | nbserve | 0 |" not in text, "there was nothing to choose"
    page.write(tmp_path, result())
    assert written.read_text() == text
    page.table(ROWS)
    page.bars_table(result()["bars"])


def test_the_plot_is_an_image_that_says_what_it_shows() -> None:
    image = ET.fromstring(page.plot(ROWS))
    title = image.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert "nbserve: 0.1 at 1, 0.02 at 64" in (title.text or "")
    names = {text.text for text in image.iter("{http://www.w3.org/2000/svg}text")}
    assert names >= {"nbserve", "mosec", "FastAPI", "LitServe", "connections"}


def test_answers_are_the_same_up_to_rounding() -> None:
    assert same([[1.0, 2]], [[1.00001, 2]])
    assert not same([1.0, 2.0], [1.0, 2.1])
    assert not same([1.0], [1.0, 2.0])
    assert not same("a", "b")


def test_shares_are_of_the_slowest_but_litserves_own() -> None:
    capacity = {"nbserve": 900.0, "mosec": 1000.0, "FastAPI": 500.0, "LitServe": 100.0, "nbserve, batching off": 50.0}
    assert open_capacity("nbserve", capacity) == open_capacity("mosec", capacity) == 500.0
    assert open_capacity("LitServe", capacity) == 100.0


def test_only_a_whole_run_writes_the_page() -> None:
    assert parse_options([]).page
    assert parse_options([]).workloads == list(WORKLOADS)
    assert not parse_options(["--quick"]).page
    assert "encoder" not in parse_options(["--quick"]).workloads
    assert not parse_options(["--workloads", "noop"]).page


@pytest.mark.parametrize("name", ["mlp", "encoder"])
def test_peers_and_notebook_have_the_same_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the peers' servers answer is what the model of the notebook's cell answers."""
    import torch

    monkeypatch.syspath_prepend(str(SERVERS))
    import handlers  # type: ignore[import-not-found]

    scenario = WORKLOADS[name].scenario
    cell: dict[str, Any] = {"__name__": "__main__"}
    exec(scenario.setup, cell)
    bodies = [json.loads(body) for body in scenario.bodies]
    with torch.inference_mode():
        expected = cell["model"](torch.tensor(bodies))
    expected = expected.softmax(-1) if name == "mlp" else expected
    assert same(handlers.make(name, 0)(bodies), expected.tolist())


TOY = """\
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Echo(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Echo).serve_forever()
"""


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of servers in this environment's Python."""
    monkeypatch.setattr(contestants, "SERVERS", tmp_path)
    monkeypatch.setattr(contestants, "PEERS_PYTHON", Path(sys.executable))
    return tmp_path


def test_a_server_answers_and_is_ended_with_its_children(servers: Path) -> None:
    (servers / "mosec_server.py").write_text(TOY)
    with running(Setup("mosec", "noop"), b"[1]", servers) as one:
        assert one.ask(b"[2]").json() == [2]
        family = [one.process, *one.process.children()]
        assert len(family) == 2
        assert one.cpu_s() > 0
    _, alive = psutil.wait_procs(family, timeout=20)  # those of mosec's own are reaped by whoever adopts them
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_server_that_does_not_start_says_why(servers: Path) -> None:
    (servers / "mosec_server.py").write_text("raise SystemExit('no such model')")
    with (
        pytest.raises(RuntimeError, match=r"(?s)mosec-noop did not become ready.*no such model"),
        running(Setup("mosec", "noop"), b"[1]", servers),
    ):
        pass
