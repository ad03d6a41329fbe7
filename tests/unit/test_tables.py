"""What the verbs' data look like."""

from __future__ import annotations

from typing import Literal

import pytest

from nbserve.config import ModelConfig
from nbserve.errors import ErrorInfo
from nbserve.tables import endpoints, log_lines, megabytes, memory_line, plain, proof_line, status, to_text
from nbserve.wire.management import Event, ModelStatus, WorkerStatus


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (5400, "5.4 KB"),
        (268_435_456, "268 MB"),
        (1_234_567_890, "1.2 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes(size: float, text: str) -> None:
    assert megabytes(size) == text


def test_prints_are_marked_with_worker_and_batch_line_by_line() -> None:
    event = Event(seq=1, at=0, kind="log", model="digits", worker=0, batch_id=17, text="one\ntwo\n")
    assert log_lines(event) == ["[digits #0 batch 17] one", "[digits #0 batch 17] two"]
    event.request_ids = ["warmup", "warmup"]
    assert log_lines(event)[0] == "[digits #0 warm-up] one"
    assert log_lines(Event(seq=1, at=0, kind="log", model="digits", text="loading")) == ["[digits] loading"]


def test_errors_show_the_users_traceback_or_at_least_the_place() -> None:
    info = ErrorInfo(type="ValueError", message="bad", where="In[3], line 2")
    event = Event(seq=1, at=0, kind="error", model="digits", worker=1, error=info)
    assert log_lines(event) == ["[digits #1] ValueError: bad (In[3], line 2)"]
    info.traceback = ["In[3], line 2, in f", "ValueError: bad"]
    assert log_lines(event) == ["[digits #1] In[3], line 2, in f", "[digits #1] ValueError: bad"]


def test_the_list_shows_owners_and_never_a_token() -> None:
    row = {
        "name": "digits",
        "version": "2",
        "default": True,
        "state": "READY",
        "url": "http://127.0.0.1:8080/predictions/digits",
        "workers": 2,
        "owner": "a.ipynb",
        "gateway": "ab12",
        "profile": "notebook",
        "token": "the-token",
    }
    shown = to_text(endpoints([row]), width=160)
    for part in ("digits", "2 (default)", "http://127.0.0.1:8080/predictions/digits", "a.ipynb", "ab12"):
        assert part in shown
    assert "the-token" not in shown
    assert to_text(endpoints([])) == "nothing is served now"


@pytest.mark.parametrize(
    ("proof", "line"),
    [
        ({}, "no sample: only initialize was checked"),
        ({"checked": False}, "no sample: only initialize was checked"),
        ({"checked": True, "max_difference": 0.0}, "the worker answers the sample exactly as the notebook does"),
        ({"checked": True, "max_difference": 1.5e-7}, "(largest difference 1.5e-07)"),
    ],
)
def test_the_proof_in_a_line(proof: dict[str, object], line: str) -> None:
    assert line in proof_line(proof)


def test_plain_data_is_jsons() -> None:
    event = Event(seq=1, at=0.5, kind="log", model="x", text="t")
    assert plain(iter([event])) == [{"seq": 1, "at": 0.5, "kind": "log", "model": "x", "text": "t"}]


@pytest.mark.parametrize(
    ("workers", "shared", "free", "line"),
    [
        (2, 400_000_000, 11_000_000_000, "2 workers x 400 MB shared, 11.0 GB free"),
        (1, 0, 0, "1 worker"),
        ("auto", 5400, 0, "auto workers x 5.4 KB shared"),
        (1, 5400, 900_000, "1 worker x 5.4 KB shared, 900 KB free"),
    ],
)
def test_the_memory_line(workers: int | str, shared: int, free: int, line: str) -> None:
    assert memory_line(workers, shared, free) == line


def test_a_worker_s_own_memory_and_what_is_wrong_with_it_are_shown() -> None:
    worker = WorkerStatus(
        id=0, state="READY", pid=7, cores=[1], threads=1, pss_bytes=250_000_000, private_dirty_bytes=33_600_000
    )
    model = ModelStatus(
        name="digits",
        version="1",
        state="READY",
        default=True,
        url="http://x",
        bundle="/b",
        digest="d",
        config=ModelConfig(),
        workers=[worker],
        warnings=["worker 0 has written to 33.6 MB of the weights"],
    )
    text = to_text(status(model))
    assert "  warning: worker 0 has written to 33.6 MB of the weights" in text
    header, row = (line for line in text.splitlines() if line.startswith(("worker", "#0")))
    assert row[header.index("own") :].startswith("33.6 MB")
    assert row[header.index("memory") :].startswith("250 MB")


@pytest.mark.parametrize(("asked", "is_said"), [("auto", True), ("spawn", False)])
def test_why_a_worker_was_not_forked_is_shown_unless_asked_for(asked: Literal["auto", "spawn"], is_said: bool) -> None:
    reason = "spawned: importing odd started 1 thread"
    model = ModelStatus(
        name="digits",
        version="1",
        state="READY",
        default=True,
        url="http://x",
        bundle="/b",
        digest="d",
        config=ModelConfig(start=asked),
        workers=[WorkerStatus(id=0, state="READY", pid=7, cores=[1], threads=1, start=reason)],
    )
    assert (f"  worker 0 was {reason}" in to_text(status(model))) is is_said


def test_an_endpoint_that_has_failed_shows_the_last_traceback_and_what_it_can_be_rolled_back_to() -> None:
    lines = ["In[3], line 5, in initialize", "    load(path)", "FileNotFoundError: gone"]
    model = ModelStatus(
        name="digits",
        version="3",
        state="FAILED",
        default=True,
        url="http://x",
        bundle="/b",
        digest="d",
        config=ModelConfig(),
        workers=[],
        kept=["2", "1"],
        error=ErrorInfo(type="FileNotFoundError", message="gone", traceback=lines),
    )
    text = to_text(status(model))
    assert "  FileNotFoundError: gone\n    In[3], line 5, in initialize\n        load(path)\n" in text
    assert "  can be rolled back to: 2, 1" in text
