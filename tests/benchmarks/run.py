"""`make bench`: what serving costs, per scenario, number of connections, and with batching on and off.

    python -m tests.benchmarks.run                       everything, about seven minutes
    python -m tests.benchmarks.run --quick               one short run of each, about two minutes
    python -m tests.benchmarks.run --scenarios mlp --neighbours
    python -m tests.benchmarks.run --out new.json --compare old.json

Figures of two machines, or of two days, say little: compare ratios within one run, or two commits one after the other
on a quiet machine. CPU seconds are those of the whole process tree behind the endpoint (server, gateway, workers), not
of the load generator. Batching on is the default configuration, off is --max-batch-size 1. The two take turns in
every run, so that what disturbs one disturbs the other.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks import report
from tests.benchmarks.endpoints import Served, check, commit, first_answer_and_rerun, machine, serve, versions
from tests.benchmarks.neighbours import measure_neighbours, neighbours_table
from tests.benchmarks.scenarios import SCENARIOS, Scenario
from tests.benchmarks.wrk import cores_for_load, load

ROOT = Path(__file__).resolve().parents[2]
BATCHING = {"on": [], "off": ["--max-batch-size", "1"]}
WARM_UP_S = 1.0


def main() -> None:
    """Measure what was asked for; print tables, write the result file and its markdown."""
    options = parse_options()
    console = Console(width=None if os.isatty(1) else 120)
    result: dict[str, Any] = {
        "machine": machine(pinning()),
        "commit": commit(ROOT),
        "versions": versions(),
        "settings": f"{options.runs} runs of {options.seconds:g} s, medians; spread = (max - min) / median",
        "first_answer": {},
        "load": [],
        "neighbours": {},
    }
    console.print(result["machine"], result["settings"], sep="\n")
    with tempfile.TemporaryDirectory(prefix="nbs-") as temporary:
        folder = Path(temporary)
        own_folders(folder)
        for name in options.scenarios:
            scenario = SCENARIOS[name]
            console.print(f"[bold]{name}[/bold]: {scenario.what}")
            count = 1 if options.neighbours else options.runs
            cells = [first_answer_and_rerun(scenario, folder / "bundles") for _ in range(count)]
            result["first_answer"][name] = [first.plain() | asdict(again) for first, again in cells]
            if not options.no_load and not options.neighbours:
                result["load"] += measure(scenario, folder, options, console)
            if options.neighbours:
                rows = measure_neighbours(
                    scenario,
                    folder / "bundles" / name,
                    folder / f"{name}-neighbours.log",
                    runs=options.runs,
                    seconds=options.seconds,
                    console=console,
                )
                result["neighbours"][name] = rows
                console.print(neighbours_table(rows))
    if result["load"]:
        console.print(report.load_table(result["load"]))
    console.print(report.first_answers_table(result["first_answer"]))
    if options.compare:
        console.print(report.compare(json.loads(options.compare.read_text())["load"], result["load"]))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(report.markdown(result))
        console.print(f"written: {options.out} and {options.out.with_suffix('.md')}")


def measure(scenario: Scenario, folder: Path, options: argparse.Namespace, console: Console) -> list[report.Row]:
    """All loads of one scenario; batching on and off take turns."""
    runs: dict[tuple[int, str], list[dict[str, float]]] = {}
    bundle = folder / "bundles" / scenario.name
    with ExitStack() as stack:
        endpoints = {}
        for batching, extra in BATCHING.items():
            log = folder / f"{scenario.name}-{batching}.log"
            endpoints[batching] = stack.enter_context(serve(bundle, scenario.name, log, extra))
        for endpoint in endpoints.values():
            check(scenario, endpoint.client)
            load(endpoint.url, endpoint.token, scenario.bodies, connections=16, seconds=WARM_UP_S)
        for number in range(options.runs):
            for connections in options.connections:
                for batching, endpoint in endpoints.items():
                    figures = one_run(scenario, endpoint, connections, options.seconds)
                    runs.setdefault((connections, batching), []).append(figures)
            console.print(f"  run {number + 1} of {options.runs} done", style="dim")
    return [
        {"scenario": scenario.name, "connections": connections, "batching": batching} | report.summarize(figures)
        for (connections, batching), figures in runs.items()
    ]


def one_run(scenario: Scenario, endpoint: Served, connections: int, seconds: float) -> dict[str, float]:
    """One load with its CPU seconds and batch sizes. Raises RuntimeError where wrk saw answers that no worker gave."""
    before, cpu_before = endpoint.model().batch_sizes, endpoint.cpu_s()
    cores = cores_for_load(endpoint.worker_cores())
    seen = load(endpoint.url, endpoint.token, scenario.bodies, connections=connections, seconds=seconds, cores=cores)
    cpu_s = endpoint.cpu_s() - cpu_before
    time.sleep(0.2)  # what was in flight when wrk left is not the next run's
    after = endpoint.model().batch_sizes
    if report.items(before, after) < seen.requests - seen.errors:
        raise RuntimeError(f"{seen.requests} answers, {report.items(before, after)} of them from workers")
    return {
        "requests_per_s": seen.requests_per_s,
        "p50_ms": seen.p50_ms,
        "p99_ms": seen.p99_ms,
        "max_ms": seen.max_ms,
        "errors": seen.errors,
        "requests": seen.requests,
        "cpu_s_per_1000": cpu_s / seen.requests * 1000 if seen.requests else 0.0,
        "batch_mean": report.mean_batch(before, after),
    }


def pinning() -> str:
    """Whether wrk can have a core of its own."""
    count = len(os.sched_getaffinity(0))
    if count < 4:
        return f"wrk shares the {count} cores with gateway and worker"
    return "wrk on a core that no worker is pinned to, where one is left"


def own_folders(folder: Path) -> None:
    """Gateways, bundles and kernels of this measurement see nothing of the user's, nor leave anything."""
    os.environ["JUPYTER_RUNTIME_DIR"] = str(folder / "runtime")
    os.environ["NBSERVE_HOME"] = str(folder / "home")
    os.environ["IPYTHONDIR"] = str(folder / "ipython")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench BENCH='...'", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one run of 2 s of everything")
    parser.add_argument("--runs", type=int, help="runs of each load (3)")
    parser.add_argument("--seconds", type=float, help="length of one run (5)")
    parser.add_argument("--scenarios", type=lambda text: text.split(","), default=list(SCENARIOS), metavar="A,B")
    parser.add_argument(
        "--connections", type=lambda text: [int(n) for n in text.split(",")], default=[1, 16, 64], metavar="N,N"
    )
    parser.add_argument("--no-load", action="store_true", help="only how long the cells take")
    parser.add_argument(
        "--neighbours", action="store_true", help="p99 of each scenario while another endpoint starts, dies, is scraped"
    )
    parser.add_argument("--out", type=Path, help="result file (JSON; a .md lies beside it)")
    parser.add_argument("--compare", type=Path, help="result file of another commit: prints new / old")
    options = parser.parse_args()
    unknown = set(options.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    options.runs = options.runs or (1 if options.quick else 3)
    options.seconds = options.seconds or (2.0 if options.quick else 5.0)
    return options


if __name__ == "__main__":
    main()
