"""Every notebook of the corpus, run by a real shell and served by a process that never saw it: answers are equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.corpus import LONG_STYLES, Notebook, read_all
from tests.capture.outcome import Processes, play, wrong_with
from tests.capture.shapes import SHAPES

NOTEBOOKS = read_all()


def test_the_corpus_is_what_it_is_said_to_be() -> None:
    assert len(NOTEBOOKS) >= 80
    long = [each for each in NOTEBOOKS if each.style in LONG_STYLES and len(each.cells) >= 15]
    assert len(long) >= 20, len(long)
    assert {each.style for each in long} == set(LONG_STYLES)


def test_every_shape_that_is_said_to_be_shown_has_its_notebooks() -> None:
    shown = {name for shapes in SHAPES.values() for names in shapes.values() for name in names.split()}
    assert shown <= {each.name for each in NOTEBOOKS}
    assert all(names.split() for shapes in SHAPES.values() for names in shapes.values())


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda each: each.name)
def test_notebook(notebook: Notebook, processes: Processes, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if notebook.gap:
        request.applymarker(pytest.mark.xfail(reason=notebook.gap, strict=True))
    wrong = wrong_with(notebook, play(notebook, processes, tmp_path))
    assert not wrong, wrong
