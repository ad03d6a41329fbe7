"""Bundles made the way a notebook makes them: source executed as a cell, captured, written."""

from __future__ import annotations

import shutil
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbserve.capture import capture
from nbserve.capture.cells import Cells
from nbserve.capture.proof import run_sample

MakeBundle = Callable[..., Path]


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """make_bundle(source, handler="H", sample=...) -> folder; the source is one notebook cell."""
    count = 0

    def make(source: str, handler: str = "H", name: str = "m", **options: Any) -> Path:
        nonlocal count
        count += 1
        text = textwrap.dedent(source).lstrip()
        filename = f"{tmp_path}/<cell {count}>"
        cells, namespace = Cells(), {"__name__": "__main__"}
        exec(compile(text, filename, "exec"), namespace)
        cells.add(count, text, filename)
        target = namespace[handler]
        captured = capture(target, name=name, namespace=namespace, cells=cells)
        sample = run_sample(target, captured.kind, options["sample"], name=name) if "sample" in options else None
        return captured.write(tmp_path / "bundles", sample).path

    return make


@pytest.fixture
def short_tmp() -> Iterator[Callable[[], Path]]:
    """Folders with short names: the path of a unix socket ends at 107 characters."""
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="nbs-")))
        return made[-1]

    yield make
    for folder in made:
        shutil.rmtree(folder)
