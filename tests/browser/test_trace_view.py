"""The trace view in real front ends: half a million spans stay fluid, and what it says of them is true."""

from __future__ import annotations

import gzip
import json
import os
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from nbserve.measure.trace import Trace
from tests.browser.jupyter import Jupyter, OpenNotebook, opened
from tests.guard.sources import ROOT
from tests.traces import synthetic

EVENTS = 500_000
WORST_MS = 60.0
"""Of any redraw while the view is zoomed and moved: the aim of the trace view."""
PASSES = 3
"""A machine that does something else for a moment makes any redraw late: the best pass counts."""
HOSTILE = "<img src=x onerror=\"window.pwned='name'\">"
RAW = gzip.compress(b'{"traceEvents": []}')

CELL = """
import gzip, sys
sys.path.insert(0, {root!r})
from nbserve.notebook.widgets.trace import TraceView
from tests.traces import synthetic
TraceView(synthetic({events}, hostile={hostile!r}), raw=lambda: {raw!r}, filename="digits-3.json.gz", title={title!r})
"""

Row = tuple[str, str, float, float, int]
"""Operator, where it ran, self and total in microseconds, calls."""


def cell(events: int, hostile: str = "", title: str = "") -> str:
    return CELL.format(root=str(ROOT), events=events, hostile=hostile, title=title, raw=RAW)


class Shown:
    """The trace view of the first cell, driven as a reader drives it."""

    def __init__(self, notebook: OpenNotebook) -> None:
        self.notebook, self.page = notebook, notebook.page
        self.node = self.page.locator(".jp-nbserve-trace")
        self.canvas = self.page.get_by_role("application", name="Timeline")
        self.canvas.wait_for()
        self.node.locator("tbody tr").first.wait_for()

    def fresh(self) -> None:
        """Nothing chosen, nothing searched for, the whole trace in sight."""
        self.search("")
        self.canvas.focus()
        self.press("Escape", "0")
        self.facts("Visible: ")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def search(self, text: str) -> None:
        box = self.node.get_by_role("searchbox")
        box.fill(text)
        box.press("Enter") if text else box.press("Escape")

    def facts(self, begin: str) -> list[str]:
        """The lines below the timeline, once they begin so and the view rests."""
        lines = self.node.locator(".jp-nbserve-trace-facts > div")
        lines.filter(has_text=begin).first.wait_for()
        self.settle()
        return lines.all_inner_texts()

    def settle(self) -> None:
        """Until the view rests and has said what there is to say of what it shows."""
        self.page.evaluate(FRAME)
        self.node.locator(".jp-nbserve-trace-facts[aria-busy=false]").wait_for()

    def table(self) -> list[Row]:
        rows = self.node.locator("tbody tr").all()
        return [row_of(row.locator("th, td").all_inner_texts()) for row in rows]


def row_of(cells: list[str]) -> Row:
    name, where, own, total, calls, _ = cells
    return name, where, microseconds(own.partition(" (")[0]), microseconds(total), int(calls.replace(",", ""))


def microseconds(text: str) -> float:
    value, unit = text.split()
    return float(value) * {"µs": 1, "ms": 1e3, "s": 1e6}[unit]


@pytest.fixture(scope="module")
def trace() -> Trace:
    return synthetic(EVENTS, hostile=HOSTILE)


@pytest.fixture(scope="module")
def large(browser: Browser, server: Jupyter) -> Iterator[Shown]:
    """Half a million spans in JupyterLab."""
    name = server.write("large.ipynb", [cell(EVENTS, HOSTILE, f"Trace of {HOSTILE}"), "1 + 1"])
    with opened(browser, server, name) as notebook:
        notebook.run(0)
        yield Shown(notebook)
        assert notebook.page.evaluate("() => window.pwned") is None
        assert not [line for line in notebook.console if "nbserve" in line and line.startswith("error")]


# --- fluid ---

OBSERVE = """() => { if (window.redraws) return;
  window.redraws = [];
  new PerformanceObserver(list => window.redraws.push(...list.getEntriesByName('nbserve-trace-redraw')
    .map(entry => entry.duration))).observe({ entryTypes: ['measure'] }); }"""
FRAME = "() => new Promise(done => requestAnimationFrame(() => done()))"


