"""The dashboard in a real browser: it lives and acts while a cell runs, what comes from outside stays text, silence
costs nothing. Its pictures in docs/ are made here where NBSERVE_PICTURES names their folder.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import time
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, WebSocket, expect

from nbserve.endpoint import Endpoint
from tests.browser.jupyter import FRONT_ENDS, FrontEnd, Jupyter, OpenNotebook, opened

DASHBOARD = ".jp-nbserve-dashboard"
EVIL = "<img src=x onerror='window.hacked = true'>"
RIGHT_TO_LEFT = "\u202eשלום 🙂"
LONG = "w" * 10_000

SERVE = """%%serve_handler digits --sample [1, 2, 3]
import time
from nbserve import Handler

class Digits(Handler):
    def initialize(self, context):
        self.rows = context.metrics.counter("rows_seen", "rows that were summed up")
    def preprocess(self, rows):
        time.sleep(0.0005)
        return [row.payload for row in rows]
    def inference(self, batch):
        time.sleep(0.003)
        self.rows.inc(len(batch))
        print("a batch of", len(batch))
        return [sum(one) for one in batch]
"""
TRAFFIC = """import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from nbserve import Endpoint

endpoint = Endpoint.find("digits")
with ThreadPoolExecutor(6) as pool:
    while not Path("enough").exists():
        list(pool.map(endpoint.predict, [[1, 2]] * 60))
        time.sleep(0.02)
"""
STOP = "%nbserve stop digits"


def serve(notebook: OpenNotebook) -> Locator:
    """Run the first two cells; the dashboard."""
    notebook.run(0)
    notebook.run(1)
    dashboard = notebook.output(1).locator(DASHBOARD)
    dashboard.wait_for()
    return dashboard


def number_of(text: str) -> float:
    return float(re.sub(r"[^\d.]", "", text) or 0)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_it_lives_and_acts_while_a_cell_runs(browser: Browser, server: Jupyter, front_end: FrontEnd) -> None:
    enough = server.folder / "enough"
    enough.unlink(missing_ok=True)
    name = server.write(f"lives-{front_end}.ipynb", ["%load_ext nbserve", SERVE, TRAFFIC, STOP])
    with opened(browser, server, name, front_end) as notebook:
        dashboard = serve(notebook)
        assert "sums" not in dashboard.inner_text()
        notebook.start(2)
        rate = dashboard.locator(".jp-nbserve-value").first
        seen: set[str] = set()
        deadline = time.monotonic() + 30
        while len(seen) < 3:  # it goes on: three different figures
            seen.add(rate.inner_text())
            assert time.monotonic() < deadline, seen
            notebook.page.wait_for_timeout(200)
        assert number_of(rate.inner_text()) > 0
        expect(dashboard.get_by_role("img", name="a request on average")).to_be_visible()
        expect(dashboard.get_by_text("rows_seen")).to_be_visible()

        dashboard.get_by_text("Try it").click()
        expect(dashboard.get_by_label("request body")).to_have_value("[1,2,3]")
        dashboard.get_by_label("request body").fill("[20, 22]")
        dashboard.get_by_role("button", name="Send", exact=True).click()
        expect(dashboard.get_by_label("answer", exact=True)).to_have_text("42")
        expect(dashboard.get_by_role("img", name="for this request")).to_be_visible()
        dashboard.get_by_label("request body").fill("[20, ")
        dashboard.get_by_label("request body").press("Control+Enter")
        expect(dashboard.locator(".jp-nbserve-answer")).to_contain_text("400")

        dashboard.get_by_role("button", name="Scale").click()
        dashboard.get_by_role("spinbutton", name="workers").fill("2")
        dashboard.get_by_role("spinbutton", name="workers").press("Enter")
        expect(dashboard.locator("tbody tr", has_text="#1").first).to_contain_text(
            re.compile("ready|busy"), timeout=30_000
        )
        expect(dashboard.get_by_role("status").filter(has_text="2 workers")).to_be_visible()
        dashboard.get_by_role("button", name="Close").click()
        assert notebook.is_running(2), "all of this was while the cell ran"
        take_pictures(notebook, dashboard)
        enough.touch()
        notebook.run(3)
        expect(dashboard.get_by_text("ended", exact=True)).to_be_visible()
        expect(dashboard.get_by_role("button", name="Bench")).to_be_disabled()


def take_pictures(notebook: OpenNotebook, dashboard: Locator) -> None:
    """Light and dark, for docs/; only where asked for."""
    folder = os.environ.get("NBSERVE_PICTURES")
    if not folder or notebook.front_end != "lab":
        return
    dashboard.get_by_label("request body").fill("[20, 22]")
    dashboard.get_by_role("button", name="Send", exact=True).click()
    notebook.page.wait_for_timeout(20_000)  # for curves to look at
    for theme in ("Dark", "Light"):
        notebook.theme(f"JupyterLab {theme}")  # type: ignore[arg-type]
        notebook.page.wait_for_timeout(1500)
        dashboard.screenshot(path=Path(folder) / f"dashboard-{theme.lower()}.png")


def test_what_comes_from_outside_stays_text(browser: Browser, server: Jupyter) -> None:
    handler = f"""%%serve_handler digits
