"""The kernel that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.kernels import Kernel, running_kernel


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """The module's kernel."""
    with running_kernel(tmp_path_factory.mktemp("notebook")) as made:
        yield made
