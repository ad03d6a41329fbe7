"""`make peers`: nbserve against other servers, by the same clients, in the same run.

    python -m tests.benchmarks.peers.run                      everything, about twelve minutes; writes docs/peers.md
    python -m tests.benchmarks.peers.run --quick              one short run, without the encoder; writes no page
    python -m tests.benchmarks.peers.run --workloads noop --runs 3 --out peers.json

One server runs at a time, started anew for each of its turns; the servers take turns, in another order in each round.
CPU seconds are those of the server's whole process tree. Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from nbserve.measure.crew import Crew
from tests.benchmarks.endpoints import commit, first_answer, machine, versions
from tests.benchmarks.peers import page
from tests.benchmarks.peers.bars import Row, bars, row_of
from tests.benchmarks.peers.contestants import PEERS_PYTHON, Running, Setup, running
from tests.benchmarks.peers.loads import Figures, closed, drained, opened
from tests.benchmarks.peers.workloads import WORKLOADS, Workload
from tests.benchmarks.run import own_folders

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[3]
WARM_UP_S = 1.0
CALIBRATION_S = 1.0
PEERS = ("mosec", "fastapi", "uvicorn", "litserve")


def main() -> int:
    """0 where every bar holds."""
    options = parse_options()
    console = Console(width=None if os.isatty(1) else 140)
    began_s = time.monotonic()
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine("clients and servers share them, nothing is pinned by the measurement"),
        "commit": commit(ROOT),
        "versions": versions() | peer_versions(),
        "settings": f"medians of {options.runs} runs of {options.seconds:g} s",
        "workloads": {name: WORKLOADS[name].what for name in options.workloads},
        "tried": [],
        "rows": [],
    }
    console.print(result["machine"], result["settings"], sep="\n")
    with tempfile.TemporaryDirectory(prefix="nbs-") as temporary, Crew(1) as crew:
        folder = Path(temporary)
        own_folders(folder)
        for name in options.workloads:
            first_answer(WORKLOADS[name].scenario, folder / "bundles")
            play = Play(WORKLOADS[name], folder, options, crew, lambda text: console.print(f"  {text}", style="dim"))
            console.print(f"[bold]{name}[/bold]: {WORKLOADS[name].what}")
            result["rows"] += play.rows()
            result["tried"] += play.tried
    result["minutes"] = round((time.monotonic() - began_s) / 60, 1)
    result["bars"] = [bar._asdict() | {"holds": bar.holds} for bar in bars(result["rows"])]
    console.print(page.table(result["rows"]), page.bars_table(result["bars"]))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.page:
        page.write(ROOT / "docs", result)
        console.print("written: docs/peers.md, docs/images/peers.svg")
    return int(not all(bar["holds"] for bar in result["bars"]))


class Play:
    """One workload: settings chosen, then rounds in which each contestant has its turn."""

    def __init__(
        self, workload: Workload, folder: Path, options: argparse.Namespace, crew: Crew, say: Callable[[str], None]
    ) -> None:
        self._workload, self._folder, self._options, self._crew, self._say = workload, folder, options, crew, say
        self._bodies = workload.scenario.bodies
        self._right: list[Any] = []
        self.tried: list[Row] = []

    def rows(self) -> list[Row]:
        """Every load of every contestant."""
        workload = self._workload
        chosen, capacity = self._choose()
        names = list(chosen)
        runs: dict[tuple[str, str], list[Figures]] = {}
        for number in range(self._options.runs):
            turn = number % len(names)
            for name in [*names[turn:], *names[:turn]]:
                with self._running(chosen[name]) as one:
                    for load, figures in self._turn(name, one, capacity, seed=number):
                        runs.setdefault((load, name), []).append(figures)
            self._say(f"round {number + 1} of {self._options.runs}")
        order = [*(f"c={count}" for count in workload.connections), *map(share_name, workload.shares)]
        places = sorted(runs, key=lambda place: (order.index(place[0]), names.index(place[1])))
        return [row_of(workload.scenario.name, load, name, runs[load, name]) for load, name in places]

    def _choose(self) -> tuple[dict[str, Setup], dict[str, float]]:
        """(the setting of each contestant with the least CPU, its requests a second then)."""
        most = max(self._workload.connections)
        chosen, capacity = {}, {}
        must_know = bool(self._workload.shares)
        for name, setups in self._workload.setups.items():
            best, chosen[name] = math.inf, setups[0]
            if not must_know and (self._options.quick or len(setups) == 1):
                continue
            for setup in setups:
                with self._running(setup) as one:
                    figures = closed(one, self._bodies, most, CALIBRATION_S)
                tried = {"workload": setup.workload, "server": name, "wait_ms": setup.wait_ms, "load": f"c={most}"}
                self.tried.append(tried | figures)
                if figures["cpu_s_per_1000"] < best:
                    best = figures["cpu_s_per_1000"]
                    chosen[name], capacity[name] = setup, figures["requests_per_s"]
            if len(setups) > 1:
                self._say(f"{name} is cheapest with a wait of {chosen[name].wait_ms:g} ms")
        for name, other in self._workload.waits_as.items():
            chosen[name] = replace(chosen[name], wait_ms=chosen[other].wait_ms)
        return chosen, capacity

    def _turn(self, name: str, one: Running, capacity: dict[str, float], seed: int) -> Iterator[tuple[str, Figures]]:
        seconds, bodies = self._options.seconds, self._bodies
        workload = self._workload
        at_connections, at_shares = workload.only_at.get(name, (workload.connections, workload.shares))
        for connections in at_connections:
            if workload.is_slow:
                yield f"c={connections}", drained(one, bodies, connections, 2 * seconds, self._crew)
            else:
                yield f"c={connections}", closed(one, bodies, connections, seconds)
        for share in at_shares:
            rate = share * open_capacity(name, capacity)
            yield share_name(share), opened(one, bodies, rate, seconds, self._crew, seed)

    @contextmanager
    def _running(self, setup: Setup) -> Iterator[Running]:
        """The server, its answers checked, warm."""
        with running(setup, self._bodies[0], self._folder) as one:
            self._check(one)
            if self._workload.is_slow:  # what it leaves in hand would be the measurement's
                drained(one, self._bodies, 16, WARM_UP_S, self._crew)
            else:
                closed(one, self._bodies, 16, WARM_UP_S)
            yield one

    def _check(self, one: Running) -> None:
        """All servers answer alike, up to rounding. Raises RuntimeError."""
        answers = [one.ask(body).json() for body in self._bodies]
        self._right = self._right or answers
        if not (self._workload.scenario.is_right(answers[0]) and same(answers, self._right)):
            raise RuntimeError(f"{one.url} answers {answers[0]!r:.200}, the others {self._right[0]!r:.200}")


def open_capacity(name: str, capacity: dict[str, float]) -> float:
    """What shares are of: the requests a second of the slowest, so that all get the same; LitServe's are its own."""
    if name == "LitServe":
        return capacity[name]
    return min(rate for other, rate in capacity.items() if other in ("nbserve", "mosec", "FastAPI"))