from nbserve import Handler

class Digits(Handler):
    def initialize(self, context):
        self.rows = context.metrics.counter("rows", {EVIL!r})
    def preprocess(self, rows):
        return [row.payload for row in rows]
    def inference(self, batch):
        print({EVIL!r})
        print({RIGHT_TO_LEFT!r})
        print({LONG!r})
        self.rows.inc(1, kind={EVIL!r}, long={LONG[:120]!r})
        if isinstance(batch[0], int) and batch[0] == 0:
            raise ValueError({EVIL!r} + {LONG!r})
        return [{EVIL!r} + {LONG!r}]
"""
    ask = """from nbserve import Endpoint
endpoint = Endpoint.find("digits")
endpoint.predict(1)
try:
    endpoint.predict(0)
except Exception:
    pass"""
    name = server.write("evil.ipynb", ["%load_ext nbserve", handler, ask, STOP])
    with opened(browser, server, name) as notebook:
        dashboard = serve(notebook)
        notebook.run(2)
        log = dashboard.get_by_role("log", include_hidden=True)
        expect(log).to_contain_text(EVIL)
        expect(log).to_contain_text("ValueError")
        expect(dashboard.locator("tr", has_text="rows").filter(has_text=EVIL)).to_be_visible()
        dashboard.get_by_text("Try it").click()
        for body, status in (("1", "200"), ("0", "500")):
            dashboard.get_by_label("request body").fill(body)
            dashboard.get_by_role("button", name="Send", exact=True).click()
            expect(dashboard.locator(".jp-nbserve-answer")).to_contain_text(status)
            expect(dashboard.get_by_label("answer", exact=True)).to_contain_text(EVIL)
        assert notebook.page.evaluate("() => window.hacked") is None
        assert dashboard.locator("img").count() == 0

        image = io.BytesIO()
        Image.new("RGB", (8, 8), "teal").save(image, "PNG")
        sent = {"name": f"{EVIL}.png", "mimeType": "image/png", "buffer": image.getvalue()}
        dashboard.get_by_label("a file to send").set_input_files(sent)
        expect(dashboard.locator(".jp-nbserve-answer")).to_contain_text("200")
        expect(dashboard.get_by_alt_text("the image sent")).to_be_visible()
        assert notebook.page.evaluate("() => window.hacked") is None
        dashboard.evaluate("node => node.querySelectorAll('details').forEach(each => { each.open = true; })")
        expect(dashboard.get_by_role("button", name="Copy replay").first).to_be_visible()
        for width in (1280, 480):
            notebook.page.set_viewport_size({"width": width, "height": 1400})
            assert dashboard.evaluate(CUT_OFF) == [], f"at {width} pixels"
        notebook.run(3)


CUT_OFF = """dashboard => { const edge = dashboard.getBoundingClientRect().right + 1;
  return [...dashboard.querySelectorAll('*')].filter(each => each.getBoundingClientRect().right > edge
    && !each.closest('.jp-nbserve-chart, .jp-nbserve-scrolled > *')).map(each => each.outerHTML.slice(0, 100)); }"""
"""What is wider than the dashboard; tables scroll by themselves."""


class Comms:
    """Counts what the kernel sends to widgets and what they send."""

    def __init__(self) -> None:
        self.count = 0

    def listen(self, page: Page) -> None:
        page.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._take)
        socket.on("framesent", self._take)

    def _take(self, frame: str | bytes) -> None:
        data = frame.encode() if isinstance(frame, str) else frame
        found = re.search(rb'"msg_type": ?"(\w+)"', data)  # of the message itself; its parent's comes after
        self.count += found is not None and found[1] == b"comm_msg"


def test_silence_and_a_reader_who_looks_away_cost_no_message(browser: Browser, server: Jupyter) -> None:
    """A Hub ends kernels that nobody talks to."""
    name = server.write("silence.ipynb", ["%load_ext nbserve", SERVE, TRAFFIC, STOP])
    enough = server.folder / "enough"
    enough.unlink(missing_ok=True)
    comms = Comms()
    with opened(browser, server, name, listen=comms.listen) as notebook:
        dashboard = serve(notebook)
        assert_silent(notebook, comms, "nothing changes")
        notebook.start(2)
        rate = dashboard.locator(".jp-nbserve-value").first
        expect(rate).not_to_have_text(re.compile("^[0–]$"))
        assert_talks(notebook, comms, "it changes")
        dashboard.evaluate("element => { element.style.display = 'none'; }")
        assert_silent(notebook, comms, "nobody looks")
        dashboard.evaluate("element => { element.style.display = ''; }")
        assert_talks(notebook, comms, "somebody looks again")
        enough.touch()
        notebook.run(3)


def assert_silent(notebook: OpenNotebook, comms: Comms, why: str) -> None:
    """Soon there are two seconds without a message, where there would be one a second."""
    deadline = time.monotonic() + 20
    while True:
        before = comms.count
        notebook.page.wait_for_timeout(2000)
        if comms.count == before:
            return
        assert time.monotonic() < deadline, why


def assert_talks(notebook: OpenNotebook, comms: Comms, why: str) -> None:
    before, deadline = comms.count, time.monotonic() + 20
    while comms.count == before:
        assert time.monotonic() < deadline, why
        notebook.page.wait_for_timeout(100)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_saved_notebook_has_a_picture_and_text_and_no_secret(
    browser: Browser, server: Jupyter, front_end: FrontEnd
) -> None:
    """Also in a front end whose kernel is another by then."""
    cells = ["%load_ext nbserve", SERVE, "%nbserve status digits", "%nbserve token digits"]
    name = server.write(f"saved-{front_end}.ipynb", cells)
    with opened(browser, server, name, front_end) as notebook:
        serve(notebook)
        notebook.run(2)
        notebook.output(2).locator(DASHBOARD).wait_for()
        for number in (1, 2):
            expect(notebook.cell(number).locator(".nbserve-card")).to_be_hidden()
        token = Endpoint.find("digits").token
        notebook.save()
        notebook.page.wait_for_timeout(500)
        deadline = time.monotonic() + 20
        while not server.saved(name)["cells"][2]["outputs"]:
            assert time.monotonic() < deadline
            notebook.page.wait_for_timeout(100)
    saved = server.saved(name)
    text = json.dumps(saved)
    assert str(token) not in text
    assert "widgets" not in saved["metadata"]
    for number in (1, 2):
        *_, static, live = [out["data"] for out in saved["cells"][number]["outputs"] if "data" in out]
        assert "application/vnd.jupyter.widget-view+json" in live
        assert "data:image/svg+xml;base64," in "".join(static["text/html"])
        assert "digits version 1" in "".join(static["text/plain"])

    with opened(browser, server, name, front_end) as notebook:
        for number in (1, 2):
            cell = notebook.cell(number)
            expect(cell.get_by_text("model not found")).to_have_count(1, timeout=60_000)
            expect(cell.locator(".nbserve-card img").first).to_be_visible()
            expect(cell.get_by_text("model not found")).to_be_hidden()
        picture(notebook.page.locator("body"), f"saved-{front_end}")


def test_an_endpoint_that_does_not_load_says_so(browser: Browser, server: Jupyter) -> None:
    handler = """%%serve_handler broken --no-wait
