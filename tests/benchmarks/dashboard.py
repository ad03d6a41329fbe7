"""What an open dashboard costs: CPU per request of gateway and workers, with and without somebody who looks.

    python -m tests.benchmarks.dashboard            about two minutes; needs wrk
    python -m tests.benchmarks.dashboard --quick noop

The endpoint is loaded by wrk in a closed loop. Rounds with a dashboard's watcher and rounds without take turns, so that
what else the machine does falls on both alike; the figure is the median over pairs of rounds, with its 95 % interval.
Where a machine is too noisy for that to tell 2 %, the second figure does: what a look costs gateway and workers, of
many looks at an endpoint at rest. There is one a second: that share of a core is the most it can be of a busy one.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

from nbserve.notebook.widgets.watcher import Watcher
from nbserve.resolve import Served as ServedModel
from tests.benchmarks.endpoints import Served, first_answer, machine, serve
from tests.benchmarks.scenarios import SCENARIOS, Scenario
from tests.benchmarks.wrk import cores_for_load, load

CONNECTIONS = 16
PAIRS, SECONDS = 24, 2.0


def measure(scenario: Scenario, folder: Path, pairs: int, seconds: float) -> tuple[list[tuple[float, float]], float]:
    """(CPU milliseconds a request without, with) of each pair of rounds; and those of a look."""
    first_answer(scenario, folder)
    found = []
    with serve(folder / scenario.name, scenario.name, folder / "gateway.log", []) as served:
        looks: list[bool] = []
        updates: list[dict[str, Any]] = []
        watcher = Watcher(
            ServedModel(served.client, scenario.name),
            is_wanted=lambda: bool(looks),
            on_look=lambda: None,
            on_update=lambda update, lines: updates.append(update),
            on_end=print,
        )
        watcher.start()
        _round(served, scenario, seconds)  # warm
        for pair in range(pairs):
            cpu_ms: dict[bool, float] = {}
            for watched in (False, True) if pair % 2 else (True, False):
                looks[:] = [True] * watched
                watcher.wake()
                before = len(updates)
                cpu_ms[watched] = _round(served, scenario, seconds)
                came = len(updates) - before
                assert came >= seconds / 2 if watched else came <= 1, "the watcher does what this round says"
            found.append((cpu_ms[False], cpu_ms[True]))
        watcher.close()
        return found, look_ms(served, scenario.name)


LOOKS, LOOK_ROUNDS = 200, 10


def look_ms(served: Served, name: str) -> float:
    """CPU milliseconds of gateway and workers for a look: the median of rounds of many looks."""
    rounds, since = [], 0
    for _ in range(LOOK_ROUNDS):
        before = served.cpu_s()
        for _ in range(LOOKS):
            since = served.client.numbers(name, since=since).seq
        rounds.append((served.cpu_s() - before) * 1e3 / LOOKS)
    return statistics.median(rounds)


def interval(changes: list[float]) -> tuple[float, float]:
    """Of the median, at 95 %, by order statistics: nothing is assumed of the noise."""
    ordered, count = sorted(changes), len(changes)
    below, at = 0.0, 0
    while (below := below + math.comb(count, at) / 2**count) <= 0.025:
        at += 1
    return ordered[max(0, at - 1)], ordered[min(count - 1, count - at)]


def _round(served: Served, scenario: Scenario, seconds: float) -> float:
    """CPU milliseconds a request."""
    cores = cores_for_load(served.worker_cores())
    before = served.cpu_s()
    run = load(served.url, served.token, scenario.bodies, connections=CONNECTIONS, seconds=seconds, cores=cores)
    assert run.errors == 0
    return (served.cpu_s() - before) * 1e3 / run.requests


def main() -> None:
    """Measure the scenario asked for and print a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="?", default="mlp", choices=sorted(SCENARIOS))
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    asked = parser.parse_args()
    pairs, seconds = (6, 2.0) if asked.quick else (PAIRS, SECONDS)
    print(machine(""))
    with tempfile.TemporaryDirectory(prefix="nbs-") as folder:
        found, a_look_ms = measure(SCENARIOS[asked.scenario], Path(folder), pairs, seconds)
    changes = [(with_it / without - 1) * 100 for without, with_it in found]
    without, with_it = (statistics.median(each[at] for each in found) for at in (0, 1))
    low, high = interval(changes)
    print(
        f"{asked.scenario}: {without:.4f} -> {with_it:.4f} ms of CPU a request; "
        f"{statistics.median(changes):+.1f} % ({low:+.1f} to {high:+.1f}, of {len(changes)} pairs)"
    )
    print(f"a look, once a second: {a_look_ms:.2f} ms of CPU, {a_look_ms / 10:.2f} % of a core")


if __name__ == "__main__":
    main()
