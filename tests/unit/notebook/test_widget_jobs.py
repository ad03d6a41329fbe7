"""What the browser hears while a button's job goes on: every line in its order, the last word, at a bearable pace."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.endpoint import Endpoint
from nbserve.errors import UsageError
from nbserve.notebook.widgets import actions
from nbserve.notebook.widgets.build_log import LINE_CHARS, BuildProgress, readable
from nbserve.notebook.widgets.job import MAX_LINES, Job, Teller

Messages = list[dict[str, Any]]


def told(messages: Messages) -> list[str]:
    return [line for message in messages for line in message.get("lines", [])]


def test_what_comes_fast_goes_out_together_and_nothing_is_lost() -> None:
    messages: Messages = []
    teller = Teller(lambda state, more: messages.append(dict(more)))
    for number in range(MAX_LINES):
        teller.line(f"line {number}")
        teller.say(f"word {number}", number / MAX_LINES)
    teller.flush()
    assert told(messages) == [f"line {number}" for number in range(MAX_LINES)]
    assert messages[-1]["text"] == f"word {MAX_LINES - 1}"
    assert len(messages) < MAX_LINES / 4, "not a message for each"


def test_the_last_line_arrives_though_no_other_follows() -> None:
    arrived = threading.Event()

    def tell(state: str, more: Mapping[str, Any]) -> None:
        if "the last" in more["lines"]:
            arrived.set()

    teller = Teller(tell)
    teller.line("the first")
    teller.line("the last")
    assert arrived.wait(30)


def test_of_too_many_lines_the_last_ones_are_told_and_how_many_are_not() -> None:
    messages: Messages = []
    teller = Teller(lambda state, more: messages.append(dict(more)))
    teller.line("first")
    for number in range(3 * MAX_LINES):
        teller.line(str(number))
    teller.flush()
    assert sum(message["left_out"] for message in messages) + len(told(messages)) == 3 * MAX_LINES + 1
    assert told(messages)[-1] == str(3 * MAX_LINES - 1)


def ran(monkeypatch: pytest.MonkeyPatch, act: Any) -> Messages:
    messages: Messages = []
    monkeypatch.setattr(actions, "ACTIONS", {"act": act})
    content = {"kind": "act", "id": "7", "action": "act"}
    endpoint = cast(Endpoint, None)
    Job(endpoint, content, b"", messages.append, lambda views: [f"id of {view}" for view in views]).run()
    assert {message["id"] for message in messages} == {"7"}
    return messages


def test_the_end_comes_after_all_that_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(endpoint: Endpoint, params: Mapping[str, Any], ear: actions.Listener) -> dict[str, Any]:
        for number in range(5):
            ear.line(str(number))
        return {"title": "done", "views": ["a timeline"]}

    first, *between, last = ran(monkeypatch, act)
    assert first["state"] == "accepted"
    assert told(between) == list("01234")
    assert (last["state"], last["result"]) == ("done", {"title": "done", "views": ["id of a timeline"]})


@pytest.mark.parametrize(
    ("error", "text", "hint"),
    [
        (UsageError("no such tag", hint="take another"), "no such tag", "take another"),
        (OSError("full"), "OSError: full", ""),
    ],
)
def test_an_error_is_told_with_its_hint(
    monkeypatch: pytest.MonkeyPatch, error: Exception, text: str, hint: str
) -> None:
    def act(endpoint: Endpoint, params: Mapping[str, Any], ear: actions.Listener) -> dict[str, Any]:
        ear.line("before")
        raise error

    messages = ran(monkeypatch, act)
    assert told(messages) == ["before"]
    assert (messages[-1]["state"], messages[-1]["text"], messages[-1]["hint"]) == ("failed", text, hint)


# -- lines of a build --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[1;32mSTEP 1/2\x1b[0m: FROM x\n", "STEP 1/2: FROM x"),
        ("  10 %\r  90 %\r 100 % done\r\n", " 100 % done"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07 \x00\x08here", "link here"),
        ("tab\tand <b>äöü</b> שלום 🙂", "tab\tand <b>äöü</b> שלום 🙂"),
        ("x" * (LINE_CHARS + 8000), "x" * LINE_CHARS + "… (8000 characters more)"),
    ],
)
def test_a_line_is_shown_as_a_terminal_leaves_it(line: str, shown: str) -> None:
    assert readable(line) == shown


@given(st.text())
def test_no_line_keeps_what_steers_a_terminal(line: str) -> None:
    assert not any(ord(char) < 32 and char not in "\t\n" for char in readable(line))


PODMAN = ["[1/2] STEP 1/3: FROM a AS build", "[1/2] STEP 2/3: COPY", "Processing x", "[1/2] STEP 3/3: RUN pip"]
PODMAN += ["[2/2] STEP 1/4: FROM a", "[2/2] STEP 4/4: USER 1"]
BUILDKIT = ["#1 [internal] load", "#5 [build 1/3] FROM a", "#6 [build 3/3] RUN", "#7 [stage-1 2/4] COPY", "#9 DONE"]
CLASSIC = ["Step 1/9 : FROM a", " ---> abc", "Step 9/9 : USER 1"]


@pytest.mark.parametrize("lines", [PODMAN, BUILDKIT, CLASSIC], ids=["podman", "buildkit", "classic"])
def test_a_build_goes_forward_through_its_stages(lines: list[str]) -> None:
    progress = BuildProgress()
    assert progress.stage("checking the bundle") == 0
    shares = [progress.stage("building x:1 with podman"), *map(progress.line, lines)]
    shares += [progress.stage("proving the image: it answers"), progress.line(lines[0])]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.2
    assert shares[-3] < shares[-2] < 1
    assert len({round(share, 3) for share in shares}) >= 3


def test_the_second_stage_of_two_begins_in_the_middle() -> None:
    progress = BuildProgress()
    halves = [
        progress.line("[1/2] STEP 1/9: FROM a"),
        progress.line("[2/2] STEP 1/9: FROM a"),
        progress.stage("proving"),
    ]
    assert halves[1] - halves[0] == pytest.approx(halves[2] - halves[1])