@pytest.mark.parametrize("search", ["", "cudaLaunchKernel"], ids=["all", "with-a-search"])
def test_half_a_million_spans_are_fluid(large: Shown, search: str, capsys: pytest.CaptureFixture[str]) -> None:
    large.fresh()
    large.page.evaluate(OBSERVE)
    if search:
        large.search(search)
        large.canvas.focus()
        large.press("0")
    times: list[float] = [np.inf]
    for _ in range(PASSES):
        times = min(times, journey(large), key=max)
        if max(times) <= WORST_MS:
            break
    with capsys.disabled():
        print(f" {len(times)} redraws, median {statistics.median(times):.1f} ms, worst {max(times):.1f} ms ", end="")
    assert len(times) >= 80
    assert max(times) <= WORST_MS


def journey(shown: Shown) -> list[float]:
    """Milliseconds of each redraw on the way from everything to microseconds, along there, and back."""
    shown.page.evaluate("() => { window.redraws.length = 0; }")
    box = shown.canvas.bounding_box()
    assert box is not None
    shown.canvas.hover(position={"x": box["width"] * 0.52, "y": 100})
    for move in ["wheel-in"] * 40 + ["d"] * 10 + ["wheel-out"] * 20 + ["a"] * 10 + ["s"] * 30:
        if move.startswith("wheel"):
            shown.page.mouse.wheel(0, -150 if move == "wheel-in" else 150)
        else:
            shown.press(move)
        shown.page.evaluate(FRAME)
    return list(shown.page.evaluate("() => window.redraws"))


# --- true ---


def test_search_goes_through_what_it_finds(large: Shown, trace: Trace) -> None:
    large.fresh()
    wanted = [place for place, text in enumerate(trace.details) if "req-00200-2" in text]
    found = np.flatnonzero(np.isin(trace.detail, wanted))
    count = large.node.locator(".jp-nbserve-trace-count")
    large.search("REQ-00200-2")
    assert count.inner_text() == f"1 of {len(found)}" == "1 of 3"
    first = found[np.argmin(trace.start_us[found])]
    chosen = large.node.locator(".jp-nbserve-trace-detail")
    assert chosen.locator("div").first.inner_text() == trace.names[trace.name[first]] == "queue"
    assert "request: req-00200-2" in chosen.inner_text()
    batch = int(trace.link[first])
    assert f"batch {batch}: {int((trace.link == batch).sum())} spans" in chosen.inner_text()
    large.canvas.focus()
    large.press("n", "n", "n")
    assert count.inner_text() == "1 of 3"
    large.press("p")
    assert count.inner_text() == "3 of 3"
    large.search("aten::linear")
    assert count.inner_text().endswith(f" of {int((trace.name == trace.names.index('aten::linear')).sum()):,}")


def test_a_selection_gives_its_operators_and_flame_graph(large: Shown, trace: Trace) -> None:
    large.fresh()
    large.search("req-00100-0")
    large.canvas.focus()
    large.press("n", "n", "Enter")  # what the worker did with it
    large.settle()
    large.press("m")
    span = np.flatnonzero(np.isin(trace.detail, [k for k, text in enumerate(trace.details) if "req-00100-0" in text]))[
        -1
    ]
    start, duration = float(trace.start_us[span]), float(trace.duration_us[span])
    interval = start - 0.75 * duration, start + 1.75 * duration
    facts = large.facts("Selected: ")
    rows = large.table()
    assert_same(rows, table_by_brute_force(trace, *interval))
    assert facts[1:] == [pieces_by_brute_force(trace, f"worker {worker}", *interval) for worker in range(2)]
    large.node.get_by_role("button", name="total", exact=True).click()
    totals = [row[3] for row in large.table()]
    assert totals == sorted(totals, reverse=True)
    assert large.node.locator("th[aria-sort=descending]").inner_text() == "total ▾"
    large.node.get_by_role("tab", name="Flame graph").click()
    flame = large.page.get_by_role("application", name="Flame graph")
    flame.focus()
    large.press("ArrowDown", "ArrowDown")
    told = large.node.locator(".jp-nbserve-trace-flame .jp-nbserve-trace-note").inner_text()
    assert told.startswith("batch: ")
    [batch] = [row for row in rows if row[0] == "batch"]
    assert microseconds(told.split(": ")[1].partition(" (")[0]) < batch[3], "one worker's part of both"
    large.node.get_by_role("tab", name="Operators").click()


