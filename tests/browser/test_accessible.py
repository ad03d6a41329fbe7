"""Dashboard and trace view without a mouse and without eyes: what axe-core finds in light and dark, and Tab's way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.accessible import violations, walk
from tests.browser.jupyter import Jupyter, OpenNotebook, opened
from tests.browser.test_dashboard import SERVE, serve
from tests.browser.test_trace_view import cell

THEMES: tuple[Literal["JupyterLab Light", "JupyterLab Dark"], ...] = ("JupyterLab Light", "JupyterLab Dark")
ASK = """from nbserve import Endpoint
endpoint = Endpoint.find("digits")
for value in ([1, 2], [20, 22], ["a"]):
    try:
        endpoint.predict(value)
    except Exception as exc:
        print(type(exc).__name__)"""


@pytest.fixture(scope="module")
def notebook(browser: Browser, server: Jupyter) -> Iterator[OpenNotebook]:
    """A dashboard that has answers, an error, a log; and a trace view."""
    name = server.write("accessible.ipynb", ["%load_ext nbserve", SERVE, ASK, cell(12_000)])
    with opened(browser, server, name) as notebook:
        serve(notebook)
        notebook.run(2)
        notebook.run(3)
        yield notebook


@pytest.fixture
def dashboard(notebook: OpenNotebook) -> Locator:
    """All that can be opened is open."""
    found = notebook.output(1).locator(".jp-nbserve-dashboard")
    expect(found.get_by_text("Failed requests")).to_be_visible()
    found.evaluate("node => node.querySelectorAll('details').forEach(each => { each.open = true; })")
    expect(found.get_by_role("button", name="Copy replay").first).to_be_visible()
    found.get_by_role("button", name="Send", exact=True).click()
    expect(found.get_by_label("answer", exact=True)).to_be_visible()
    return found


def open_place(dashboard: Locator, button: str) -> None:
    dashboard.get_by_role("button", name=button, exact=True).first.click()


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_wrong_with_the_dashboard(
    notebook: OpenNotebook, dashboard: Locator, theme: Literal["JupyterLab Light", "JupyterLab Dark"]
) -> None:
    notebook.theme(theme)
    assert violations(dashboard) == []
    for button in ("Scale", "Profile", "Promote", "Stop"):
        open_place(dashboard, button)
        assert violations(dashboard) == [], button
        dashboard.get_by_role("button", name="Cancel").click()
    open_place(dashboard, "Advice")
    close = dashboard.get_by_role("button", name="Close")
    expect(close).to_be_visible()
    assert violations(dashboard) == [], "a result"
    close.click()


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_wrong_with_the_trace_view(
    notebook: OpenNotebook, theme: Literal["JupyterLab Light", "JupyterLab Dark"]
) -> None:
    notebook.theme(theme)
    view = notebook.output(3).locator(".jp-nbserve-trace")
    view.get_by_role("searchbox").fill("req-00006-1")
    view.get_by_role("searchbox").press("Enter")
    for tab in ("Threads", "Flame graph", "Operators"):
        view.get_by_role("tab", name=tab).click()
        assert violations(view) == [], tab


def test_tab_goes_through_the_dashboard_in_order_and_is_seen(notebook: OpenNotebook, dashboard: Locator) -> None:
    open_place(dashboard, "Promote")
    names = walk(dashboard)
    assert [name for name in names if name.startswith("button")][:2] == ["button Bench", "button Profile"]
    assert names.index("button Stop") < names.index("input Tag") < names.index("textarea request body")
    dashboard.get_by_label("Tag").press("Escape")
    expect(dashboard.get_by_role("button", name="Promote")).to_be_focused()


def test_tab_goes_through_the_trace_view_in_order_and_is_seen(notebook: OpenNotebook) -> None:
    names = walk(notebook.output(3).locator(".jp-nbserve-trace"))
    assert any(name.startswith("canvas Timeline") for name in names)
    assert "button Download for Perfetto" in names
