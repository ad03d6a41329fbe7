"""What workers cost to start and to keep: spawned against forked; time, memory, idle CPU.

    python -m tests.benchmarks.workers                   both, about two minutes
    python -m tests.benchmarks.workers --megabytes 50    a smaller model

One gateway a mode, as a notebook starts it. PSS is a process's share of the memory it maps, so that the sum over the
gateway, the zygote and the workers is what all of them take; where a control group may be made (root), what that is
charged for is shown beside it, page cache included. Times are medians of what a client of the management and
inference API waits; the first of a mode includes the zygote's imports.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Literal

import psutil
from rich.console import Console
from rich.table import Table

from nbserve.bundle import Sample
from nbserve.capture import capture
from nbserve.capture.cells import Cells
from nbserve.config import ModelConfig
from tests.benchmarks.endpoints import machine, tree_cpu_s
from tests.benchmarks.run import pinning
from tests.unit.gateway.running import Running, running

WIDTH = 2896  # 33.5 MB a layer in float32
SOURCE = """\
import torch
model = torch.nn.Sequential(*(torch.nn.Linear({width}, {width}) for _ in range({layers}))).eval()
class Big:
    def preprocess(self, rows):
        return torch.tensor([row.payload for row in rows], dtype=torch.float32).expand(len(rows), {width})
    def inference(self, batch):
        return [[float(row[0])] for row in model(batch)]
"""
BODY = b"[1.0]"
MODES: tuple[Literal["spawn", "fork"], ...] = ("spawn", "fork")
TURNS = 3
WORKERS = (1, 2, 4, 8)
IDLE_S = 10.0
CHARGED = ("memory.current", "memory.usage_in_bytes")
"""Of a control group, version 2 and 1."""


def main() -> None:
    """Measure both modes, print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=400, help="size of the model (400)")
    options = parser.parse_args()
    console = Console(width=120)
    console.print(machine(pinning()))
    with tempfile.TemporaryDirectory(prefix="nbs-") as temporary:
        folder = Path(temporary)
        os.environ["JUPYTER_RUNTIME_DIR"] = str(folder / "runtime")
        bundle = write_bundle(folder, max(1, round(options.megabytes / (WIDTH * WIDTH * 4 / 1e6))))
        figures = {start: measure(bundle, start, folder / f"{start}.log") for start in MODES}
    table = Table(title=f"workers, a torch model of {options.megabytes} MB", title_justify="left")
    for title in ("", *figures):
        table.add_column(title, justify="right" if title else "left")
    for name in figures["spawn"]:
        table.add_row(name, *(one[name] for one in figures.values()))
    console.print(table)


def write_bundle(folder: Path, layers: int) -> Path:
    """Captured as from a cell."""
    source = SOURCE.format(width=WIDTH, layers=layers)
    cells, namespace = Cells(), {"__name__": "__main__"}
    exec(compile(source, f"{folder}/<cell 1>", "exec"), namespace)
    cells.add(1, source, f"{folder}/<cell 1>")
    sample = Sample(content_type="application/json", body=BODY, expected_content_type="", expected_body=b"")
    captured = capture(namespace["Big"], name="big", namespace=namespace, cells=cells)
    return captured.write(folder / "bundles", sample).path


def measure(bundle: Path, start: Literal["spawn", "fork"], log: Path) -> dict[str, str]:
    """All figures of one mode, as shown."""
    shown = {}
    with memory_group() as group, running_in(group, log) as gateway:
        config = ModelConfig(start=start, proof="off", threads=1, max_batch_size=2)

        def serve() -> None:
            gateway.client.register(str(bundle), config=config)
            gateway.client.predict("big", BODY)

        shown["first: registered to answer"] = _seconds([_timed(serve)])
        shown["again (cell re-run): registered to answer"] = _seconds([_timed(serve) for _ in range(TURNS)])
        shown["only worker killed, to the next answer"] = _seconds([_killed(gateway) for _ in range(TURNS)])
        for workers in WORKERS:
            began_s = time.perf_counter()
            gateway.client.scale("big", workers)
            took_s = time.perf_counter() - began_s
            for _ in range(2 * workers):
                gateway.client.predict("big", BODY)
            time.sleep(1.0)  # what was replaced has gone
            shown[f"{workers} workers: sum of PSS"] = f"{_pss_bytes(gateway) / 1e9:.2f} GB"
            if group is not None:
                shown[f"{workers} workers: charged to their group"] = f"{charged_bytes(group) / 1e9:.2f} GB"
            if workers > 1:
                shown[f"to {workers} workers"] = f"{took_s:.2f} s"
        gateway.client.scale("big", 2)
        process = psutil.Process(gateway.process.pid)
        before_s = tree_cpu_s(process)
        time.sleep(IDLE_S)
        shown["idle, 2 workers"] = f"{(tree_cpu_s(process) - before_s) / IDLE_S:.4f} core"
    return shown


@contextmanager
def memory_group() -> Iterator[Path | None]:
    """A control group of our own below the present one, for memory; None where none can be made."""
    group = None
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            one = Path("/sys/fs/cgroup", controllers, path.lstrip("/"), f"nbserve-{os.getpid()}")
            with suppress(OSError):
                one.mkdir()
                if any((one / name).exists() for name in CHARGED):
                    group = one
                    break
                one.rmdir()
    try:
        yield group
    finally:
        if group is not None:
            group.rmdir()


@contextmanager
def running_in(group: Path | None, log: Path) -> Iterator[Running]:
    """A gateway in this group, and all that it starts; we ourselves are in it no longer than its start takes."""
    if group is not None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        with running(log=log) as gateway:
            if group is not None:
                (group.parent / "cgroup.procs").write_text(str(os.getpid()))
            yield gateway
    finally:
        if group is not None:
            (group.parent / "cgroup.procs").write_text(str(os.getpid()))


def charged_bytes(group: Path) -> int:
    """What the group is charged for."""
    return int(next(group / name for name in CHARGED if (group / name).exists()).read_text())


def _killed(gateway: Running) -> float:
    [worker] = gateway.client.model("big").workers
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    return _timed(lambda: gateway.client.predict("big", BODY))


def _pss_bytes(gateway: Running) -> int:
    process = psutil.Process(gateway.process.pid)
    return sum(one.memory_full_info().pss for one in [process, *process.children(recursive=True)])


def _timed(action: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    action()
    return time.perf_counter() - began_s


def _seconds(times_s: list[float]) -> str:
    return f"{median(times_s):.2f} s"


if __name__ == "__main__":
    main()