class Broken:
    def initialize(self, context):
        raise RuntimeError("no weights here")
    def inference(self, batch):
        return batch"""
    with opened(browser, server, server.write("broken.ipynb", ["%load_ext nbserve", handler])) as notebook:
        dashboard = serve(notebook)
        expect(dashboard.locator(".jp-nbserve-state").first).to_have_text("failed", timeout=60_000)
        expect(dashboard.get_by_role("region", name="error")).to_contain_text("no weights here")
        expect(dashboard.get_by_text("No worker runs.")).to_be_visible()


def test_it_says_what_has_changed_in_the_notebook_since(browser: Browser, server: Jupyter) -> None:
    handler = "%%serve_handler digits --sample 1\ndef predict(batch):\n    return [one * factors['a'] for one in batch]"
    cells = ["%load_ext nbserve\nfactors = {'a': 2}", handler, "factors['a'] = 3", "factors['a'] = 2", STOP]
    with opened(browser, server, server.write("changed.ipynb", cells)) as notebook:
        dashboard = serve(notebook)
        expect(dashboard.get_by_text("snapshot", exact=True)).to_be_visible()
        expect(dashboard).not_to_contain_text("changed since")
        notebook.run(2)
        expect(dashboard).to_contain_text(re.compile("factors has changed since"))
        notebook.run(3)
        expect(dashboard).not_to_contain_text("changed since")
        notebook.run(4)


def test_promote_asks_again_where_a_tag_is_none_and_writes_a_context(browser: Browser, server: Jupyter) -> None:
    name = server.write("promote.ipynb", ["%load_ext nbserve", SERVE, STOP])
    with opened(browser, server, name) as notebook:
        dashboard = serve(notebook)
        dashboard.get_by_role("button", name="Promote").click()
        form = dashboard.get_by_role("region", name="Promote to an image")
        form.get_by_label("Tag").fill("Not A Tag")
        form.get_by_role("button", name="Promote").click()
        expect(form.get_by_role("alert")).to_contain_text("is no name of an image")
        form.get_by_role("button", name="Close").click()
        expect(dashboard.get_by_role("button", name="Promote")).to_be_focused()
        dashboard.get_by_role("button", name="Promote").click()
        form.get_by_label("Tag").fill("digits:tried")
        form.get_by_label("Folder").fill("promoted")
        form.get_by_label("build the image").uncheck()
        form.get_by_label("Proof").select_option("off")
        form.get_by_role("button", name="Promote").click()
        expect(form.get_by_text("written, not proven", exact=True)).to_be_visible(timeout=60_000)
        expect(form).to_contain_text("digits:tried")
        assert (server.folder / "promoted" / "Dockerfile").is_file()
        notebook.run(2)


def test_profile_shows_the_timeline_right_there(browser: Browser, server: Jupyter) -> None:
    """Of the profile just taken, while a cell runs; then of one that is kept."""
    enough = server.folder / "enough"
    enough.unlink(missing_ok=True)
    name = server.write("profile.ipynb", ["%load_ext nbserve", SERVE, TRAFFIC, STOP])
    with opened(browser, server, name) as notebook:
        dashboard = serve(notebook)
        notebook.start(2)
        dashboard.get_by_role("button", name="Profile").click()
        panel = dashboard.get_by_role("region", name="Profile", exact=True)
        panel.get_by_label("Seconds").fill("2")
        panel.get_by_role("button", name="Profile").click()
        timeline = panel.get_by_role("application", name="Timeline")
        expect(timeline).to_be_visible(timeout=60_000)
        title = panel.locator(".jp-nbserve-verdict").inner_text()
        profiled = re.fullmatch(r"profile (\S+): (\d+) requests in [\d.]+ s", title)
        assert profiled is not None, title
        assert int(profiled[2]) > 10
        rows = panel.get_by_role("table", name="Operators").locator("tbody tr")
        expect(rows.nth(2)).to_be_visible()  # `all` does not wait for it
        assert {"batch", "preprocess", "inference"} <= {row.locator("th, td").first.inner_text() for row in rows.all()}
        panel.get_by_role("tab", name="Flame graph").click()
        expect(panel.get_by_role("application", name="Flame graph")).to_be_visible()
        with notebook.page.expect_download() as begun:
            panel.get_by_role("button", name="Download for Perfetto").click()
        events = json.loads(gzip.decompress(begun.value.path().read_bytes()))["traceEvents"]
        assert {"inference", "in worker"} <= {event["name"] for event in events}
        assert notebook.is_running(2), "all of this was while the cell ran"
        picture(panel, "dashboard-profile")

        panel.get_by_role("button", name="Close").click()
        expect(timeline).to_have_count(0)
        dashboard.get_by_role("button", name="Profile").click()
        panel.get_by_role("button", name=f"{profiled[1]}: version 1").click()
        expect(panel.locator(".jp-nbserve-verdict")).to_have_text(title, timeout=60_000)
        expect(timeline).to_be_visible()
        enough.touch()
        notebook.run(3)


def picture(place: Locator, name: str) -> None:
    """For docs/; only where asked for."""
    if folder := os.environ.get("NBSERVE_PICTURES"):
        place.screenshot(path=Path(folder) / f"{name}.png")