def assert_same(shown: list[Row], wanted: dict[tuple[str, str], list[float]]) -> None:
    """The page shows four digits."""
    assert {row[:2] for row in shown} == set(wanted)
    assert len(shown) > 10
    for name, where, own, total, calls in shown:
        assert (own, total, calls) == pytest.approx(wanted[name, where], rel=6e-4, abs=6e-4), name


def table_by_brute_force(trace: Trace, begin: float, end: float) -> dict[tuple[str, str], list[float]]:
    """(name, kind) -> self, total, calls of the workers' spans, each span compared with each."""
    starts, ends = trace.start_us, trace.start_us + trace.duration_us
    chosen = [
        int(place)
        for place in np.flatnonzero((ends > begin) & (starts < end))
        if lane_of(trace, place).kind != "gateway"
    ]
    table: dict[tuple[str, str], list[float]] = {}
    numbers = {lane: number for number, lane in enumerate(trace.lanes)}
    for place in chosen:
        inside = min(ends[place], end) - max(starts[place], begin)
        row = table.setdefault(key_of(trace, place), [0.0, 0.0, 0])
        row[0] += inside
        row[1] += inside
        row[2] += 1
        above = numbers.get(lane_of(trace, place)._replace(depth=lane_of(trace, place).depth - 1), -1)
        around = (trace.lane == above) & (starts <= starts[place] + 0.01) & (ends[place] <= ends + 0.01)
        for parent in np.flatnonzero(around):
            table.setdefault(key_of(trace, parent), [0.0, 0.0, 0])[0] -= inside
    return table


def lane_of(trace: Trace, place: int) -> Any:
    return trace.lanes[trace.lane[place]]


def key_of(trace: Trace, place: int) -> tuple[str, str]:
    return trace.names[trace.name[place]], {"cpu": "CPU", "gpu": "GPU"}[lane_of(trace, place).kind]


def pieces_by_brute_force(trace: Trace, process: str, begin: float, end: float) -> str:
    """What is said of a GPU's short spans and its idle time, by marking each nanosecond in which something ran."""
    starts, ends = trace.start_us, trace.start_us + trace.duration_us
    lanes = [number for number, lane in enumerate(trace.lanes) if lane.process == process and lane.kind == "gpu"]
    gpu = np.isin(trace.lane, lanes)
    chosen = np.flatnonzero(gpu & (ends > begin) & (starts < end))
    inside = np.minimum(ends, end)[chosen] - np.maximum(starts, begin)[chosen]
    short = trace.duration_us[chosen] < 10
    step = 0.01
    ticks = np.zeros(int((end - begin) / step) + 1, dtype=bool)
    for place in chosen:
        ticks[max(0, int((starts[place] - begin) / step)) : max(0, int((ends[place] - begin) / step))] = True
    moments = begin + step * np.arange(len(ticks))
    ticks |= (moments < starts[gpu].min()) | (moments > ends[gpu].max())
    idle = float((~ticks).sum()) * step
    return (
        f"{process}: {len(chosen)} device spans, {int(short.sum())} ({percent(short.mean())}) shorter than 10 µs, "
        f"{percent(inside[short].sum() / inside.sum())} of the busy time; "
        f"GPU idle {idle / 1000:.3f} ms ({percent(idle / (end - begin))})"
    )


def percent(share: float) -> str:
    return f"{share * 100:.0f} %"


# --- for everybody ---


def test_by_keyboard_alone(large: Shown) -> None:
    large.fresh()
    large.canvas.focus()
    large.press("Shift+ArrowRight")
    chosen = large.node.locator(".jp-nbserve-trace-detail[aria-live=polite]")
    first = chosen.inner_text()
    large.press("Shift+ArrowRight")
    assert chosen.inner_text() != first
    large.press("Shift+ArrowDown")
    assert "gateway, requests" in chosen.inner_text()
    large.press("Enter")
    large.settle()
    assert microseconds(large.facts("Visible: ")[0].partition(": ")[2]) < 1e6
    large.press("/")
    assert large.node.get_by_role("searchbox").evaluate("node => node === document.activeElement")
    gateway = large.node.get_by_role("button", name="gateway")
    gateway.focus()
    large.press("Enter")
    assert gateway.get_attribute("aria-expanded") == "false"
    assert gateway.evaluate("node => node === document.activeElement"), "folding does not lose the focus"
    large.press("Space")
    assert gateway.get_attribute("aria-expanded") == "true"
    tab = large.node.get_by_role("tab", name="Operators")
    tab.focus()
    large.press("ArrowLeft")
    assert large.node.get_by_role("tab", name="Threads").get_attribute("aria-selected") == "true"
    assert large.node.get_by_role("table", name="Threads").locator("tbody tr").count() == 7
    large.press("ArrowRight")


