"""The promote form with a real engine: podman builds the image while each line is shown, and proves it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.jupyter import Jupyter, jupyter, opened
from tests.browser.test_dashboard import SERVE, STOP, picture, serve
from tests.container.conftest import storage as storage
from tests.container.storage import Storage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SEEN = """dashboard => { window.seen = { values: [], lines: 0 };
  new MutationObserver(() => {
    const bar = dashboard.querySelector('progress'), log = dashboard.querySelector('.jp-nbserve-place [role=log]');
    if (bar && bar.position >= 0 && bar.value !== window.seen.values.at(-1)) window.seen.values.push(bar.value);
    if (log) window.seen.lines = Math.max(window.seen.lines, log.textContent.split('\\n').length);
  }).observe(dashboard, { subtree: true, childList: true, characterData: true, attributes: true }); }"""


@pytest.fixture(scope="module")
def building(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A JupyterLab whose kernels find podman and its storage."""
    with jupyter(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


def test_an_image_is_built_and_proven_with_each_line_shown(
    browser: Browser, building: Jupyter, storage: Storage
) -> None:
    name = building.write("build.ipynb", ["%load_ext nbserve", SERVE, STOP])
    with opened(browser, building, name) as notebook:
        dashboard = serve(notebook)
        dashboard.get_by_role("button", name="Promote").click()
        form = dashboard.get_by_role("region", name="Promote to an image")
        form.get_by_label("Tag").fill("digits:1.0")
        form.get_by_label("put all wheels into the context").check()
        dashboard.evaluate(SEEN)
        form.get_by_role("button", name="Promote").click()
        log = form.get_by_role("log")
        expect(log).to_contain_text(re.compile(r"STEP \d+/\d+: RUN python3 -m venv"), timeout=120_000)
        expect(log).to_contain_text("Processing ./wheels/msgspec-", timeout=120_000)  # a line of pip's own
        picture(form, "promote-building")
        expect(form.get_by_text("built and proven", exact=True)).to_be_visible(timeout=240_000)

        seen = notebook.page.evaluate("() => window.seen")
        assert seen["values"] == sorted(seen["values"]), "the bar never goes back"
        assert len(seen["values"]) > 5
        assert seen["lines"] > 30
        expect(form.get_by_role("row", name="proof")).to_contain_text(
            "the image answers the sample as the live endpoint did"
        )
        layers = form.get_by_role("table", name="Layers of the image").locator("tbody tr")
        assert layers.count() >= 3
        expect(layers.filter(has_text="COPY")).not_to_have_count(0)
        notebook.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        form.get_by_role("button", name="Copy: run").click()
        copied = notebook.page.evaluate("() => navigator.clipboard.readText()")
        assert copied == form.get_by_role("region", name="run").inner_text()
        assert copied.startswith("podman run ")
        assert copied.endswith("digits:1.0")
        form.get_by_text(re.compile(r"Log: \d+ lines")).click()
        expect(form.get_by_label("log of what was done")).to_contain_text("COMMIT digits:1.0")
        form.get_by_text(re.compile(r"Log: \d+ lines")).click()
        picture(form, "promote-built")
        assert "digits" in storage.podman("images")
        notebook.run(2)


def test_a_build_that_fails_shows_its_last_lines(browser: Browser, building: Jupyter, tmp_path: Path) -> None:
    name = building.write("fails.ipynb", ["%load_ext nbserve", SERVE, STOP])
    with opened(browser, building, name) as notebook:
        dashboard = serve(notebook)
        dashboard.get_by_role("button", name="Promote").click()
        form = dashboard.get_by_role("region", name="Promote to an image")
        form.get_by_label("Base image").fill("localhost/none-of-this-name:1")
        form.get_by_role("button", name="Promote").click()
        expect(form.get_by_role("alert")).to_contain_text("podman could not build the image", timeout=120_000)
        expect(form.get_by_role("alert")).to_contain_text("the context is kept in")
        expect(form.get_by_label("log of what was done")).to_contain_text("none-of-this-name")
        notebook.run(2)
