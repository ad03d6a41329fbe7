"""The hatch hook that builds the front end: what it does where that fails, is not wanted, or is done already."""

from __future__ import annotations

import importlib.util
import json
import re
from types import ModuleType
from typing import Any

import pytest

from tests.guard.sources import ROOT


class App:
    """hatchling's application, as far as a hook speaks to it."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delenv("NBSERVE_SKIP_FRONTEND", raising=False)
    spec = importlib.util.spec_from_file_location("frontend_build", ROOT / "labextension" / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hook(module: ModuleType, app: App) -> Any:
    return module.FrontendHook(str(ROOT), {}, None, None, str(ROOT), "wheel", app)


def failing(module: ModuleType) -> Any:
    def run(*scripts: str) -> None:
        raise module.FrontendError("there is no node")

    return run


def test_a_front_end_that_fails_stops_a_wheel_and_not_an_editable_install(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run", failing(module))
    app = App()
    hook(module, app).initialize("editable", {})
    assert "there is no node" in app.warnings[0]
    with pytest.raises(module.FrontendError):
        hook(module, app).initialize("standard", {})


def test_the_switch_leaves_it_out(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run", failing(module))
    monkeypatch.setattr(module, "_system_node", lambda: None)
    assert hook(module, App()).dependencies() == [module.NODE_WHEEL]
    monkeypatch.setenv("NBSERVE_SKIP_FRONTEND", "1")
    hook(module, App()).initialize("standard", {})
    assert hook(module, App()).dependencies() == []


def test_a_command_that_fails_says_which(module: ModuleType) -> None:
    with pytest.raises(module.FrontendError, match="run --silent nothing failed"):
        module.run("nothing")


def test_the_lock_file_names_no_host() -> None:
    """Versions and checksums only: any registry will do."""
    lock = json.loads((ROOT / "labextension" / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert len(packages) > 5
    assert not [name for name, entry in packages.items() if "resolved" in entry]
    assert all(re.match("sha512-", entry["integrity"]) for entry in packages.values())
