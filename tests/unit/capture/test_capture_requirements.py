"""What a bundle requires, from what pip really installed: extras, labels, version control, editable trees, imports.

Wheels are made here and installed without an index; a git repository stands in for a host by git's own `insteadOf`.
"""

# ruff: noqa: E501 - cells read better unbroken

from __future__ import annotations

import importlib
import os
import site
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbserve.bundle.requirements import asked, found_here, source_of, without_password
from nbserve.capture import imported_meanwhile
from nbserve.capture.requirements import extras_in_cells, requirements_text
from nbserve.errors import CaptureError
from nbserve.export.requirements import closure, installed
from nbserve.export.wheels import fetch_wheels
from nbserve.verify import package_differences

PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "3.1"
[tool.hatch.build]
dev-mode-dirs = ["."]
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that pip installs into, on sys.path; what was imported from it is forgotten."""
    folder = tmp_path / "target"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def pip(*words: str, **environment: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=120, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    importlib.invalidate_caches()


def wheel(folder: Path, name: str, version: str, code: str = "X = 1\n", *metadata: str) -> Path:
    """A wheel of one module."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr(f"{name}.py", code)
        out.writestr(f"{info}/METADATA", head + "".join(f"{line}\n" for line in metadata))
        out.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def project(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT.format(name=name))
    (folder / f"{name}.py").write_text("X = 5\n")
    return folder


def requirements(notebook: Any) -> list[str]:
    return [line for line in notebook.capture("predict").manifest.requirements if "nbserve" not in line]


def uses(module: str) -> tuple[str, str]:
    return f"import {module}", f"def predict(b):\n    return [{module}.X for _ in b]"


FANCY = ("Provides-Extra: gpu", "Provides-Extra: docs", 'Requires-Dist: fancygpu>=1; extra == "gpu"')


def test_extras_that_a_cell_asked_pip_for_and_no_others(notebook: Any, target: Path, tmp_path: Path) -> None:
    pip(
        "--target",
        str(target),
        str(wheel(tmp_path, "fancylib", "1.0", "X = 1\n", *FANCY)),
        str(wheel(tmp_path, "fancygpu", "2.0")),
    )
    notebook.run(*uses("fancylib"))
    assert requirements(notebook) == ["fancylib==1.0"]
    notebook.cells.add(9, 'get_ipython().run_line_magic("pip", "install -q \'fancylib[gpu,nothing]>=1\' other")', None)
    assert requirements(notebook) == ["fancylib[gpu]==1.0"]
    pins, _ = closure(requirements(notebook), installed())
    assert "fancygpu==2.0" in [pin.line for pin in pins]
    assert "fancygpu==2.0" not in [pin.line for pin in closure(["fancylib==1.0"], installed())[0]]


def test_extras_that_an_installed_distribution_requires(notebook: Any, target: Path, tmp_path: Path) -> None:
    pip("--target", str(target), str(wheel(tmp_path, "fancylib", "1.0", "X = 1\n", *FANCY)))
    notebook.run(*uses("fancylib"))
    assert requirements(notebook) == ["fancylib==1.0"]
    pip("--target", str(target), str(wheel(tmp_path, "fancyuser", "1.0", "X = 1\n", "Requires-Dist: fancylib[docs]")))
    assert requirements(notebook) == ["fancylib[docs]==1.0"], "what was installed meanwhile is noticed"


@pytest.mark.parametrize(
    ("cell", "extras"),
    [
        ("get_ipython().system('python -m pip --quiet install uvicorn[standard]==1.0 && echo done[x]')", {"uvicorn": {"standard"}}),
        ('get_ipython().run_line_magic("pip", "install \\"A.b[c,d]\\" -e .[dev]")', {"a-b": {"c", "d"}}),
        ("pip = 'pip install a[b]'", {}),
        ("get_ipython().system('pip install \"a[b]')", {}),
        ("this is no Python: pip install", {}),
    ],
)  # fmt: skip
def test_what_cells_asked_pip_for(cell: str, extras: dict[str, set[str]]) -> None:
    assert extras_in_cells([cell]) == extras


def test_a_local_version_label_is_pinned_and_said(notebook: Any, target: Path, tmp_path: Path) -> None:
    pip("--target", str(target), str(wheel(tmp_path, "labelled", "2.0+cpu")))
    notebook.run(*uses("labelled"))
    assert requirements(notebook) == ["labelled==2.0+cpu"]
    bundle = notebook.bundle("predict")
    text = (bundle.path / "requirements.txt").read_text()
    assert '# built for "cpu": give pip the index that has it, with --extra-index-url\nlabelled==2.0+cpu\n' in text
    assert text == requirements_text(bundle.manifest.requirements)
    assert not (bundle.path / "modules").exists(), "it is installed, though in a folder of another name"


