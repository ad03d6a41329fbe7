"""What a reader without a mouse or without eyes meets: axe-core over a part of the page, and a walk with the Tab key.

axe-core comes with the front end's other tools (labextension/package.json) and is put into the page from its file.
"""

from __future__ import annotations

import functools
from typing import Any

from playwright.sync_api import Locator

from tests.guard.sources import ROOT

__all__ = ["violations", "walk"]

AXE = ROOT / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
RUN = """async node => {
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
  const found = await axe.run(node, { runOnly: tags, preload: false, resultTypes: ['violations', 'passes'] });
  return { violations: found.violations, passed: found.passes.map(rule => rule.id) };
}"""

CONTROLS = """node => { window.controls = [...node.querySelectorAll(
    'a[href], button, input, select, textarea, summary, [tabindex="0"]')]
  .filter(each => each.tabIndex >= 0 && !each.disabled && each.checkVisibility({ visibilityProperty: true }));
  window.controls[0].focus();
  return window.controls.length; }"""
FOCUSED = """() => { const at = document.activeElement, style = getComputedStyle(at);
  const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
  const box = at.getBoundingClientRect();
  const label = at.getAttribute('aria-label') ?? (at.labels?.[0] ?? at).textContent.slice(0, 40);
  const told = `${at.tagName.toLowerCase()} ${label}`;
  return [window.controls.indexOf(at), told, ring && box.width > 0 && box.bottom > 0 && box.top < innerHeight]; }"""


@functools.cache
def axe() -> str:
    """Its source."""
    return AXE.read_text()


def violations(part: Locator) -> list[str]:
    """What axe-core finds wrong in a part of the page, a line for each element; it must have looked at its colours."""
    if not part.page.evaluate("() => 'axe' in window"):
        part.page.evaluate(axe())
    found: dict[str, Any] = part.evaluate(RUN)
    assert {"color-contrast", "button-name"} <= {*found["passed"], *(rule["id"] for rule in found["violations"])}
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:150]}: {node['failureSummary'].splitlines()[-1].strip()}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def walk(part: Locator) -> list[str]:
    """The controls of a part as Tab reaches them: in their order, none skipped, and each seen to have the focus."""
    count = part.evaluate(CONTROLS)
    page, told = part.page, []
    page.keyboard.press("Shift+Tab")  # a focus set by the program shows no ring
    for expected in range(count):
        page.keyboard.press("Tab")
        place, name, is_seen = page.evaluate(FOCUSED)
        assert place == expected, f"after {told[-1:]} Tab went to {name}"
        assert is_seen, f"the focus of {name} is not seen"
        told.append(name)
    return told