def share_name(share: float) -> str:
    """ "30 %"."""
    return f"{share:.0%}".replace("%", " %")


def same(one: Any, other: Any) -> bool:
    """JSON values that are equal, numbers up to what float32 allows."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-5)
    return bool(one == other)


def peer_versions() -> dict[str, str]:
    """Of the servers compared with."""
    program = f"from importlib.metadata import version; print(*map(version, {PEERS!r}))"
    done = subprocess.run([PEERS_PYTHON, "-c", program], capture_output=True, text=True, check=True)
    return dict(zip(PEERS, done.stdout.split(), strict=True))


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make peers PEERS='...'", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one run of 1 s, without the encoder; writes no page")
    parser.add_argument("--runs", type=int, help="rounds (5)")
    parser.add_argument("--seconds", type=float, help="length of one run, in whole seconds (2)")
    parser.add_argument("--workloads", type=lambda text: text.split(","), metavar="A,B", help=", ".join(WORKLOADS))
    parser.add_argument("--out", type=Path, help="result file (JSON)")
    options = parser.parse_args(arguments)
    options.page = not (options.quick or options.workloads)
    options.workloads = options.workloads or [name for name in WORKLOADS if name != "encoder" or not options.quick]
    unknown = set(options.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    options.runs = options.runs or (1 if options.quick else 5)
    options.seconds = options.seconds or (1.0 if options.quick else 2.0)
    return options


if __name__ == "__main__":
    sys.exit(main())
