"""Pins: the whole closure as installed, local labels and editable installs known; nbserve's own wheel."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nbserve.bundle.requirements import source_of
from nbserve.errors import ExportError
from nbserve.export.requirements import OWN, Distribution, Pin, closure, installed
from nbserve.export.wheels import fetch_wheels, requirement_lines, write_own_wheel

HERE = {
    OWN: Distribution("jupyter-nbserve", "0.1.0", ("click>=8", 'torch; extra == "torch"'), "file:///src/nbserve"),
    "click": Distribution("click", "8.1"),
    "torch": Distribution("torch", "2.13.0+cpu", ("Jinja2>=3", 'triton; sys_platform == "beos"')),
    "jinja2": Distribution("Jinja2", "3.1", ("MarkupSafe",)),
    "markupsafe": Distribution("MarkupSafe", "3.0"),
    "fancy-lib": Distribution("Fancy.Lib", "1.0", ('extra-dep>=1; extra == "gpu"', "jinja2")),
    "extra-dep": Distribution("extra_dep", "2.0", ("fancy-lib[gpu]",)),
    "unused": Distribution("unused", "1"),
}


def lines(*roots: str) -> tuple[list[str], list[str]]:
    pins, warnings = closure(roots, HERE)
    return [pin.line for pin in pins], warnings


def test_everything_that_is_needed_and_nothing_else() -> None:
    assert lines("torch==2.13.0+cpu") == (
        ["click==8.1", "Jinja2==3.1", "jupyter-nbserve==0.1.0", "MarkupSafe==3.0", "torch==2.13.0+cpu"],
        [],
    )


def test_extras_and_circles() -> None:
    assert "extra_dep==2.0" in lines("fancy_lib[gpu]==1.0")[0]
    assert "extra_dep==2.0" not in lines("fancy_lib==1.0")[0]


@pytest.mark.parametrize(
    ("root", "line", "says"),
    [
        ("torch==2.12", "torch==2.12", "2.13.0+cpu is installed here"),
        ("gone==1.5", "gone==1.5", "not installed here"),
        ("gone", "gone", "not installed here"),
    ],
)
def test_what_is_not_installed_so_keeps_its_pin_and_says_so(root: str, line: str, says: str) -> None:
    pins, (warning,) = lines(root)
    assert line in pins
    assert "Jinja2==3.1" not in pins, "what another version needs is not known here"
    assert says in warning


def test_nbserve_is_the_one_that_runs_here() -> None:
    assert lines("jupyter-nbserve==0.0.1") == (["click==8.1", "jupyter-nbserve==0.1.0"], [])


def test_this_environment_closes_over_itself() -> None:
    """Every requirement of every pin that applies here is met by another pin."""
    here = installed()
    pins, warnings = closure(["torch", "scikit-learn"], here)
    names = {pin.name.lower().replace("_", "-").replace(".", "-") for pin in pins}
    assert warnings == []
    assert {"numpy", "scipy", "sympy", "ipykernel", "pyzmq", "tornado"} <= names
    for pin in pins:
        for text in importlib.metadata.requires(pin.name) or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert need.name.lower().replace("_", "-").replace(".", "-") in names, f"{pin.name} needs {need}"


@pytest.mark.parametrize(
    ("direct_url", "url"),
    [
        (None, ""),
        ({"url": "file:///src/x", "dir_info": {"editable": True}}, "file:///src/x"),
        (
            {"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc", "requested_revision": "main"}},
            "git+https://host/x.git@abc",
        ),
        ({"url": "file:///x.whl", "archive_info": {}, "subdirectory": "a"}, "file:///x.whl#subdirectory=a"),
    ],
)
def test_where_a_distribution_came_from(direct_url: dict[str, object] | None, url: str) -> None:
    assert source_of(json.dumps(direct_url) if direct_url else None).url == url


def test_what_no_index_has_is_named_by_its_file(tmp_path: Path) -> None:
    pins = [Pin("click", "8.1"), Pin("My_Lib", "1.0", "file:///src"), Pin("torch", "2.13.0+cpu")]
    for name in ("my_lib-1.0-py3-none-any.whl", "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl"):
        (tmp_path / name).write_bytes(b"")
    assert requirement_lines(pins, tmp_path, vendored=False) == [
        "click==8.1",
        "./wheels/my_lib-1.0-py3-none-any.whl",
        "./wheels/torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl",
    ]
    assert requirement_lines(pins, tmp_path, vendored=True) == ["click==8.1", "My_Lib==1.0", "torch==2.13.0+cpu"]


def test_nbserves_own_wheel_is_what_runs_here_whole_and_the_same_each_time(tmp_path: Path) -> None:
    built = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        write_own_wheel(folder)
        built += list(folder.iterdir())
    assert built[0].name == built[1].name
    assert built[0].read_bytes() == built[1].read_bytes()
    target = tmp_path / "target"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(built[0]),
    ]
    subprocess.run(pip, check=True, capture_output=True, timeout=60)
    program = "import nbserve, nbserve.export.image, nbserve.worker; print(nbserve.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={"PYTHONPATH": str(target), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(target)
    assert (target / "nbserve" / "export" / "templates" / "Dockerfile.j2").is_file()
    with zipfile.ZipFile(built[0]) as wheel:
        record = next(name for name in wheel.namelist() if name.endswith("/RECORD"))
        for name, digest, size in csv.reader(wheel.read(record).decode().splitlines()):
            if name != record:
                data = wheel.read(name)
                sha256 = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert (digest, int(size)) == (f"sha256={sha256}", len(data))


def test_what_pip_cannot_fetch_is_said_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://me:hidden@index.invalid/simple")
    with pytest.raises(ExportError) as caught:
        fetch_wheels([Pin("there-is-no-such-distribution", "1.0")], tmp_path, complete=True)
    assert "there-is-no-such-distribution" in caught.value.message
    assert "PIP_INDEX_URL" in caught.value.hint
    assert caught.value.hint.startswith("pip is configured to look in ")
    assert "https://index.invalid/simple" in caught.value.hint
    assert "hidden" not in str(caught.value) + caught.value.hint
