"""The plots show the numbers of the result: points are read back from the SVG and compared with them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nbserve.measure import report
from nbserve.measure.facts import number
from nbserve.measure.plots import Plot, plots
from nbserve.measure.result import BenchResult
from nbserve.measure.stats import decoded
from nbserve.measure.svg import BLUE, BOTTOM, GREY, LEFT, RIGHT, TOP, VERMILLION, WIDTH, linear, logarithmic
from tests.unit.measure.results import drawn_ms, histogram_of, invalid, repeats, result, rivals, run, search

SVG = "{http://www.w3.org/2000/svg}"


def named(made: BenchResult) -> dict[str, Plot]:
    return {plot.name: plot for plot in plots(made)}


def elements(plot: Plot, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(plot.svg).iter(SVG + tag))


def polyline(element: ElementTree.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in element.attrib["points"].split()]  # type: ignore[misc]


def texts(plot: Plot) -> list[str]:
    return [element.text or "" for element in elements(plot, "text")]


def y_scale(plot: Plot) -> Callable[[float], float]:
    """Pixel -> value, from the two outermost labels of the (linear) y axis."""
    ticks = [
        (float(element.attrib["y"]) - 4, float(element.text or ""))
        for element in elements(plot, "text")
        if element.attrib["text-anchor"] == "end" and float(element.attrib["x"]) == LEFT - 6
    ]
    (low_at, low), (high_at, high) = ticks[0], ticks[-1]
    return lambda pixel: low + (pixel - low_at) * (high - low) / (high_at - low_at)


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (result, ["latency", "timeline", "stages", "batches"]),
        (repeats, ["latency", "throughput", "timeline", "stages", "batches"]),
        (rivals, ["latency", "timeline", "stages", "batches"]),
        (search, ["latency", "throughput", "timeline", "stages", "batches"]),
        (invalid, ["latency", "timeline", "stages", "batches"]),
    ],
)
def test_each_result_has_the_plots_that_it_has_data_for(make: Callable[[], BenchResult], shown: list[str]) -> None:
    found = plots(make())
    assert [plot.name for plot in found] == shown
    for plot in found:
        root = ElementTree.fromstring(plot.svg)
        assert root.attrib["role"] == "img"
        assert (root[0].tag, root[0].text) == (f"{SVG}title", plot.title)
        assert (root[1].tag, root[1].text) == (f"{SVG}desc", plot.description)
        assert root.attrib["viewBox"] == f"0 0 {plot.width} {plot.height}"
        assert re.search(r"\d", plot.description)
        assert len(plot.svg) < 16_000


def test_without_data_no_plot() -> None:
    bare = run(histogram="", answered=0, windows=[], stages_ms={}, batch_sizes={}, latency_ms={})
    assert plots(result(bare)) == []
    nothing = result()
    nothing.runs = []
    assert plots(nothing) == []


def test_the_latency_curve_is_that_of_the_sorted_values() -> None:
    one = run(rate=2000.0)
    values = sorted(drawn_ms(20_000, 1))
    plot = named(result(one))["latency"]
    [curve] = elements(plot, "polyline")
    value_at = y_scale(plot)
    most = math.log10(2 * len(values))
    points = polyline(curve)
    assert points[0][0] == LEFT
    assert points[-1][0] == WIDTH - RIGHT
    assert value_at(points[0][1]) == pytest.approx(values[0], abs=0.1)
    assert value_at(points[-1][1]) == pytest.approx(values[-1], abs=0.1)
    checked = 0
    for pixel, height in points[1:]:
        nines = (pixel - LEFT) / (WIDTH - RIGHT - LEFT) * most
        # A tenth of a pixel and three significant digits: the value lies between those of the neighbouring ranks.
        ranks = [len(values) * (1 - 10 ** -(nines + shift)) for shift in (-0.03, 0.03)]
        low, high = (values[min(max(int(rank), 0), len(values) - 1)] for rank in ranks)
        assert low - 0.1 <= value_at(height) <= high + 0.1
        checked += 1
    assert checked > 100
    assert all(a[0] <= b[0] and a[1] >= b[1] for a, b in pairwise(points)), "both grow"


def test_percentiles_are_marked_with_their_numbers() -> None:
    made = result(run(rate=2000.0))
    latency = made.runs[0].latency_ms
    shown = texts(named(made)["latency"])
    assert {f"{name} {number(latency[name])}" for name in ("p99", "p99.9", "max")} <= set(shown)
    assert {"50 %", "90 %", "99 %", "99.9 %", "99.99 %"} <= set(shown)


def test_one_answer_is_enough_for_a_curve() -> None:
    one = run(histogram=histogram_of([3.0]), answered=1, latency_ms={"p50": 3.0, "p90": 3.0, "p99": 3.0, "max": 3.0})
    [curve] = elements(named(result(one))["latency"], "polyline")
    assert len(polyline(curve)) == 2
    assert decoded(one.histogram).total_count == 1


def test_throughput_and_latency_of_a_search() -> None:
    made = search()
    made.runs[3].valid = False
    plot = named(made)["throughput"]
    p50, p99 = (polyline(element) for element in elements(plot, "polyline"))
    assert [x for x, _ in p50] == sorted(x for x, _ in p50), "joined by the load that was offered"
    assert all(high[1] < low[1] for low, high in zip(p50, p99, strict=True)), "p99 is above p50"
    assert p99[-1][1] < p99[0][1]
    circles = [element.attrib["fill"] for element in elements(plot, "circle")]
    assert circles.count("none") == 1, "what is not valid is hollow"
    assert "best: 250/s" in texts(plot)
    assert "p99<15ms" in texts(plot)
    assert "310/s: " in plot.description
    assert plot.description.count("INVALID") == 1


def test_two_versions_are_two_curves_told_apart_by_more_than_colour() -> None:
    plot = named(rivals())["latency"]
    dashes = [element.attrib.get("stroke-dasharray", "") for element in elements(plot, "polyline")]
    assert dashes == ["5 3", ""]
    assert {"version 3", "version 2"} <= set(texts(plot))
    assert plot.description.endswith(" Beside it: version 2.")


def test_repeats_are_points_not_a_curve() -> None:
    plot = named(repeats())["throughput"]
    assert not elements(plot, "polyline")
    assert len(elements(plot, "circle")) == 3 + 1  # and one in the legend


def test_the_timeline_is_that_of_the_windows() -> None:
    made = result(run(failed=37))
    plot = named(made)["timeline"]
    rates, p99s = (polyline(element) for element in elements(plot, "polyline"))
    windows = made.runs[0].windows
    assert len(rates) == len(p99s) == 2 * len(windows)
    heights = [window.answered / window.seconds for window in windows]
    assert rates[2 * heights.index(max(heights))][1] == min(y for _, y in rates)
    worst = [window.p99_ms for window in windows].index(max(window.p99_ms for window in windows))
    assert p99s[2 * worst][1] == min(y for _, y in p99s)
    crosses = [element for element in elements(plot, "path") if "l8 8m0-8l-8 8" in element.attrib["d"]]
    assert len(crosses) == 1 + 1  # and one in the legend
    assert "37 failed" in texts(plot)
    assert "37 failed requests in 1 windows" in plot.description


def test_stages_stack_to_the_whole() -> None:
    plot = named(result())["stages"]
    bars = [(float(bar.attrib["x"]), float(bar.attrib["width"]), bar.attrib["fill"]) for bar in elements(plot, "rect")]
    whole = bars[-1][0] + bars[-1][1] - bars[0][0]
    assert bars[3][1] / whole == pytest.approx(2.15 / 4.32, abs=0.01)
    for (x, width, _), (after, _, _) in pairwise(bars):
        assert after == pytest.approx(x + width, abs=0.2), "each begins where the one before it ends"
    assert [fill for _, _, fill in bars].count(VERMILLION) == 1
    assert "limit" in texts(plot), "not told by colour alone"


def test_batches_are_as_high_as_their_share() -> None:
    made = result(run(batch_sizes={1: 25, 2: 75}))
    plot = named(made)["batches"]
    low, high = (float(bar.attrib["height"]) for bar in elements(plot, "rect"))
    assert high / low == pytest.approx(3, rel=0.01)
    assert {"1", "2"} <= set(texts(plot))
    assert plot.description.startswith("Mean 1.75 requests a batch")


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.1."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear_rgb = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear_rgb, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def brighter(colour: str, factor: float) -> str:
    """What CSS's brightness(factor) makes of it."""
    return "#" + "".join(f"{min(255, round(int(colour[at : at + 2], 16) * factor)):02x}" for at in (1, 3, 5))


