"""Fixtures of the container tests: podman's storage, made once a module and gone with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.container.storage import Storage, container_storage


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    """Storage with the base image; the environment points podman at it."""
    with container_storage() as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        patch.setenv("PATH", made.path_without_docker())
        yield made
