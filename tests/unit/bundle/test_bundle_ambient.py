"""Settings that go along with a bundle, and those that must not. That workers set them again: tests/capture."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest

from nbserve.bundle.ambient import ambient, snapshot


def test_what_is_as_it_starts_is_left_out() -> None:
    assert snapshot({"decimal", "sklearn"}, ["import os"]) == ({}, [])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process started with")
def test_only_variables_that_the_notebook_set_and_the_code_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_MODE", "careful")
    monkeypatch.setenv("OTHER_MODE", "never named")
    found, warnings = snapshot(set(), ["mode = os.environ['MODEL_MODE'] + os.environ['PATH']"])
    assert found == {"environ": {"MODEL_MODE": "careful"}}
    assert warnings == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process started with")
def test_a_secret_stays_at_home_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_API_KEY", "not to be seen")
    found, warnings = snapshot(set(), ['key = os.getenv("SHOP_API_KEY")'])
    assert found == {}
    assert "SHOP_API_KEY looks like a secret and is not shipped" in warnings[0]
    assert "not to be seen" not in warnings[0]


def test_other_libraries_settings_do_not_concern_a_handler() -> None:
    with np.printoptions(precision=3):
        assert snapshot({"json"}, []) == ({}, [])
        assert snapshot({"numpy"}, [])[0] == {"numpy_print": {"precision": 3}}


def test_levels_of_loggers_that_the_code_names_or_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = {"shop": 10, "shop.cart": 0, "shop.cart.items": 40, "held": 20, "other": 10}
    loggers = {name: logging.getLogger(f"nbserve.tests.{name}") for name in levels}
    for name, level in levels.items():
        monkeypatch.setattr(loggers[name], "level", level)
    code = ["log = logging.getLogger('nbserve.tests.shop.cart.items')"]
    assert snapshot({"json"}, code)[0] == {}
    monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler()])
    found, _ = snapshot({"logging"}, code, loggers={"nbserve.tests.held"})
    expected = {"": 20, "nbserve.tests.held": 20, "nbserve.tests.shop": 10, "nbserve.tests.shop.cart.items": 40}
    assert found == {"logging_levels": expected, "logging_format": (None, None)}
    for logger in [*loggers.values(), logging.getLogger()]:
        logger.setLevel(0)
    ambient(**found)
    assert {name: logger.level for name, logger in loggers.items()} == levels | {"other": 0}
    assert logging.getLogger().level == logging.INFO
