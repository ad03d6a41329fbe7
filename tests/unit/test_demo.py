"""The demo finds its notebook and reads the facts that it printed. The run itself: `make demo`."""

from __future__ import annotations

from typing import Any

import nbformat
import pytest

from nbserve.demo import find_notebook, summary
from nbserve.errors import NbserveError


def cell(*outputs: str, tags: tuple[str, ...] = ("demo-summary",)) -> dict[str, Any]:
    return {"metadata": {"tags": list(tags)}, "outputs": [{"output_type": "stream", "text": text} for text in outputs]}


def test_the_quickstart_is_found_and_has_the_cell_with_the_facts() -> None:
    notebook = nbformat.read(find_notebook(), as_version=4)
    tagged = [cell for cell in notebook.cells if "demo-summary" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1


def test_the_facts_are_the_line_after_the_mark_however_the_output_was_cut() -> None:
    other = cell("demo-summary\n{}\n", tags=())
    assert summary([other, cell("noise\ndemo-summary\n", '{"url": "u", "median_ms": 1.5}\n', "more\n")]) == {
        "url": "u",
        "median_ms": 1.5,
    }


@pytest.mark.parametrize("cells", [[], [cell("nothing here\n")], [cell(tags=())]])
def test_no_facts_is_an_error(cells: list[dict[str, Any]]) -> None:
    with pytest.raises(NbserveError, match="demo-summary"):
        summary(cells)
