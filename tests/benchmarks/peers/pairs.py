"""`python -m tests.benchmarks.peers.pairs`: CPU of no-op requests here and with mosec, in pairs a few seconds apart.

`make peers` starts each server for its turn, so that what it compares lies a minute apart; on a machine that others
share, rounds then differ by a third and more. Here both servers run all the time, idle but for their turns (an idle
one takes no CPU to speak of), and the ratio is taken of each pair. Closed loops of wrk; two minutes and a half.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.benchmarks.endpoints import commit, first_answer, machine
from tests.benchmarks.peers.contestants import Setup, running
from tests.benchmarks.peers.loads import closed
from tests.benchmarks.run import ROOT, own_folders
from tests.benchmarks.scenarios import NOOP

CONNECTIONS = (64, 16, 4)
SECONDS = 2.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=12, help="of runs at each number of connections (12)")
    parser.add_argument("--wait-ms", type=float, default=5.0, help="of mosec (5: cheapest in the last `make peers`)")
    options = parser.parse_args()
    pairs: int = options.pairs
    setups = Setup("nbserve", "noop"), Setup("mosec", "noop", wait_ms=options.wait_ms)
    console = Console(width=None if os.isatty(1) else 120)
    console.print(machine("clients and servers share them"), f"commit {commit(ROOT)}", sep="\n")
    table = Table(title=f"no-op, CPU s / 1000, medians of {pairs} pairs of {SECONDS:g} s", title_justify="left")
    for title in ("load", "nbserve", "mosec", "nbserve / mosec", "smallest", "largest"):
        table.add_column(title, justify="right")
    with tempfile.TemporaryDirectory(prefix="nbs-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        own_folders(folder)
        first_answer(NOOP, folder / "bundles")
        servers = [stack.enter_context(running(setup, NOOP.bodies[0], folder)) for setup in setups]
        for server in servers:
            closed(server, NOOP.bodies, 16, 1.0)
        for connections in CONNECTIONS:
            cpu: list[list[float]] = [[], []]
            for number in range(pairs):
                for each in (0, 1) if number % 2 else (1, 0):
                    figures = closed(servers[each], NOOP.bodies, connections, SECONDS)
                    if figures["errors"]:
                        raise RuntimeError(f"{setups[each].server}: {figures['errors']:g} requests failed")
                    cpu[each].append(figures["cpu_s_per_1000"])
            ratios = sorted(ours / theirs for ours, theirs in zip(*cpu, strict=True))
            shown = [*map(median, cpu), median(ratios), ratios[0], ratios[-1]]
            table.add_row(f"c={connections}", *(f"{value:.3g}" for value in shown))
    console.print(table)


if __name__ == "__main__":
    main()