def test_version_control_is_pinned_to_its_commit(notebook: Any, target: Path, tmp_path: Path) -> None:
    origin = project(tmp_path / "origin", "fromgit")
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    commits = []
    for code in ("X = 5\n", "X = 6\n"):
        (origin / "fromgit.py").write_text(code)
        for words in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "c")):
            subprocess.run(["git", *words], cwd=origin, check=True, capture_output=True)
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=origin, check=True, capture_output=True, text=True)
        commits.append(head.stdout.strip())
    host = "https://git.example.invalid/fromgit"
    git = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{origin}.insteadOf", "GIT_CONFIG_VALUE_0": host}
    digests = []
    for commit in commits:
        pip("--upgrade", "--no-build-isolation", "--target", str(target), f"git+{host}@{commit}", **git)
        sys.modules.pop("fromgit", None)
        notebook.run(*uses("fromgit"))
        line = f"fromgit @ git+{host}@{commit}"
        assert requirements(notebook) == [line]
        assert found_here(line) == (f"git+{host}@{commit}", f"git+{host}@{commit}")
        assert package_differences([line]) == []
        digests.append(notebook.bundle("predict").digest)
    assert closure([line], installed())[1] == []
    assert digests[0] != digests[1], "the version is the same, the commit is not"
    (difference,) = package_differences([f"fromgit @ git+{host}@{commits[0]}"])
    assert difference.found == f"git+{host}@{commits[1]}"
    pins, warnings = closure([f"fromgit @ git+{host}@{commits[0]}"], installed())
    assert f"git+{host}@{commits[0]}" in [pin.url for pin in pins]
    assert f"git+{host}@{commits[1]} is installed here" in warnings[0]


def test_an_editable_install_is_copied_and_becomes_a_wheel(
    notebook: Any, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = project(tmp_path / "tree", "edited")
    pip("--no-build-isolation", "--prefix", str(tmp_path / "prefix"), "-e", str(tree))
    place = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "prefix"), "platbase": str(tmp_path / "prefix")})
    monkeypatch.setattr(sys, "path", [*sys.path])
    site.addsitedir(place)
    notebook.run(*uses("edited"))
    captured = notebook.capture("predict")
    assert requirements(notebook) == ["edited==3.1"]
    assert [entry.name for entry in captured.entries if entry.how == "module file"] == ["edited.py"]
    before = notebook.bundle("predict").digest
    (tree / "edited.py").write_text("X = 7\n")
    with pytest.raises(CaptureError, match=r"edited\.py is not what is loaded"):
        notebook.capture("predict")
    importlib.reload(notebook.ns["edited"])
    assert notebook.bundle("predict").digest != before, "its code is part of the bundle"
    (pin,) = [pin for pin in closure(requirements(notebook), installed())[0] if pin.name == "edited"]
    assert pin.url == tree.as_uri()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv(
        "PIP_NO_BUILD_ISOLATION", "0"
    )  # pip's spelling of "no isolation": hatchling is here, no index is
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    fetch_wheels([pin], wheels, complete=True)
    (built,) = wheels.iterdir()
    assert built.name.startswith("edited-3.1-")


def test_what_only_a_call_imports_goes_along(notebook: Any, target: Path, tmp_path: Path) -> None:
    pip("--target", str(target), str(wheel(tmp_path, "lateinstalled", "1.5")))
    (notebook.root / "outer_local.py").write_text("def f():\n    import inner_local\n    return inner_local.X\n")
    (notebook.root / "inner_local.py").write_text(
        "def g():\n    import lateinstalled\n    import there_is_no_such_thing\nX = 3\n"
    )
    notebook.run("def predict(b):\n    import outer_local\n    return [outer_local.f() for _ in b]")
    assert "outer_local" not in sys.modules
    bundle = notebook.bundle("predict")
    assert sorted(path.name for path in (bundle.path / "modules").iterdir()) == ["inner_local.py", "outer_local.py"]
    assert "lateinstalled==1.5" in bundle.manifest.requirements
    assert notebook.elsewhere("predict", 1) == [3]


def test_what_the_sample_run_imported_is_required_but_not_identity(notebook: Any, target: Path, tmp_path: Path) -> None:
    pip("--target", str(target), str(wheel(tmp_path, "byname", "1.5")))
    (notebook.root / "mine_by_name.py").write_text("X = 1\n")
    notebook.run(
        "import importlib",
        "def predict(b):\n    return [importlib.import_module('byname').X + importlib.import_module('mine_by_name').X for _ in b]",
    )
    digests = []
    for _ in range(2):  # the second time both are imported already
        captured = notebook.capture("predict")
        with imported_meanwhile("names") as roots:
            assert notebook.here("predict", 1) == [2]
        captured.note_imports(roots)
        assert captured.imported == ["byname==1.5"]
        assert [text for text in captured.warnings if "mine_by_name" in text]
        bundle = captured.write(notebook.root / "b")
        assert bundle.provenance.imported == ["byname==1.5"]
        digests.append(bundle.digest)
    assert digests[0] == digests[1] == notebook.bundle("predict").digest
    with imported_meanwhile("another") as roots:
        pass
    assert roots == set()


def test_lines_and_where_a_distribution_came_from() -> None:
    assert asked("a[x,y]==1.0+cpu") == ("a", frozenset("xy"), "1.0+cpu", "")
    assert asked("a @ git+https://h/a@c").url == "git+https://h/a@c"
    assert found_here("there-is-no-such-thing==1") == ("1", "")
    assert without_password("https://me:secret@host/x") == "https://host/x"
    assert without_password("ssh://git@host/x") == "ssh://git@host/x"
    found = source_of('{"url": "https://me:secret@h/a", "vcs_info": {"vcs": "git", "commit_id": "c"}}')
    assert (found.url, found.is_public, found.is_editable) == ("git+https://h/a@c", True, False)
    assert not source_of('{"url": "file:///a.whl", "archive_info": {}}').is_public
