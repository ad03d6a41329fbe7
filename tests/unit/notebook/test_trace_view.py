"""The Python side of the trace view: the buffer for the browser, the raw trace on demand, picture and words."""

from __future__ import annotations

import base64
import html
import json
import re
import struct
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbserve.errors import NotFound
from nbserve.measure.spans import Builder, Thread
from nbserve.measure.trace import Trace
from nbserve.notebook.widgets.trace import TraceView, packed
from nbserve.notebook.widgets.trace_picture import as_html, as_svg, as_text, coverage
from tests.traces import synthetic

HOSTILE = '<script>alert(1)</script>"&\x00'


def trace_of(spans: list[tuple[float, float]], *, name: str = "aten::mm") -> Trace:
    """One thread; spans as (start, duration)."""
    builder = Builder()
    for start, duration in spans:
        builder.add(Thread(f"worker {name}", "main", "cpu"), start, duration, name)
    return builder.build({"name": name, "version": "1"})


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], list[bytes]]]:
    """What a view sends to the browser."""
    messages: list[tuple[dict[str, Any], list[bytes]]] = []
    monkeypatch.setattr(TraceView, "send", lambda self, content, buffers=(): messages.append((content, list(buffers))))
    return messages


def test_the_buffer_holds_the_columns_at_multiples_of_eight() -> None:
    trace = synthetic(3000)
    data = packed(trace)
    (length,) = struct.unpack_from("<I", data)
    header = json.loads(data[4 : 4 + length])
    begin = -(-(4 + length) // 8) * 8
    for column, dtype, offset in header["columns"]:
        assert (begin + offset) % 8 == 0
        found = np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), len(trace), begin + offset)
        np.testing.assert_array_equal(found, getattr(trace, column))
    assert (header["names"], header["details"]) == (trace.names, trace.details)
    assert [tuple(lane) for lane in header["lanes"]] == trace.lanes


def test_the_raw_trace_is_sent_when_it_is_asked_for(sent: list[tuple[dict[str, Any], list[bytes]]]) -> None:
    asked = []
    view = TraceView(trace_of([(0, 1)]), raw=lambda: asked.append(1) or b"gzip", filename="x.json.gz")
    assert (view.filename, asked) == ("x.json.gz", [])
    view._handle_custom_msg({"kind": "other"}, [])
    view._handle_custom_msg({"kind": "raw"}, [])
    assert (sent, asked) == ([({"kind": "raw"}, [b"gzip"])], [1])
    view.close()


def test_a_raw_trace_that_is_gone_is_said_to_be(sent: list[tuple[dict[str, Any], list[bytes]]]) -> None:
    def raw() -> bytes:
        raise NotFound("profile 3 is no longer kept")

    view = TraceView(trace_of([(0, 1)]), raw=raw)
    view._handle_custom_msg({"kind": "raw"}, [])
    assert sent[0][0]["kind"] == "raw"
    assert "no longer kept" in sent[0][0]["error"]
    view.close()


def test_without_a_raw_trace_there_is_no_button(sent: list[tuple[dict[str, Any], list[bytes]]]) -> None:
    view = TraceView(trace_of([(0, 1)]))
    view._handle_custom_msg({"kind": "raw"}, [])
    assert (view.filename, sent) == ("", [])
    view.close()


def test_a_notebook_gets_a_picture_and_words_and_then_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.publish_display_data", shown.append)
    view = TraceView(synthetic(3000))
    view._ipython_display_()
    static, live = shown
    assert live["application/vnd.jupyter.widget-view+json"]["model_id"] == view.model_id
    assert static["text/plain"].startswith("Trace of transformer version 3\n")
    assert "worker 1, stream 7: " in static["text/plain"]
    assert "data:image/svg+xml;base64," in static["text/html"]
    assert f'class="nbserve-static nbserve-static-{view.twin}"' in static["text/html"]
    view.close()


# Quarters of microseconds: what float32 holds exactly.
lengths = st.integers(0, 400).map(lambda quarters: quarters / 4)


@settings(max_examples=60)
@given(st.lists(st.tuples(lengths, lengths), min_size=1, max_size=30), st.integers(1, 40))
def test_each_part_of_the_picture_shows_how_much_of_it_is_filled(steps: list[tuple[float, float]], bins: int) -> None:
    spans, now = [], 0.0
    for gap, length in steps:
        spans.append((now + gap, length))
        now += gap + length
    trace = trace_of(spans)
    filled = coverage(trace, 0, bins, 0.0, trace.end_us)
    size = trace.end_us / bins
    for part, share in enumerate(filled):
        begin, end = part * size, (part + 1) * size
        inside = [min(at + long, end) - max(at, begin) for at, long in zip(*columns(trace), strict=True)]
        wanted = sum(each for each in inside if each > 0) / size if size else 0.0
        assert share == pytest.approx(wanted, abs=1e-6)


def columns(trace: Trace) -> tuple[list[float], list[float]]:
    return trace.start_us.tolist(), trace.duration_us.tolist()


def test_a_large_trace_makes_a_small_picture() -> None:
    svg = as_svg(synthetic(100_000))
    assert len(svg) < 60_000
    labels = [text.text for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert [label for label in labels if label and "gateway" in label]
    assert [label for label in labels if label and "worker 1 stream 7" in label]


def test_nothing_is_too_short_to_be_seen() -> None:
    svg = as_svg(trace_of([(0, 0.001), (1_000_000, 1)]))
    assert svg.count("M150 ") == 2  # a tick of the axis, and the span
    assert re.search(r'd="M150 36v-[12]', svg)


def test_the_picture_begins_where_the_workers_do() -> None:
    builder = Builder()
    builder.add(Thread("gateway", "requests", "gateway"), 0, 900, "queue", slot=0)
    builder.add(Thread("worker 0", "main", "cpu"), 800, 100, "batch")
    svg = as_svg(builder.build({}))
    assert "800 µs" in svg
    assert svg.count("h600") == 2  # both fill all of it


def test_an_empty_trace_is_shown_as_such() -> None:
    empty = Builder().build({})
    assert as_text(empty, "Trace").splitlines()[1] == "0 spans over 0 µs"
    ElementTree.fromstring(as_svg(empty))
    TraceView(empty).close()


def test_words_from_outside_are_escaped() -> None:
    page = as_html(trace_of([(0, 1)], name=HOSTILE), HOSTILE)
    assert "<script" not in page
    assert html.escape(HOSTILE) in page
    [source] = re.findall(r"base64,([^\"]+)", page)
    svg = base64.b64decode(source).decode()
    assert "<script" not in svg
    ElementTree.fromstring(svg)


def test_the_notes_of_a_profile_are_told() -> None:
    trace = trace_of([(0, 1)])
    trace.meta.update(note="stages only: the handler has no torch", truncated="at 500,000 spans")
    text = as_text(trace, "Trace")
    assert "stages only: the handler has no torch" in text
    assert "not whole: at 500,000 spans" in text