def test_the_wheel_scrolls_the_page_until_the_view_has_the_focus(large: Shown) -> None:
    large.fresh()
    large.node.get_by_role("searchbox").focus()
    visible = large.facts("Visible: ")[0]
    large.canvas.hover(position={"x": 300, "y": 100})
    large.page.mouse.wheel(0, -150)
    large.settle()
    assert large.facts("Visible: ")[0] == visible
    large.page.keyboard.down("Control")
    large.page.mouse.wheel(0, -150)
    large.page.keyboard.up("Control")
    large.settle()
    assert large.facts("Visible: ")[0] != visible


def test_words_from_outside_stay_words(large: Shown, trace: Trace) -> None:
    large.fresh()
    assert large.node.locator(".jp-nbserve-trace-title").inner_text() == f"Trace of {HOSTILE}"
    large.search("onerror")
    large.canvas.focus()
    large.press("n")
    large.settle()
    assert large.node.locator(".jp-nbserve-trace-detail > div").first.inner_text() == HOSTILE
    large.press("Enter")
    large.settle()
    box = large.canvas.bounding_box()
    assert box is not None
    tip = large.node.get_by_role("tooltip")
    for y in range(4, int(box["height"]), 14):  # down the middle, until the pointer is on it
        large.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + y)
        if tip.is_visible() and HOSTILE in tip.inner_text():
            break
    assert tip.locator("div").first.inner_text() == HOSTILE
    large.press("m")
    large.facts("Selected: ")
    assert HOSTILE in [row[0] for row in large.table()]
    large.node.get_by_role("tab", name="Flame graph").click()
    large.node.get_by_role("tab", name="Operators").click()
    assert large.node.locator("img").count() == 0
    assert large.page.evaluate("() => window.pwned") is None


def test_the_raw_trace_is_downloaded(large: Shown) -> None:
    with large.page.expect_download() as begun:
        large.node.get_by_role("button", name="Download for Perfetto").click()
    assert begun.value.suggested_filename == "digits-3.json.gz"
    assert begun.value.path().read_bytes() == RAW


# --- light and dark; what is saved; the other front end ---

PIXELS = """canvas => { const { width, height } = canvas;
  const data = canvas.getContext('2d').getImageData(0, 0, width, height).data; const found = new Set();
  for (let i = 0; i < data.length; i += 4) found.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
  return [...found]; }"""


@pytest.fixture(scope="module")
def small(browser: Browser, server: Jupyter) -> Iterator[Shown]:
    name = server.write("small.ipynb", [cell(12_000)])
    with opened(browser, server, name) as notebook:
        notebook.run(0)
        yield Shown(notebook)


def test_the_theme_is_followed_at_once(small: Shown) -> None:
    small.notebook.theme("JupyterLab Light")  # the server remembers what other tests have chosen
    small.page.wait_for_function(f"canvas => ({PIXELS})(canvas).includes(0xffffff)", arg=small.canvas.element_handle())
    assert len(small.canvas.evaluate(PIXELS)) > 20
    small.notebook.theme("JupyterLab Dark")
    small.page.wait_for_function(f"canvas => !({PIXELS})(canvas).includes(0xffffff)", arg=small.canvas.element_handle())
    ground = small.node.evaluate("node => getComputedStyle(node).backgroundColor.match(/\\d+/g).map(Number)")
    assert ground[0] << 16 | ground[1] << 8 | ground[2] in small.canvas.evaluate(PIXELS)
    small.notebook.theme("JupyterLab Light")
    small.page.wait_for_function(f"canvas => ({PIXELS})(canvas).includes(0xffffff)", arg=small.canvas.element_handle())
    take_pictures(small)


