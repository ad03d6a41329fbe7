"""The zygotes of the capture corpus: two for each process of the test run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.capture.outcome import Processes


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    found = Processes()
    yield found
    found.close()
