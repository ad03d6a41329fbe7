"""The proof proves something: without any one captured name, or with a stale value, some answer is another.

A sample of the corpus; `make capture-report` does all of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.capture.corpus import Notebook, read_all
from tests.capture.outcome import Processes, play

SAMPLE = ["helpers_over_cells", "deleted_names", "inheritance_across_cells", "monkeypatched_class", "enums"]
SAMPLE += ["module_surgery", "shared_identity", "plain_data_zoo", "default_dtype", "homework_linear_regression"]
NOTEBOOKS = [each for each in read_all() if each.name in SAMPLE]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda each: each.name)
def test_what_is_dropped_or_stale_is_noticed(notebook: Notebook, processes: Processes, tmp_path: Path) -> None:
    outcome = play(notebook, processes, tmp_path)
    assert outcome.verdict == "served", outcome.text
    found = processes.mutants.run(
        "tests.capture.mutation:survivors", tmp_path / "m", bundle=str(outcome.bundle), expected=outcome.answers
    )
    left = [each for each in found["survivors"] if not notebook.may_survive(*each)]
    assert not left, found
    assert found["tried"] > len(outcome.entries) // 2
