"""A real browser for these tests: Debian's chromium (or what CHROMIUM names), driven by playwright.

One browser a module, and gone with it: playwright's loop stays in the thread while it runs, so that other tests there
could run none of their own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.jupyter import Jupyter, jupyter

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
"""In containers these tests run as root, without a GPU and with a small /dev/shm."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "no chromium: tools/system_packages.sh chromium"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """One JupyterLab for all tests of this process."""
    with jupyter(tmp_path_factory.mktemp("jupyter")) as running:
        yield running
