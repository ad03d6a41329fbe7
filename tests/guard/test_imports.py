"""The folder says in which process code runs: rooms do not import each other, pure modules do no input or output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.guard.sources import PACKAGE, Import, imports, module_name, package_files

ROOMS = {
    "nbserve.notebook": ["nbserve.gateway", "nbserve.worker"],
    "nbserve.capture": ["nbserve.gateway", "nbserve.worker", "nbserve.notebook"],
    "nbserve.gateway": ["nbserve.notebook", "nbserve.capture", "nbserve.worker"],
    "nbserve.worker": ["nbserve.notebook", "nbserve.capture", "nbserve.gateway"],
    "nbserve.wire": ["nbserve.notebook", "nbserve.capture", "nbserve.gateway", "nbserve.worker", "nbserve.bundle"],
    "nbserve.bundle": ["nbserve.notebook", "nbserve.capture", "nbserve.gateway", "nbserve.worker"],
    "nbserve.handler": ["nbserve.notebook", "nbserve.capture", "nbserve.gateway", "nbserve.worker"],
    "nbserve.pipeline": ["nbserve.notebook", "nbserve.capture", "nbserve.gateway", "nbserve.worker"],
    "nbserve.client": ["nbserve.notebook", "nbserve.capture", "nbserve.gateway", "nbserve.worker"],
    "nbserve.discovery": ["nbserve.notebook", "nbserve.capture", "nbserve.gateway", "nbserve.worker"],
    "nbserve.config": ["nbserve"],
    "nbserve.errors": ["nbserve"],
}
"""Who must not import what, at any depth and in functions too."""

PURE = [
    "doctor/diagnosis.py",
    "doctor/hardware.py",
    "doctor/surroundings.py",
    "gateway/policy.py",
    "gateway/cost.py",
    "gateway/sweep.py",
    "gateway/pool/floorplan.py",
    "gateway/pool/placement.py",
    "gateway/lifecycle.py",
    "redaction.py",
    "wire/**/*.py",
]
IMPURE = {
    "asyncio",
    "multiprocessing",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
    "tornado",
    "zmq",
}
"""Time and the world are arguments of the pure modules."""
PARSERS = "tornado.httputil"
"""Text in, values out: the one part of these that does neither."""

HEAVY = {"anywidget", "grpc", "ipywidgets", "matplotlib", "pandas", "ray", "sklearn", "torch", "transformers"}
"""Loaded at the point of use."""
ABOUT_THEM = {"bundle/weights.py", "notebook/widgets/dashboard.py", "notebook/widgets/trace.py"}
"""Modules that are about one of these, and are themselves imported at the point of use."""

LIGHT_ENTRIES = ["nbserve", "nbserve.cli", "nbserve.gateway.__main__", "nbserve.endpoint", "nbserve.notebook.magics"]


def within(module: str, room: str) -> bool:
    """Is the module the room or in it?"""
    return module == room or module.startswith(f"{room}.")


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_do_not_import_each_other(room: str) -> None:
    files = [path for path in package_files() if within(module_name(path), room)]
    assert files, f"{room} is gone: change the table"
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{one.line} imports {one.module}"
        for path in files
        for one in imports(path)
        for other in ROOMS[room]
        if within(one.module, other)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("pattern", PURE)
def test_pure_modules_have_no_clock_and_no_sockets(pattern: str) -> None:
    files = list(PACKAGE.glob(pattern))
    assert files, f"nbserve/{pattern} is gone: change the table"
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{one.line} imports {one.module}"
        for path in files
        for one in imports(path)
        if one.top in IMPURE and not within(one.module, PARSERS)
    ]
    assert not wrong, "\n".join(wrong)


def test_heavy_packages_are_imported_at_the_point_of_use() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{one.line} imports {one.module} when it is imported"
        for path in package_files()
        for one in imports(path)
        if one.at_import and one.top in HEAVY and str(path.relative_to(PACKAGE)) not in ABOUT_THEM
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("entry", LIGHT_ENTRIES)
def test_starting_does_not_load_heavy_packages(entry: str) -> None:
    program = f"import sys, {entry}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_the_walk_sees_every_form_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.guard.sources.ROOT", tmp_path)
    path = tmp_path / "nbserve" / "wire" / "one.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import a.b\nfrom . import c\nfrom ..gateway import d\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import e\nelse:\n    import f\ntry:\n    import g\nexcept ImportError:\n    pass\n"
        "class K:\n    import h\n    def m(self):\n        import i\n"
    )
    seen = imports(path)
    assert {one.module for one in seen if one.at_import} >= {"a.b", "nbserve.wire.c", "nbserve.gateway", "f", "g", "h"}
    assert "e" not in {one.module for one in seen}
    assert Import("i", 16, at_import=False) in seen
