"""What is counted, and how it reads in Prometheus' text."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from nbserve.gateway.metrics import BOUNDS_S, HANDLER_BOUNDS, MAX_SERIES, NOTED, Histogram, VersionStats
from nbserve.gateway.metrics_page import PIECE_LINES, MetricsPage, VersionView
from nbserve.metrics import Metrics
from nbserve.wire.messages import MetricDelta, Timings


def view(stats: VersionStats, name: str = "m", version: str = "1") -> VersionView:
    return VersionView(name, version, stats, 3, 700, {"READY": 2}, 1)


def scrape(*views: VersionView) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a page, read by Prometheus' own parser."""
    content_type, pieces = MetricsPage(lambda: views).render()
    assert content_type.startswith("text/plain")
    samples = {}
    families: set[str] = set()
    for family in text_string_to_metric_families(b"".join(pieces).decode()):
        assert family.name not in families, "a family must be in one piece"
        families.add(family.name)
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, "a sample must be there once"
            samples[key] = sample.value
    return samples


MINE = (("model", "m"), ("version", "1"))


def test_our_own_numbers() -> None:
    stats = VersionStats()
    stats.count_request(200)
    stats.count_request(200)
    stats.count_request(503)
    stats.count_batch(2, Timings(0.001, 0.002, 0.003, 0.004, 0.005), 0.006)
    stats.time_answer(0.0, 0.0, 0.02)
    samples = scrape(view(stats))
    assert samples["nbserve_requests_total", (MINE[0], ("status", "200"), MINE[1])] == 2
    assert samples["nbserve_batch_size_count", MINE] == 1
    assert samples["nbserve_batch_size_sum", MINE] == 2
    assert samples["nbserve_batch_size_bucket", (("le", "2.0"), *MINE)] == 1
    assert samples["nbserve_batch_size_bucket", (("le", "1.0"), *MINE)] == 0
    assert samples["nbserve_stage_seconds_sum", (MINE[0], ("stage", "inference"), MINE[1])] == pytest.approx(0.006)
    assert samples["nbserve_request_seconds_bucket", (("le", "0.025"), *MINE)] == 1
    assert samples["nbserve_request_seconds_bucket", (("le", "0.01"), *MINE)] == 0
    assert samples["nbserve_queue_items", MINE] == 3
    assert samples["nbserve_queue_bytes", MINE] == 700
    assert samples["nbserve_workers", (MINE[0], ("state", "READY"), MINE[1])] == 2
    assert samples["nbserve_worker_restarts_total", MINE] == 1
    assert stats.by_class() == {"2xx": 2, "5xx": 1}


@given(st.lists(st.one_of(st.floats(0, 100), st.sampled_from(BOUNDS_S)), max_size=3 * NOTED), st.integers(1, 40))
def test_times_that_were_noted_count_like_those_added_at_once(times: list[float], size: int) -> None:
    stats, latency, decode = VersionStats(), Histogram(), Histogram()
    for seconds in times:
        stats.time_answer(1.0, 2.0, seconds)
        stats.count_batch(size, Timings(decode_s=seconds), 0.5)
        latency.add(seconds)
        for _ in range(size):
            decode.add(seconds)
    assert stats.latency.counts == latency.counts
    assert stats.latency.total == pytest.approx(latency.total)
    assert stats.stages["decode"].counts == decode.counts
    assert stats.stages["decode"].total == pytest.approx(decode.total)
    assert stats.stages["queue"].total == len(times)
    assert stats.stages["batch"].total == 2 * len(times)
    assert stats.stages["transport"].total == size * len(times) / 2


def test_a_handlers_own_metrics_are_added_up_over_its_workers() -> None:
    stats = VersionStats()
    for worker in (0, 1):
        metrics = Metrics()
        for _ in range(2):  # two answers each
            metrics.counter("pages", "Pages read").inc(2, kind="a4")
            metrics.gauge("level").set(worker + 5)
            metrics.histogram("sizes", buckets=[1, 10]).observe(3)
            stats.handler.take(worker, metrics.drain())
    samples = scrape(view(stats))
    assert samples["pages_total", (("kind", "a4"), *MINE)] == 8
    assert samples["level", (*MINE, ("worker", "0"))] == 5
    assert samples["level", (*MINE, ("worker", "1"))] == 6
    assert samples["sizes_bucket", (("le", "10.0"), *MINE)] == 4
    assert samples["sizes_sum", MINE] == 12


