"""What may stand in tracked files, and what the generated ones must agree with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.guard.sources import ROOT, tracked_files
from tools import freeze, reference

# Put together here, so that this file does not contain what it forbids.
HOSTS = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("download", "pytorch", "org"),
        ("npmjs", "org"),
        ("yarnpkg", "com"),
        ("conda", "anaconda", "org"),
    ]
]
FOLDERS = [f"/{name}/" for name in ("work", "root")]
FORBIDDEN = re.compile("|".join([*(re.escape(host) for host in HOSTS), *(rf"(?<![\w.}}/-]){f}" for f in FOLDERS)]))
TEXT = {
    ".cfg",
    ".css",
    ".ini",
    ".ipynb",
    ".js",
    ".json",
    ".lua",
    ".md",
    ".py",
    ".sh",
    ".toml",
    ".ts",
    ".txt",
    ".yml",
    ".yaml",
    "",
}
BIG_BYTES = 1_000_000


def test_no_hosts_of_registries_and_no_paths_of_one_machine() -> None:
    wrong = []
    for path in tracked_files():
        if path.suffix not in TEXT:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if FORBIDDEN.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


def test_the_pattern_finds_what_it_should() -> None:
    assert FORBIDDEN.search("see https://" + "pypi" + ".org/project/x")
    assert FORBIDDEN.search("cd /" + "work/x")
    assert not FORBIDDEN.search("the " + "docs/work/notes page, python" + ".org")


def test_no_utils() -> None:
    assert not [path for path in tracked_files() if path.stem in {"utils", "util", "helpers", "misc"}]


def test_no_big_or_compiled_files() -> None:
    wrong = [
        path
        for path in tracked_files()
        if path.stat().st_size > BIG_BYTES or path.suffix in {".pyc", ".so", ".whl", ".pkl", ".pt", ".safetensors"}
    ]
    assert not wrong


def test_constraints_are_what_is_installed() -> None:
    """The versions named are those that this run tests; `make constraints` writes the file again."""
    assert (ROOT / "constraints.txt").read_text() == freeze.render()


@pytest.mark.parametrize("page", reference.PAGES)
def test_reference_pages_are_what_the_code_says(page: str) -> None:
    assert (ROOT / page).read_text() == reference.PAGES[page](), "run make docs"


PAGES = [path for path in tracked_files() if path.suffix == ".md"]


def test_the_rooms_in_the_architecture_page_exist() -> None:
    """Each file and folder that the page's table gives a role."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| ((?:`[\w/.]+`,? ?)+) \|", page, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / "nbserve" / name).exists()]


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS][:2] == ["01_quickstart.ipynb", "02_embeddings.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_committed_clean(path: Path) -> None:
    """Outputs and execution counts only where nbval compares them; no widget state, no kernel but python3."""
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in notebook["metadata"]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            compared = "nbval-check-output" in cell["metadata"].get("tags", [])
            assert compared or (cell["outputs"], cell["execution_count"]) == ([], None), cell["source"]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    local = [target.partition("#")[0] for target in targets if not target.startswith(("http:", "https:", "#"))]
    missing = [target for target in local if not (path.parent / target).exists()]
    assert not missing
