"""What capture costs with a large model: first capture, hash, again with nothing changed, one element, a handler edit.

    python -m tests.benchmarks.capture                       400 MB, medians of five, about a minute
    python -m tests.benchmarks.capture --megabytes 50 --json
    python -m tests.benchmarks.capture --serve               also cell to served, in a real kernel

Each figure stands beside one of the same machine, taken in turns with it: what safetensors needs to write the same
tensors to the same disk (synced, as a bundle is), and what sha256 needs to read them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from nbserve.capture import Cells, Snapshot, capture
from tests.benchmarks.endpoints import machine
from tests.benchmarks.run import pinning

WIDTH = 2048  # 16.8 MB a layer in float32
MODEL = """\
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(*(torch.nn.Linear({width}, {width}) for _ in range({layers}))).eval()
"""
HANDLER = """\
class Big:
    def preprocess(self, rows):
        return torch.tensor([row.payload for row in rows], dtype=torch.float32).expand(len(rows), {width})
    def inference(self, batch):
        return [[float(row[0]) + {edit}] for row in model(batch)]
"""


class Notebook:
    """Cells that have run in this process, and the bundles of their captures."""

    def __init__(self, megabytes: int, folder: Path) -> None:
        self.folder = folder
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self._cells, self._number = Cells(), 0
        self.run(MODEL.format(width=WIDTH, layers=max(1, round(megabytes / (WIDTH * WIDTH * 4 / 1e6)))))
        self.edit_handler()

    def run(self, source: str) -> None:
        self._number += 1
        name = f"<cell {self._number}>"
        self._cells.add(self._number, source, name)
        exec(compile(source, name, "exec"), self.namespace)

    def edit_handler(self) -> None:
        self.run(HANDLER.format(width=WIDTH, edit=self._number))

    @property
    def model(self) -> Any:
        return self.namespace["model"]

    def capture(self) -> Path:
        """As `%%serve_handler` does it, up to the folder that is registered."""
        captured = capture(self.namespace["Big"], name="big", namespace=self.namespace, cells=self._cells)
        return captured.write(self.folder / "bundles").path

    def snapshot(self, bundle: Path) -> Snapshot:
        return Snapshot(bundle, time.time(), lambda: self.namespace["Big"], self.namespace, self._cells)

    def forget(self) -> None:
        """The next capture is a first one."""
        shutil.rmtree(self.folder / "bundles", ignore_errors=True)


def main() -> None:
    """Measure, print a table and, where asked for, JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=400, help="size of the model (400)")
    parser.add_argument("--turns", type=int, default=5, help="each figure is the median of so many (5)")
    parser.add_argument("--serve", action="store_true", help="also serve it from a real kernel, and edit the handler")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON as well")
    options = parser.parse_args()
    console = Console(width=120)
    console.print(machine(pinning()))
    with tempfile.TemporaryDirectory(prefix="nbs-") as temporary:
        notebook = Notebook(options.megabytes, Path(temporary))
        figures = measure(notebook, options.turns)
        if options.serve:
            figures |= serving(options.megabytes, Path(temporary), options.turns)
    console.print(table(figures, sum(each.nbytes for each in notebook.model.parameters())))
    if options.json:
        print(json.dumps(figures, indent=1))


def measure(notebook: Notebook, turns: int) -> dict[str, list[float]]:
    """Seconds by name, one a turn."""
    found: dict[str, list[float]] = {}

    def timed(name: str, do: Callable[[], Any]) -> Any:
        began_s = time.perf_counter()
        result = do()
        found.setdefault(name, []).append(time.perf_counter() - began_s)
        return result

    plain_write(notebook)  # what both sides import and allocate once is nobody's
    notebook.capture()
    for _ in range(turns):
        notebook.forget()
        timed("safetensors write", lambda: plain_write(notebook))
        first = timed("first capture", notebook.capture)
        timed("sha256 of the tensors", lambda: plain_hash(notebook))
        weights = (first / "weights" / "model.safetensors").stat()
        same = timed("again, nothing changed", notebook.capture)
        assert same == first, "equal content, another bundle"
        snapshot = notebook.snapshot(first)
        assert timed("explain: what has changed", snapshot.changes) == []
        notebook.edit_handler()
        edited = timed("again, handler edited", notebook.capture)
        assert edited != first
        assert (edited / "weights" / "model.safetensors").stat().st_ino == weights.st_ino, "weights were written again"
        notebook.model[0].weight.data[7, 7] += 1.0
        changed = timed("again, one element changed by p.data", notebook.capture)
        assert changed not in (first, edited), "a changed element was not noticed"
        assert [line for line in notebook.snapshot(edited).changes() if "model has changed since" in line]
    return found


def plain_write(notebook: Notebook) -> None:
    """The same tensors by safetensors itself, and synced to the disk as a bundle is."""
    from safetensors.torch import save_file

    path = notebook.folder / "plain.safetensors"
    path.unlink(missing_ok=True)
    save_file({name: tensor.detach() for name, tensor in notebook.model.state_dict().items()}, path)
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def plain_hash(notebook: Notebook) -> str:
    digest = hashlib.sha256()
    for tensor in notebook.model.state_dict().values():
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def serving(megabytes: int, folder: Path, turns: int) -> dict[str, list[float]]:
    """Cell to endpoint in a real kernel: served first, and after each small edit of the handler."""
    from tests.kernels import notebook as kernel

    layers = max(1, round(megabytes / (WIDTH * WIDTH * 4 / 1e6)))
    found: dict[str, list[float]] = {"served from the cell, first": [], "served again, handler edited": []}
    os.environ |= {"NBSERVE_HOME": str(folder / "home"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    with kernel(folder) as cells:
        cells.run(MODEL.format(width=WIDTH, layers=layers))
        cells.run("%load_ext nbserve")
        for turn in range(turns + 1):
            began_s = time.perf_counter()
            cells.run("%%serve_handler big --sample 0.5\n" + HANDLER.format(width=WIDTH, edit=turn))
            found[list(found)[min(turn, 1)]].append(time.perf_counter() - began_s)
    return found


BESIDE = {
    "first capture": "safetensors write",
    "again, nothing changed": "sha256 of the tensors",
    "again, handler edited": "sha256 of the tensors",
    "again, one element changed by p.data": "safetensors write",
    "explain: what has changed": "sha256 of the tensors",
}


def table(figures: dict[str, list[float]], size_bytes: int) -> Table:
    """Medians, the spread, and the ratio to what it is held against."""
    shown = Table("", "median s", "least", "most", "ratio", title=f"{size_bytes / 1e6:.0f} MB of weights")
    for name, times in figures.items():
        beside = BESIDE.get(name, "")
        ratio = f"{median(times) / median(figures[beside]):.2f} x {beside}" if beside else ""
        shown.add_row(name, f"{median(times):.3f}", f"{min(times):.3f}", f"{max(times):.3f}", ratio)
    return shown


if __name__ == "__main__":
    main()
