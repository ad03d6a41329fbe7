"""Which worker is profiled, and the gateway's side of requests; the rest is in tests/contract/test_http_profile.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nbserve.errors import BadRequest, NotFound, Unavailable
from nbserve.gateway import profiles
from nbserve.gateway.profile_always import is_due, is_profiling_asked
from nbserve.wire.profile import ProfileState, ProfileStatus


def worker(number: int, state: str = "READY", batches: int = 0, can_profile: bool = True) -> Any:
    alive = state in ("READY", "BUSY", "PAUSED")
    return SimpleNamespace(id=number, state=state, batches=batches, can_profile=can_profile, is_alive=alive)


def entry(*workers: Any, state: str = "READY") -> Any:
    return SimpleNamespace(key="m/1", name="m", state=state, pool=SimpleNamespace(workers=list(workers)))


def test_the_busiest_worker_is_chosen_unless_one_is_named() -> None:
    served = entry(worker(0, batches=3), worker(1, "BUSY", batches=9), worker(2, "STARTING", batches=99))
    assert profiles._chosen(served, None).id == 1
    assert profiles._chosen(served, 0).id == 0
    with pytest.raises(NotFound, match="no worker 2") as raised:
        profiles._chosen(served, 2)
    assert raised.value.hint == "there are: 0, 1"


def test_a_worker_that_cannot_be_profiled_is_refused_with_the_reason() -> None:
    with pytest.raises(BadRequest, match="did not say that it takes PROFILE"):
        profiles._chosen(entry(worker(0, can_profile=False)), None)


def test_nobody_ready_is_said() -> None:
    for served in (entry(worker(0, "LOADING")), entry(worker(0), state="DRAINING"), entry(worker(0, "PAUSED"))):
        with pytest.raises(Unavailable):
            profiles._chosen(served, None)
    assert [one.id for one in profiles._alive(entry(worker(0, "PAUSED"), worker(1)), paused=True)] == [0, 1]


@pytest.mark.parametrize(
    ("value", "asked"), [("TRUE", True), ("1", True), ("yes", True), ("", False), ("0", False), ("False", False)]
)
def test_torchserves_switch(value: str, asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENABLE_TORCH_PROFILER", value)
    assert is_profiling_asked() is asked


@pytest.mark.parametrize(
    ("state", "ended_s_ago", "due"),
    [
        ("done", 0.0, True),
        ("running", 0.0, False),
        ("running", 999.0, False),
        ("failed", 59, False),
        ("failed", 60, True),
    ],
)
def test_one_follows_the_other_but_a_failure_is_not_repeated_at_once(
    state: ProfileState, ended_s_ago: float, due: bool
) -> None:
    status = ProfileStatus(
        id="1",
        name="m",
        version="1",
        worker=0,
        state=state,
        batches=0,
        asked_batches=10,
        seconds=1.0,
        asked_seconds=9.0,
    )
    assert is_due((status, ended_s_ago)) is due
    assert is_due(None)
