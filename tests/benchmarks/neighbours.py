"""What an endpoint feels of its neighbours in the same gateway: its p99 while another one starts, dies, is scraped.

Run by run.py (--neighbours). Open loop, Poisson, at a share of what the endpoint can do, so that a delay shows as one
and is not paid for with fewer requests. The conditions take turns; figures are medians, ratios are to the quiet runs.
One condition has nothing to do with nbserve: processes that import torch, one after the other. On a machine without a
free core that is what starting anything costs, and what is beyond it is the gateway's part.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import Request, urlopen

from rich.console import Console
from rich.table import Table

from nbserve.client import Client
from nbserve.config import ModelConfig
from nbserve.measure.bench import bench
from nbserve.measure.options import BenchOptions, Body
from nbserve.resolve import Served
from tests.benchmarks.endpoints import check
from tests.benchmarks.scenarios import Scenario
from tests.unit.gateway.running import running

__all__ = ["BAR", "measure_neighbours", "neighbours_table", "summarize"]

BAR = 1.3
"""p99 against quiet: what we hold ourselves to."""
SHARE = 0.3
"""Of the capacity."""
SCRAPES_PER_S = 10.0
NEIGHBOUR = "neighbour"
CONFIG = ModelConfig(workers=1, threads=1)
"""Of both, so that the cores are shared out alike whether the neighbour serves or not."""
TIMEOUT_S = 60.0

Row = dict[str, Any]


class Disturbance:
    """Does one thing again and again in a thread; `count`: how often it was done."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disturbance")
        self._error: Exception | None = None
        self.count = 0

    def __enter__(self) -> Disturbance:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(TIMEOUT_S)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._act()
                self.count += 1
        except Exception as exc:  # raised where the block is left
            self._error = exc


def measure_neighbours(
    scenario: Scenario, bundle: Path, log: Path, *, runs: int, seconds: float, console: Console
) -> list[Row]:
    """A row for each condition; the neighbour is another endpoint of the same bundle. Raises what serving does."""
    found: dict[str, list[Row]] = {}
    with running(log=log, development=False) as gateway:
        client = gateway.client
        client.register(str(bundle), name=scenario.name, config=CONFIG)
        check(scenario, client)
        target = Served(client, scenario.name)
        bodies = tuple(Body(body, "application/json") for body in scenario.bodies)
        full = bench(target, BenchOptions(concurrency=64, duration_s=2.0, bodies=bodies, processes=1)).runs[0]
        rate = SHARE * full.rate
        console.print(f"  {full.rate:.0f} requests/s at 64 clients; measured at {rate:.0f}/s, Poisson")
        neighbour = Neighbour(client, bundle, scenario.bodies[0])
        for number in range(runs):
            for name, (serves, act) in conditions(neighbour).items():
                options = BenchOptions(rate=rate, duration_s=seconds, bodies=bodies, processes=1, seed=number + 1)
                with neighbour.running() if serves else nullcontext(), Disturbance(act) as disturbance:
                    run = bench(target, options).runs[0]
                figures = {"p50_ms": run.latency_ms["p50"], "p99_ms": run.latency_ms["p99"], "times": disturbance.count}
                figures |= {"errors": run.errors, "client_lag_ms": run.client.lag_p99_ms}
                found.setdefault(name, []).append(figures)
            console.print(f"  run {number + 1} of {runs} done", style="dim")
    return summarize(found)


def summarize(found: dict[str, list[Row]]) -> list[Row]:
    """Medians over the runs, and each condition's p99 against that of the quiet runs."""
    quiet_ms = median(run["p99_ms"] for run in found["quiet"])
    rows = []
    for name, runs in found.items():
        row = {key: median(run[key] for run in runs) for key in ("p50_ms", "p99_ms", "client_lag_ms")}
        row |= {"condition": name, "times": sum(run["times"] for run in runs), "runs": len(runs)}
        row |= {"errors": sum((Counter(run["errors"]) for run in runs), Counter()), "ratio": row["p99_ms"] / quiet_ms}
        row["worst_ms"] = max(run["p99_ms"] for run in runs)
        rows.append(row)
    return rows


def neighbours_table(rows: list[Row]) -> Table:
    """For the terminal."""
    table = Table(title=f"an endpoint and its neighbours (bar: {BAR} x quiet)", title_justify="left")
    titles = ("meanwhile", "times", "p50 ms", "p99 ms", "worst p99", "x quiet", "sent late ms", "errors")
    for title in titles:
        table.add_column(title, justify="left" if title == "meanwhile" else "right")
    for row in rows:
        figures = (f"{row[key]:.2f}" for key in ("p50_ms", "p99_ms", "worst_ms", "ratio", "client_lag_ms"))
        errors = ", ".join(f"{count} x {what}" for what, count in row["errors"].items()) or "0"
        table.add_row(row["condition"], str(row["times"]), *figures, errors)
    return table


# -- conditions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Neighbour:
    """Another endpoint of the same gateway, and what it may be asked."""

    client: Client
    bundle: Path
    body: bytes

    def start(self) -> None:
        """Register it; returns when it serves."""
        self.client.register(str(self.bundle), name=NEIGHBOUR, config=CONFIG)

    def stop(self) -> None:
        """Unregister it."""
        self.client.unregister(NEIGHBOUR)

    @contextmanager
    def running(self) -> Iterator[None]:
        """It serves while the block lasts."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def restart(self) -> None:
        """It starts, and is stopped."""
        self.start()
        self.stop()

    def kill(self) -> None:
        """SIGKILL to its worker; returns when the next one has answered."""
        [worker] = self.client.model(NEIGHBOUR).workers
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        deadline_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline_s:
            time.sleep(0.05)
            [now] = self.client.model(NEIGHBOUR).workers
            if now.state == "READY" and now.restarts > worker.restarts:
                self.client.predict(NEIGHBOUR, self.body)  # one that never answers is given up after a few deaths
                return
        raise TimeoutError("the worker did not come back")

    def scrape(self) -> None:
        """GET /metrics, and a pause."""
        headers = {"Authorization": f"Bearer {self.client.token}"}
        with urlopen(Request(f"{self.client.url}/metrics", headers=headers)) as page:  # an httpx client costs 20 ms
            page.read()
        time.sleep(1 / SCRAPES_PER_S)

    def ask_status(self) -> None:
        """GET /status, and a pause."""
        self.client.status()
        time.sleep(1.0)


def _stranger() -> None:
    subprocess.run([sys.executable, "-c", "import torch"], check=True)


def conditions(neighbour: Neighbour) -> dict[str, tuple[bool, Callable[[], None]]]:
    """What goes on meanwhile: whether the neighbour serves, and what is done again and again."""
    return {
        "quiet": (False, lambda: time.sleep(0.1)),
        "another endpoint starts, and is stopped": (False, neighbour.restart),
        "another's worker is killed when it is ready": (True, neighbour.kill),
        "it is scraped 10 times a second": (True, neighbour.scrape),
        "status is asked once a second": (True, neighbour.ask_status),
        "processes import torch, outside nbserve": (False, _stranger),
    }
