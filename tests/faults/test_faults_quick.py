"""The cheap rows of `make faults`, once, against a real gateway: what they must hold, they hold."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.run import play
from tests.faults.table import ROWS


@pytest.mark.slow
@pytest.mark.parametrize(("name", "times"), [("bad-8", 1), ("kill-2", 2), ("scale", 1)])
def test_the_row_holds(name: str, times: int) -> None:
    result = asyncio.run(play(ROWS[name](), times, seed=1))
    assert result.held, "\n".join(result.broken())
    assert len(result.runs) == times
    for run in result.runs:
        assert run.sent == run.answered + run.failed + run.meant
        assert run.sent > 100
