"""The report of a measurement as a reader sees it: legible in light and dark, nothing cut off, no label on another."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from nbserve.measure.plots import plots
from nbserve.measure.report import as_html, as_page
from nbserve.measure.result import BenchResult
from tests.unit.measure.results import histogram_of, invalid, repeats, result, rivals, run, search

Colour = tuple[int, int, int]

# Text and the colour behind it, for every element that has text of its own.
TEXTS = """() => [...document.querySelectorAll('body *')].filter(e => e.tagName != 'STYLE' && [...e.childNodes].some(
    n => n.nodeType == 3 && n.textContent.trim())).map(e => {
  let behind = e;
  while (behind && getComputedStyle(behind).backgroundColor == 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
  const numbers = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  return [e.textContent.slice(0, 40), numbers(getComputedStyle(e).color),
          behind ? numbers(getComputedStyle(behind).backgroundColor) : [255, 255, 255]];
})"""
BOXES = """() => [...document.querySelectorAll('svg text')].map(e => {
  const b = e.getBBox(); return [e.textContent, b.x, b.y, b.x + b.width, b.y + b.height]; })"""
OVERFLOW = """() => document.documentElement.scrollWidth - document.documentElement.clientWidth"""


def luminance(colour: Colour) -> float:
    """Relative luminance of WCAG 2.1."""
    channels = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))


def contrast(one: Colour, other: Colour) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def drawn_contrast(page: Page, plot: str) -> float:
    """Of the labels of a plot's y axis, as they come out on the screen: nothing else is left of the axis."""
    shot = page.locator(f"figure.nbserve-{plot} img").screenshot()
    image = Image.open(io.BytesIO(shot)).convert("RGB")
    corner: Colour = image.getpixel((image.width - 1, image.height - 1))  # type: ignore[assignment]
    labels = image.crop((0, image.height // 3, 40, image.height))
    return max(contrast(colour, corner) for _, colour in labels.getcolors(100_000))  # type: ignore[misc]


@pytest.fixture
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A page of a reader who prefers this scheme."""
    opened = browser.new_page(viewport={"width": 980, "height": 800}, color_scheme=request.param)
    yield opened
    opened.close()


def assert_legible(page: Page, text: float, drawn: float) -> None:
    """`text`: least contrast of text; `drawn`: of the letters in plots, which anti-aliasing makes paler."""
    page.evaluate("() => Promise.all([...document.images].map(image => image.decode()))")
    faint = [found for found in page.evaluate(TEXTS) if contrast(found[1], found[2]) < text]
    assert not faint
    assert drawn_contrast(page, "latency") >= drawn


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_a_page_of_its_own(page: Page) -> None:
    page.set_content(as_page(invalid()))
    assert_legible(page, 7, 4.5)
    assert page.evaluate(OVERFLOW) <= 0
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate(OVERFLOW) <= 0, "on a telephone"
    assert page.locator("img").count() == 4
    assert page.get_by_role("img", name="Latency of right answers").is_visible()


@pytest.mark.parametrize(
    ("page", "theme", "background", "drawn"),
    [
        ("dark", 'data-jp-theme-light="true"', "#fff", 4.5),
        ("light", 'data-jp-theme-light="false"', "#111", 4.5),
        ("dark", "", "#fff", 3.5),
        ("light", "", "#111", 3.5),
    ],
    ids=["lab-light", "lab-dark", "unknown-light", "unknown-dark"],
    indirect=["page"],
)
def test_in_a_notebook(page: Page, theme: str, background: str, drawn: float) -> None:
    """The notebook's theme counts, not what the reader's system prefers; the plots read without a known theme too."""
    colour = "#222" if background == "#fff" else "#ddd"
    page.set_content(f'<body {theme} style="background: {background}; color: {colour}">{as_html(search())}</body>')
    assert_legible(page, 7, drawn)
    assert page.evaluate(OVERFLOW) <= 0


def crowded() -> BenchResult:
    """What makes labels long and near each other."""
    slow = run(
        rate=1234.5,
        scale=900,
        failed=123_456,
        stages_ms={f"a stage with a long name {n}": {"mean": 1000.0 + n, "p99": 1.0} for n in range(12)},
        batch_sizes={2**n: n + 1 for n in range(12)},
    )
    return result(slow, run(rate=1230.0, scale=901), limit="a stage with a long name 11")


def flat() -> BenchResult:
    """Every answer took the same, and the largest is hardly beyond the last percentile."""
    same = dict.fromkeys(("p50", "p90", "p99", "p99.9", "max"), 5.0)
    return result(run(histogram=histogram_of([5.0] * 600), latency_ms=same))


def few() -> BenchResult:
    """Hardly any data: two answers in a thousandth of a millisecond."""
    return result(run(rate=0.2, scale=0.0003, batch_sizes={1: 2}, stages_ms={"network": {"mean": 0.001, "p99": 0.001}}))


@pytest.mark.parametrize("make", [result, repeats, rivals, search, invalid, crowded, flat, few])
def test_no_label_is_cut_off_or_on_another(browser: Browser, make: type[BenchResult]) -> None:
    opened = browser.new_page()
    for plot in plots(make()):
        opened.set_content(plot.svg)
        boxes = opened.evaluate(BOXES)
        assert boxes
        for text, left, top, right, bottom in boxes:
            assert left >= 0, (plot.name, text)
            assert right <= plot.width, (plot.name, text)
            assert top >= -2, (plot.name, text)  # a box has room for accents that digits do not need
            assert bottom <= plot.height + 1, (plot.name, text)
        for at, (text, left, top, right, bottom) in enumerate(boxes):
            for other, *box in boxes[:at]:
                apart = left >= box[2] or right <= box[0] or top + 3 >= box[3] or bottom - 3 <= box[1]
                assert apart, (plot.name, text, other)
    opened.close()