def take_pictures(shown: Shown) -> None:
    """For docs/, where NBSERVE_PICTURES names their folder: a batch chosen, in light; a selection, in dark."""
    folder = os.environ.get("NBSERVE_PICTURES")
    if not folder:
        return
    shown.search("req-00006-1")
    shown.canvas.focus()
    shown.press("n", "n", "Enter", "Shift+ArrowDown")
    shown.settle()
    shown.node.screenshot(path=Path(folder) / "trace-view-light.png")
    shown.press("Escape")
    shown.search("")
    shown.notebook.theme("JupyterLab Dark")
    box = shown.canvas.bounding_box()
    assert box is not None
    shown.page.keyboard.down("Shift")
    shown.canvas.drag_to(
        shown.canvas,
        source_position={"x": box["width"] * 0.3, "y": box["height"] * 0.5},
        target_position={"x": box["width"] * 0.75, "y": box["height"] - 5},
    )
    shown.page.keyboard.up("Shift")
    shown.facts("Selected: ")
    shown.node.get_by_role("tab", name="Flame graph").click()
    shown.settle()
    shown.node.screenshot(path=Path(folder) / "trace-view-dark.png")
    shown.notebook.theme("JupyterLab Light")
    shown.fresh()
    shown.node.get_by_role("tab", name="Operators").click()


def test_the_notebook_file_has_a_picture_and_no_trace(small: Shown, server: Jupyter) -> None:
    """Not where the state of widgets is saved either, as some users have it set."""
    saved = save(small.notebook, server)
    assert "widgets" not in saved["metadata"]
    static, live = [output["data"] for output in saved["cells"][0]["outputs"]]
    assert "application/vnd.jupyter.widget-view+json" in live
    assert "spans over" in "".join(static["text/plain"])
    page = "".join(static["text/html"])
    assert "data:image/svg+xml;base64," in page
    assert "cudaLaunchKernel" in page
    small.page.evaluate(
        "() => window.jupyterapp.commands.execute('@jupyter-widgets/jupyterlab-manager:saveWidgetState')"
    )
    states = save(small.notebook, server)["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    [state] = [each for each in states.values() if each["model_module"] == "anywidget"]
    assert [(buffer["path"], buffer["data"]) for buffer in state["buffers"]] == [(["data"], "")]
    assert "cudaLaunchKernel" not in json.dumps(states)
    small.page.reload()
    assert len(Shown(small.notebook).table()) > 10, "a page that is loaded again has it from the kernel"
    expect(small.page.locator(".nbserve-trace")).to_be_hidden()


def save(notebook: OpenNotebook, server: Jupyter) -> dict[str, Any]:
    notebook.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")  # ends when it is written
    return server.saved("small.ipynb")


def test_a_real_profile_in_notebook_7(browser: Browser, server: Jupyter) -> None:
    name = server.write(
        "seven.ipynb", ["%load_ext nbserve", SERVE, "%nbserve profile layers --batches 5 --send-sample"]
    )
    with opened(browser, server, name, "notebook") as notebook:
        for number in range(3):
            notebook.run(number)
        shown = Shown(notebook)
        assert len(shown.canvas.evaluate(PIXELS)) > 20
        names = {row[0] for row in shown.table()}
        assert {"batch", "inference", "aten::addmm"} <= names
        shown.search("aten::addmm")
        assert " of " in shown.node.locator(".jp-nbserve-trace-count").inner_text()
        detail = shown.node.locator(".jp-nbserve-trace-detail").inner_text()
        assert "worker 0, main" in detail
        assert re.search(r"batch \d+: \d+ spans", detail)
        with notebook.page.expect_download() as begun:
            shown.node.get_by_role("button", name="Download for Perfetto").click()
        events = json.loads(gzip.decompress(begun.value.path().read_bytes()))["traceEvents"]
        assert {"aten::addmm", "in worker"} <= {event["name"] for event in events}


SERVE = """%%serve_handler layers --sample [1.0]*64
import torch

model = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(8))).eval()

class Layers:
    def initialize(self, context):
        self.model = model
    def preprocess(self, rows):
        return torch.tensor([row.payload for row in rows])
    def inference(self, batch):
        return self.model(batch)
    def postprocess(self, outputs):
        return [{"sum": float(output.sum())} for output in outputs]
"""