def test_two_models_with_the_same_metric_are_one_family() -> None:
    first, second, third = VersionStats(), VersionStats(), VersionStats()
    first.handler.take(0, [MetricDelta("counter", "pages_total", "", "", [1.0])])
    second.handler.take(0, [MetricDelta("counter", "pages", "", "", [2.0], {"kind": "x"})])
    third.handler.take(0, [MetricDelta("gauge", "pages", "", "", [9.0])])
    samples = scrape(view(first), view(second, "n"), view(third, "o"))
    assert samples["pages_total", (("kind", ""), *MINE)] == 1
    assert samples["pages_total", (("kind", "x"), ("model", "n"), ("version", "1"))] == 2
    assert not [key for key in samples if ("model", "o") in key[1] and key[0].startswith("pages")]


def test_labels_and_names_that_would_break_the_page_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    stats = VersionStats()
    with caplog.at_level(logging.WARNING):
        stats.handler.take(0, [MetricDelta("counter", "no spaces\n", "", "", [1.0])] * 2)
        stats.handler.take(0, [MetricDelta("counter", "nbserve_requests", "", "", [1.0])])
        stats.handler.take(0, [MetricDelta("counter", "fine", 'a "help"\n text', "", [1.0], {"bad label": "x"})])
        stats.handler.take(0, [MetricDelta("counter", "fine", 'a "help"\n text', "", [1.0], {"model": 'a"\n}'})])
    samples = scrape(view(stats))
    assert samples["fine_total", (("handler_model", 'a"\n}'), *MINE)] == 1
    assert len(caplog.records) == 3, "each is named once"


def test_a_request_id_as_a_label_does_not_fill_memory() -> None:
    stats = VersionStats()
    for i in range(MAX_SERIES + 50):
        stats.handler.take(0, [MetricDelta("counter", "seen", "", "", [1.0], {"request": str(i)})])
    assert len(list(stats.handler)) == MAX_SERIES


def test_openmetrics_is_spoken_too_and_names_can_be_picked() -> None:
    page = MetricsPage(lambda: [view(VersionStats())])
    page.count_refused(404)
    content_type, pieces = page.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    body = b"".join(pieces)
    assert body.endswith(b"# EOF\n")
    assert body.count(b"# EOF") == 1
    read = {family.name for family in openmetrics_families(body.decode())}
    assert {"nbserve_stage_seconds", "nbserve_queue_items", "nbserve_refused"} <= read
    picked = b"".join(page.render("", ["nbserve_refused_total"])[1])
    assert b'nbserve_refused_total{status="404"} 1.0' in picked
    assert b"nbserve_queue" not in picked


def test_the_page_is_made_in_small_pieces() -> None:
    """Each holds up the requests that come meanwhile."""
    stats = VersionStats()
    values = [0.01, 0.02]
    deltas = [MetricDelta("histogram", "seen", "", "s", values, {"row": str(row)}) for row in range(100)]
    stats.handler.take(0, deltas)
    pieces = list(MetricsPage(lambda: [view(stats, name=f"m{number}") for number in range(10)]).render()[1])
    assert max(piece.count(b"\n") for piece in pieces) <= PIECE_LINES + 2  # HELP and TYPE
    samples = [line for piece in pieces for line in piece.splitlines() if not line.startswith(b"#")]
    assert sum(line.startswith(b"seen_bucket{") for line in samples) == 10 * 100 * (len(HANDLER_BOUNDS) + 1)
    assert len(samples) == len(set(samples))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_quantiles_are_upper_bounds(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    assert histogram.count == len(values)
    middle = sorted(values)[(len(values) - 1) // 2]
    assert histogram.quantile(0.5) >= min(middle, BOUNDS_S[-1])
    assert histogram.minus(histogram.copy()).count == 0
    cumulative = [count for _, count in histogram.buckets()]
    assert cumulative == sorted(cumulative)
    assert cumulative[-1] == len(values)
