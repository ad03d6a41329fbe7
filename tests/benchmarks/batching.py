"""The measurements behind docs/batching.md: what batching buys, and what waiting for a batch costs.

    python -m tests.benchmarks.batching            measure (about six minutes; needs wrk), then draw
    python -m tests.benchmarks.batching --draw     draw again from docs/images/batching.json

One endpoint, served by `nbserve serve` with different batching options, is loaded by wrk with 1 to 64 requests in
flight. Writes docs/images/batching.json, two pictures beside it, and the table in docs/batching.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.endpoints import first_answer, machine, serve
from tests.benchmarks.report import mean_batch
from tests.benchmarks.scenarios import Scenario, _numbers
from tests.benchmarks.wrk import cores_for_load, load

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
RESULT = IMAGES / "batching.json"
PAGE = ROOT / "docs" / "batching.md"

CONNECTIONS = (1, 2, 4, 8, 16, 32, 64)
SERIES = {
    "no batches": ["--max-batch-size", "1"],
    "default": [],
    "delay 5 ms": ["--max-batch-delay-ms", "5"],
    "delay 20 ms": ["--max-batch-delay-ms", "20"],
}
LOOKS: dict[str, dict[str, str]] = {  # Okabe and Ito's colours: told apart by everyone
    "no batches": {"color": "#CC79A7", "marker": "v"},
    "default": {"color": "#0072B2", "marker": "o"},
    "delay 5 ms": {"color": "#E69F00", "marker": "s"},
    "delay 20 ms": {"color": "#009E73", "marker": "D"},
}
ROUNDS, SECONDS = 5, 2.0

WIDE = Scenario(
    name="wide",
    what="64-2048-2048-10 in float32, 4.3 million weights; 450 bytes of JSON",
    setup="""\
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Linear(64, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 10)
)
x = torch.rand(64)
""",
    serve="%load_ext nbserve\n%nbserve serve model --name wide --sample x\n",
    bodies=(_numbers(64),),
    is_right=lambda answer: len(answer) == 10,
)


def measure() -> dict[str, Any]:
    """Medians over the rounds, by series and connections; the series take turns within a round."""
    runs: dict[str, dict[int, list[dict[str, float]]]] = {name: {c: [] for c in CONNECTIONS} for name in SERIES}
    with tempfile.TemporaryDirectory(prefix="nbs-") as text:
        folder = Path(text)
        os.environ["JUPYTER_RUNTIME_DIR"] = str(folder / "runtime")
        os.environ["NBSERVE_HOME"] = str(folder / "home")
        first_answer(WIDE, folder)
        where = ""
        for number in range(ROUNDS):
            for name, options in SERIES.items():
                with serve(folder / WIDE.name, WIDE.name, folder / "log", options) as served:
                    cores = cores_for_load(served.worker_cores())
                    where = f"wrk on core {cores}" if cores else "wrk shares the cores"
                    load(served.url, served.token, WIDE.bodies, connections=8, seconds=1, cores=cores)
                    for connections in CONNECTIONS:
                        runs[name][connections].append(_run(served, connections, cores))
                        print(number + 1, name, connections, runs[name][connections][-1], flush=True)
    points = {
        name: {
            str(c): {key: statistics.median(run[key] for run in runs_) for key in runs_[0]} for c, runs_ in by.items()
        }
        for name, by in runs.items()
    }
    return {"model": WIDE.what, "machine": machine(where), "rounds": ROUNDS, "seconds": SECONDS, "points": points}


def _run(served: Any, connections: int, cores: set[int]) -> dict[str, float]:
    before = served.model().batch_sizes
    seen = load(served.url, served.token, WIDE.bodies, connections=connections, seconds=SECONDS, cores=cores)
    if seen.errors:
        raise RuntimeError(f"{seen.errors} errors with {connections} connections")
    batch = mean_batch(before, served.model().batch_sizes)
    return {"requests_per_s": seen.requests_per_s, "p50_ms": seen.p50_ms, "p99_ms": seen.p99_ms, "batch": batch}


def table(result: dict[str, Any]) -> str:
    """What docs/batching.md shows between its marks."""
    lines = [
        f"{result['model']}. {result['machine']}. Medians of {result['rounds']} runs of {result['seconds']:g} s.",
        "",
        "| in flight | no batches | default | mean batch | delay 5 ms | delay 20 ms |",
        "|---|---|---|---|---|---|",
    ]
    points = result["points"]
    for key in points["default"]:
        cells = [
            f"{points[name][key]['requests_per_s']:,.0f}/s, {points[name][key]['p50_ms']:.1f}\u00a0ms"
            for name in SERIES
        ]
        cells.insert(2, f"{points['default'][key]['batch']:.1f}")
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines)


MARKS = re.compile(r"(<!-- measured: begin[^\n]*-->\n\n).*?(\n\n<!-- measured: end -->)", re.DOTALL)


def with_table(page: str, result: dict[str, Any]) -> str:
    """The page with this result in it."""
    return MARKS.sub(lambda found: found[1] + table(result) + found[2], page)


def draw(result: dict[str, Any]) -> None:
    """Two pictures, readable on white and on black."""
    _draw(result, "batching-throughput", ("no batches", "default"), "requests_per_s", "requests/s")
    _draw(result, "batching-delay", ("default", "delay 5 ms", "delay 20 ms"), "p50_ms", "median latency, ms")


def _draw(result: dict[str, Any], name: str, series: tuple[str, ...], figure: str, label: str) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    grey = "#808080"
    style: dict[str, Any] = {f"{key}color": grey for key in ("text.", "axes.label", "axes.edge", "xtick.", "ytick.")}
    style |= dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none")
    style |= {"svg.hashsalt": "nbserve", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11}
    with plt.rc_context(style):
        canvas, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
        for one in series:
            points = result["points"][one]
            heights = [point[figure] for point in points.values()]
            axes.plot([*map(int, points)], heights, label=one, **LOOKS[one])
        axes.set(xscale="log", xticks=CONNECTIONS, xticklabels=CONNECTIONS, ylim=0)
        axes.set(xlabel="requests in flight", ylabel=label)
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        canvas.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
        plt.close(canvas)


def main() -> None:
    """Measure unless only drawing was asked for; write pictures and page."""
    parser = argparse.ArgumentParser(description="The measurements behind docs/batching.md.")
    parser.add_argument("--draw", action="store_true", help="only draw again what was measured")
    if not parser.parse_args().draw:
        IMAGES.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n")
    result = json.loads(RESULT.read_text())
    draw(result)
    PAGE.write_text(with_table(PAGE.read_text(), result))


if __name__ == "__main__":
    main()