def test_colours_read_on_light_and_dark() -> None:
    for background in ("#ffffff", "#111111"):
        assert contrast(GREY, background) >= 4.3
        assert min(contrast(BLUE, background), contrast(VERMILLION, background)) >= 3
    light, dark = map(float, re.findall(r"brightness\(([\d.]+)\)", report.as_html(result())))
    for factor, background in ((light, "#ffffff"), (dark, "#111111"), (dark, "#212121")):
        assert contrast(brighter(GREY, factor), background) >= 4.5
        assert min(contrast(brighter(colour, factor), background) for colour in (BLUE, VERMILLION)) >= 4.5


@given(st.floats(1e-6, 1e9), st.integers(2, 6))
def test_an_axis_covers_its_values_with_few_round_ticks(most: float, ticks: int) -> None:
    axis = linear(most, 200, TOP, ticks=ticks)
    assert axis.low == 0
    assert axis.high >= most * (1 - 1e-6)
    assert 2 <= len(axis.ticks) <= ticks + 2
    assert (axis.at(0), axis.at(axis.high)) == pytest.approx((200, TOP))
    assert re.fullmatch(r"[125]0*", re.sub(r"e.*|^0\.0*|k", "", axis.ticks[1][1]).replace(".", ""))


@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6))
def test_a_logarithmic_axis_covers_its_values(one: float, other: float) -> None:
    least, most = sorted((one, other))
    assume(most / least >= 10)
    axis = logarithmic(least, most, 240 - BOTTOM, TOP)
    assert axis.low <= least
    assert axis.high >= most * (1 - 1e-9)
    assert axis.at(least) >= axis.at(most)
    assert 2 <= len(axis.ticks) <= 13
