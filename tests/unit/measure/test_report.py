"""The report of a measurement: verdict first, doubts in words, whole in 80 columns, nothing from outside as markup."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter
from msgspec import structs
from rich.console import Console

from nbserve.measure import facts
from nbserve.measure.report import as_html, as_page, as_text, renderable
from nbserve.measure.result import BenchResult, ClientCheck, Comparison, Load
from tests.unit.measure.results import invalid, repeats, result, rivals, run, search

ONE = run(rate=1.0)
RESULTS: list[Callable[[], BenchResult]] = [result, repeats, rivals, search, invalid]
EVIL = "</title><script>alert(1)</script>\"'><img src=x onerror=alert(1)>[bold red]\x1b[31m\x07"


def hostile() -> BenchResult:
    """Every string that comes from outside is an attack."""
    one = run(
        errors={EVIL: 3},
        stages_ms={EVIL: {"mean": 1.0, "p99": 2.0}},
        valid=False,
        invalid=[EVIL],
        label=EVIL,
    )
    return result(
        one,
        name=EVIL,
        url=f"http://127.0.0.1/{EVIL}",
        version=EVIL,
        verdict=f"12 req/s {EVIL}",
        reason=EVIL,
        advice=f"do {EVIL}",
        limit=EVIL,
        interval_percent={"rate": 1.0},
        interval_method=EVIL,
        comparisons=[
            Comparison(
                what=EVIL,
                metric=EVIL,
                before=1.0,
                after=2.0,
                change_percent=100.0,
                interval_percent=1.0,
                different=True,
            )
        ],
        environment={EVIL: EVIL, "nested": {EVIL: [EVIL]}},
    )


class Page(HTMLParser):
    """Tags with attributes, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._style = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.words += f"{data}\n"

    @property
    def images(self) -> list[str]:
        """The SVG documents shown."""
        sources = [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]
        return [base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")).decode() for source in sources]


@pytest.mark.parametrize("make", RESULTS)
def test_the_verdict_comes_first(make: Callable[[], BenchResult]) -> None:
    made = make()
    assert as_text(made, width=200).splitlines()[0] == made.verdict
    assert Page(as_html(made)).words.split("\n")[0] == made.verdict
    assert repr(made) == as_text(made)


@pytest.mark.parametrize("make", [*RESULTS, hostile])
def test_eighty_columns_without_colour_are_enough(make: Callable[[], BenchResult]) -> None:
    text = as_text(make(), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "…" not in text, "a cell was cut"


@pytest.mark.parametrize("make", RESULTS)
def test_a_console_that_only_knows_ascii(make: Callable[[], BenchResult]) -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as out:
        Console(file=out, width=80).print(renderable(make()))
        out.flush()
        text = raw.getvalue().decode("ascii")
    assert make().verdict[:60] in text
    assert "####" in text


def test_numbers_stand_in_the_table() -> None:
    made = search()
    lines = as_text(made, width=80).splitlines()
    [head] = [index for index, line in enumerate(lines) if line.startswith("offered/s")]
    assert lines[head].split() == ["offered/s", "rate/s", *facts.PERCENTILES, "failed", "note"]
    rows = [line.split() for line in lines[head + 2 : head + 8]]
    assert [float(row[0]) for row in rows] == [50, 100, 200, 250, 300, 400], "by the load that was offered"
    best = made.runs[made.best]
    assert [float(cell) for cell in rows[3][1:7]] == pytest.approx(
        [best.rate, *(best.latency_ms[name] for name in facts.PERCENTILES)], rel=0.005
    )
    assert [row[8:] for row in rows] == [[], [], [], ["best"], ["misses"], ["misses"]]
    assert rows[5][7] == "40"


def test_intervals_and_comparisons() -> None:
    text = as_text(repeats())
    assert re.search(r"^95 % +±3\.1 % +±1\.2 % +±6\.4 %", text, re.MULTILINE)
    assert "± is the 95 % interval (3 repeats, Student's t)" in text
    assert "rate: +8.2 % ±3.1 % against the run of 14:02 (196 -> 212)" in text
    assert "p99: no difference from the run of 14:02, -1.2 % ±6.4 % (8.50 -> 8.40)" in text
    assert "interval" not in as_text(result())


def test_two_versions_are_told_apart() -> None:
    text = as_text(rivals())
    assert "two versions in turns of 10 s after 1 s of warm-up" in text
    assert re.search(r"^version 3 +212 ", text, re.MULTILINE)
    assert re.search(r"^version 2 +180 ", text, re.MULTILINE)
    assert "median" not in text


@pytest.mark.parametrize("show", [as_text, lambda made: Page(as_html(made)).words])
def test_a_run_that_is_not_valid_says_so_in_words(show: Callable[[BenchResult], str]) -> None:
    words = show(invalid())
    assert words.startswith("INVALID: the load process used 99 % of its core")
    assert words.count("the load process used 99 % of its core") == 1
    assert "INVALID: requests were sent 48 ms late (p99)" in words
    assert "UNSTABLE: in the run no three windows" in words
    assert "INVALID, unstable" in words


def test_nothing_is_said_twice() -> None:
    made = result(
        run(valid=False, invalid=["late by 4 ms"]), reason="late by 4 ms", verdict="INVALID: too slow a client"
    )
    assert as_text(made).count("late by 4 ms") == 1
    assert facts.advice_lines(made) == [made.advice]


def test_a_doubt_shows_even_where_the_verdict_is_silent() -> None:
    assert facts.alarms(result(run(valid=False))) == ["INVALID: the measurement does not hold"]
    three = result(run(), run(valid=False, invalid=["late"]), run(stable=False), best=0)
    assert facts.alarms(three)[:2] == ["INVALID: late", "INVALID: 1 of 3 runs"]
    assert facts.alarms(three)[2].startswith("UNSTABLE: in 1 of 3 runs")
    assert facts.alarms(result()) == []


def test_a_rate_of_a_search_that_the_client_could_not_send_spoils_only_its_row() -> None:
    made = search()
    made.runs[3].valid = False
    made.runs[3].invalid = ["late"]
    assert facts.alarms(made) == []
    assert re.search(r"^ *400 .* INVALID, misses$", as_text(made), re.MULTILINE)


def test_errors_by_class() -> None:
    assert "ERRORS: 37 of 2157 requests (1.7 %): 35 x 503 QueueFull, 2 x timeout" in as_text(invalid())
    assert "errors: none of 2120 requests" in as_text(result())
    unsent = run(sent=0, answered=0, latency_ms={}, histogram="", errors={"not sent": 40})
    assert "ERRORS: 40 of 40 requests (100 %): 40 x not sent" in as_text(result(unsent))


def test_nothing_was_right() -> None:
    """No percentiles, no histogram, no batches, one window: said, and no plot breaks."""
    empty = run(
        answered=0,
        sent=5,
        errors={"connection refused": 5},
        rate=0.0,
        latency_ms={},
        histogram="",
        windows=[],
        stages_ms={},
        batch_sizes={},
        server_cpu_s_per_1000=None,
        client=ClientCheck(processes=1, cores=[], lag_p99_ms=0.0, cpu=0.0),
    )
    made = result(empty, empty, verdict="nothing was answered right", limit="", reason="", advice="")
    assert "ERRORS: 5 of 5 requests (100 %): 5 x connection refused" in as_text(made)
    assert re.search(r"^ +1 +0( +-){5} +5 +median$", as_text(made), re.MULTILINE)
    assert not Page(as_html(made)).images


def test_no_run_at_all() -> None:
    made = result(verdict="")
    made.runs = []
    assert "INVALID: nothing was measured" in as_text(made)
    assert "INVALID: nothing was measured" in as_html(made)


def test_stages_and_batches_as_bars() -> None:
    lines = as_text(result(), width=80).splitlines()
    [limit] = [line for line in lines if line.endswith("<- limit")]
    assert limit.split()[0] == "preprocess"
    bars = {line.split()[0]: line.count("█") for line in lines if "█" in line}
    assert bars["preprocess"] == max(bars.values()) == 30
    assert bars["inference"] == pytest.approx(30 * 1.1 / 2.15, abs=0.5)
    assert bars["3-4"] == 30
    assert "requests in a batch (mean 4.39)" in lines


def test_what_a_server_says_is_neither_html_nor_markup_nor_a_control_sequence() -> None:
    made = hostile()
    for html in (as_html(made), as_page(made)):
        page = Page(html)
        tags = {tag for tag, _ in page.tags}
        assert not tags & {"script", "svg"}
        assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
        assert len(page.images) == len([tag for tag, _ in page.tags if tag == "img"]) == 4
        for image in page.images:
            names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(image).iter()}
            assert names <= {"svg", "title", "desc", "path", "polyline", "rect", "circle", "text"}
    text = as_text(made, width=80)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    out = io.StringIO()
    Console(file=out, width=4000).print(renderable(made))  # one that does read markup in plain strings
    lines = [line for line in out.getvalue().splitlines() if "alert(1)" in line]
    assert len(lines) == 6
    assert all("[bold red]" in line for line in lines)


def test_it_means_something_where_styles_are_taken_out_and_images_not_shown() -> None:
    """As viewers of static notebooks do: the words are all there, and each image has its content as alternative."""
    page = Page(re.sub("<style>.*?</style>", "", as_html(repeats()), flags=re.DOTALL))
    assert ".nbserve" not in page.words, "a style sheet would show as text"
    for line in ["212 req/s at p99 8.4 ms; the limit is preprocess", "8.56", "±6.4 %", "errors: none of 2120 requests"]:
        assert f"{line}\n" in page.words
    alternatives = [attributes["alt"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(alternatives) == 5
    assert alternatives[0].startswith("Latency of right answers: mean ")
    assert "preprocess 2.15 ms, 50 %" in alternatives[3]


def test_a_result_shows_itself_in_a_notebook_and_in_a_console() -> None:
    shown, _ = DisplayFormatter().format(repeats())
    assert shown["text/html"] == as_html(repeats())
    assert shown["text/plain"] == as_text(repeats())
    assert len(shown["text/html"]) < 60_000, "a notebook is saved with it"


def test_an_open_loop_says_its_rate() -> None:
    made = result(run(load=Load(mode="open", rate=100, arrivals="bursty", duration_s=2.5, warmup_s=0.5, seed=7)))
    assert facts.load_line(made) == ("open loop, bursty arrivals at 100 req/s; 2.5 s after 0.5 s of warm-up; seed 7")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *[(0, "0"), (0.00004, "0.000"), (0.0421, "0.042"), (4.2149, "4.21"), (9.999, "10.0"), (42.15, "42.1")],
        *[(999.4, "999"), (999.6, "1000"), (4213.4, "4213"), (-8.2, "-8.20")],
        *[(float("nan"), "-"), (float("inf"), "-"), (None, "-")],
    ],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert facts.number(value) == shown


@given(st.floats(1e-3, 1e12))
def test_numbers_keep_three_digits(value: float) -> None:
    shown = facts.number(value)
    assert "e" not in shown
    assert float(shown) == pytest.approx(value, rel=0.005, abs=0.00051)


def test_a_share_that_is_not_zero_does_not_look_like_zero() -> None:
    shares = (0, 1e-6, 0.0004, 0.0012, 0.04, 0.099, 0.5, 1)
    shown = ["0 %", "0.0001 %", "0.04 %", "0.1 %", "4.0 %", "9.9 %", "50 %", "100 %"]
    assert [facts.percent(share) for share in shares] == shown


@given(st.dictionaries(st.integers(1, 5000), st.integers(1, 10**6), min_size=1))
def test_bins_hold_every_batch_once(sizes: dict[int, int]) -> None:
    bins = facts.batch_bins(structs.replace(ONE, batch_sizes=sizes))
    ranges = [tuple(map(int, (each.label.split("-") * 2)[:2])) for each in bins]
    assert sum(each.batches for each in bins) == sum(sizes.values())
    assert sum(each.share for each in bins) == pytest.approx(1)
    for (low, high), each in zip(ranges, bins, strict=True):
        assert each.batches == sum(count for size, count in sizes.items() if low <= size <= high)
    assert all(after[0] == before[1] + 1 for before, after in pairwise(ranges))
