"""The picture of an endpoint is well-formed SVG that says what there is, and takes nothing from outside as markup."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import msgspec
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook, new_output

from nbserve.config import ModelConfig
from nbserve.notebook.picture import WIDTH, draw
from nbserve.notebook.widgets import bundle_path, can_show
from nbserve.wire.management import ModelStatus, WorkerStatus
from tests.unit.notebook.test_widget_rates import counted

CORES = [{"cpu": cpu, "physical": cpu, "sibling": 0, "l3": 0, "node": 0, "tier": 0} for cpu in range(40)]
SVG = "{http://www.w3.org/2000/svg}"


def model(**fields: Any) -> ModelStatus:
    made = ModelStatus(
        name="digits",
        version="1",
        state="READY",
        default=True,
        url="u",
        bundle="b",
        digest="d",
        config=ModelConfig(max_batch_size=8),
        workers=[WorkerStatus(id=at, state="READY", pid=1, cores=[at, at + 2], threads=2) for at in range(2)],
    )
    return msgspec.structs.replace(made, **fields)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_before_the_first_batch_it_shows_what_the_warm_up_measured() -> None:
    picture = draw(model(cost={"a_s": 0.002, "c_s": 0.001}), CORES)
    assert picture is not None
    shown = texts(picture.svg)
    assert "Time of a batch by its size, as warmed up" in shown
    assert {"1", "2", "4", "8"} <= set(shown)
    assert "16" not in shown, "no batch is so large"
    assert "3 ms" in shown
    assert "worker 0 on CPUs 0, 2; worker 1 on CPUs 1, 3" in picture.description


def test_afterwards_it_shows_where_the_time_went() -> None:
    numbers = counted(0.0, (0.01, 0.01), stages_s={"queue": 0.002, "inference": 0.016})
    picture = draw(model(batch_sizes={"2": 1}), CORES, numbers)
    assert picture is not None
    assert "Where the time of a request goes: 9 ms on average" in texts(picture.svg)
    assert "inference 8 ms" in texts(picture.svg)
    assert "queue 1 ms" in picture.description
    boxes = list(ElementTree.fromstring(picture.svg).iter(f"{SVG}rect"))
    assert all(0 <= float(box.get("x", 0)) + float(box.get("width", 0)) <= WIDTH + 2 for box in boxes)


def test_nothing_to_show_is_no_picture() -> None:
    assert draw(model(), []) is None


def test_a_core_of_two_workers_says_so() -> None:
    both = [WorkerStatus(id=at, state="READY", pid=1, cores=[0], threads=1) for at in range(2)]
    picture = draw(model(workers=both), CORES[:1])
    assert picture is not None
    assert "*" in texts(picture.svg)


def test_without_a_kernel_or_a_bundle_no_widget_is_shown() -> None:
    assert not can_show("dashboard"), "this is no notebook's kernel"
    assert bundle_path("dashboard").parent.name == "static"


def test_a_saved_notebook_is_converted_to_its_picture() -> None:
    """nbconvert, and those that build on it, choose the card where the file has no widget state."""
    data = {
        "application/vnd.jupyter.widget-view+json": {"version_major": 2, "version_minor": 0, "model_id": "a"},
        "text/html": "<b>the card</b>",
        "text/plain": "the text",
    }
    cell = new_code_cell("x", outputs=[new_output("execute_result", execution_count=1, data=data)])
    page, _ = HTMLExporter().from_notebook_node(new_notebook(cells=[cell]))
    assert "<b>the card</b>" in page
