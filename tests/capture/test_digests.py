"""A digest says what is served: equal for equal cells in two kernels, another for any change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capture.corpus import Cell, Notebook, parse, read_all
from tests.capture.zygote import Zygote

SAMPLE = ["plain_data_zoo", "object_graph", "shared_identity", "homework_ngrams", "pandas_lookup", "sklearn_pipeline"]
SAMPLE += ["star_imports", "local_package", "numpy_generator", "loop_transformer_scratch"]
NOTEBOOKS = {each.name: each for each in read_all()}

SMALL = """\
# style: values
# about: what a digest depends on
# input: 1
# input: 2
# %%
import numpy as np
TABLE = {"a": 1}
weights = np.arange(1000.0)
# %%
%%serve_handler small --sample 1
def predict(batch):
    return [float(weights[x]) + TABLE["a"] for x in batch]
"""


@pytest.fixture(scope="module")
def kernels() -> Iterator[tuple[Zygote, Zygote]]:
    """Two, with hashes of their own: the order of a set is another in each."""
    both = Zygote("notebook"), Zygote("notebook")
    yield both
    for each in both:
        each.close()


def digest(notebook: Notebook, kernel: Zygote, folder: Path) -> str:
    cells = [{"source": cell.source, "fails": cell.fails} for cell in notebook.runs()]
    done = kernel.run("tests.capture.session:run_notebook", folder, cells=cells, inputs=list(notebook.inputs))
    assert "bundle" in done, done
    return Path(done["bundle"]).name


@pytest.mark.parametrize("name", SAMPLE)
def test_two_kernels_give_one_digest(name: str, kernels: tuple[Zygote, Zygote], tmp_path: Path) -> None:
    first, second = (digest(NOTEBOOKS[name], kernel, tmp_path / str(at)) for at, kernel in enumerate(kernels))
    assert first == second


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{"a": 1}', '{"a": 2}'),
        ("np.arange(1000.0)", "np.arange(1000.0) + (np.arange(1000) == 999)"),
        ("float(weights[x])", "int(weights[x])"),
        ("import numpy as np", "import numpy as np\nnp.set_printoptions(precision=3)"),
    ],
    ids=["literal", "one element", "code", "setting"],
)
def test_a_change_gives_another(old: str, new: str, kernels: tuple[Zygote, Zygote], tmp_path: Path) -> None:
    assert old in SMALL
    before, after = parse("small", SMALL), parse("small", SMALL.replace(old, new))
    assert digest(before, kernels[0], tmp_path / "a") != digest(after, kernels[0], tmp_path / "b")


def test_what_is_not_served_does_not_matter(kernels: tuple[Zygote, Zygote], tmp_path: Path) -> None:
    notebook = parse("small", SMALL)
    more = (Cell("unused = {'x': [1, 2]}\n"), Cell("def helper(x):\n    return unused\n"), *notebook.cells)
    other = Notebook(**{**vars(notebook), "cells": more, "order": (1, 2, 3, 4)})
    assert digest(notebook, kernels[0], tmp_path / "a") == digest(other, kernels[1], tmp_path / "b")
