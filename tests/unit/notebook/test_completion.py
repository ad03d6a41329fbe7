"""Tab in the magics' lines."""

from __future__ import annotations

import pytest

from nbserve.notebook.completion import complete
from nbserve.verbs import VERBS, command


@pytest.mark.parametrize(
    ("verb", "line", "expected"),
    [
        ("serve", "model --wor", ["--workers"]),
        ("serve", "model --max-q", ["--max-queue-size", "--max-queue-bytes"]),
        ("serve", "model --workers 2 --wor", []),
        ("serve", "model --env A=1 --en", ["--env"]),
        ("serve", "model --device cu", ["cuda"]),
        ("serve", "model --device c", ["cpu", "cuda"]),
        ("serve", "model --swap b", ["blue-green"]),
        ("serve", "model --detach --p", ["--proof"]),
        ("status", "dig", ["digits"]),
        ("status", "digits dig", []),
        ("logs", "digits --fol", ["--follow"]),
        ("list", "--js", ["--json"]),
    ],
)
def test_what_tab_offers(verb: str, line: str, expected: list[str]) -> None:
    assert complete(line, command(VERBS[verb], "magic"), ["digits", "embed"]) == expected
