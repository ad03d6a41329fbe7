"""A notebook's gateway that is started in the background while a cell goes on; real gateway processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from nbserve.discovery import records
from nbserve.errors import GatewayError
from nbserve.notebook.launcher import NotebookGateway


@pytest.fixture
def gateway() -> Iterator[NotebookGateway]:
    """Of this process, named after the test."""
    gateway = NotebookGateway(f"{os.environ['PYTEST_CURRENT_TEST']}.ipynb")
    yield gateway
    gateway.close()
    assert not of(gateway)


def of(gateway: NotebookGateway) -> list[int]:
    return [record.pid for record in records() if record.name == gateway.name]


def test_it_is_one_however_often_it_is_begun(gateway: NotebookGateway) -> None:
    gateway.begin()
    gateway.begin()
    client = gateway.client()
    assert client.status().pid in of(gateway)
    gateway.begin()
    assert gateway.client() is client
    assert len(of(gateway)) == 1


def test_closing_ends_the_one_that_was_only_begun(gateway: NotebookGateway) -> None:
    gateway.begin()
    gateway.close()
    assert not of(gateway)


def test_moving_waits_for_the_one_that_was_begun(gateway: NotebookGateway) -> None:
    gateway.begin()
    gateway.move(0)
    assert len(of(gateway)) == 1


def test_one_that_died_before_it_was_asked_for_is_started_again(gateway: NotebookGateway) -> None:
    gateway.begin()
    assert gateway._starting is not None
    first = gateway._starting.result()
    first.kill()
    assert gateway.client() is not first.client
    assert gateway.client().status().models == []


def test_what_went_wrong_is_raised_where_it_is_asked_for_and_then_forgotten(
    gateway: NotebookGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("nbserve.launch.sys.executable", "/bin/false")
        gateway.begin()
        with pytest.raises(GatewayError, match="exit code 1"):
            gateway.client()
    assert gateway.client().status().models == []


def test_a_failure_that_nobody_asked_for_is_not_told_to_the_next_cell(
    gateway: NotebookGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("nbserve.launch.sys.executable", "/bin/false")
        gateway.begin()
        assert gateway._starting is not None
        assert isinstance(gateway._starting.exception(), GatewayError)
    gateway.begin()
    assert gateway.client().status().models == []


def test_why_it_is_gone_is_known_from_the_moment_it_is_killed(gateway: NotebookGateway) -> None:
    pid = gateway.client().status().pid
    assert gateway.obituary == ""
    os.kill(pid, signal.SIGKILL)
    assert "this notebook's gateway was killed by SIGKILL (its log: " in gateway.obituary
