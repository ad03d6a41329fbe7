"""The site: builds without a warning, asks no other host for anything, and finds words without a server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guard.sources import ROOT


def build(source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """As `make site` does it."""
    options = ["-b", "html", "-n", "-W", "--keep-going", "-q", "-d", str(folder / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(source), str(folder / "site")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", folder)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_every_page_is_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text()
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert {page for page in pages if f'href="{page}.html"' in index} == pages


# What a browser fetches by itself: links that a reader may follow are not among it.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*?\bsrc=[\"']?(?P<src>[^\"' >]+)"
    r"|<link\b[^>]*?\bhref=[\"']?(?P<href>[^\"' >]+)"
    r"|url\([\"']?(?P<url>[^\"')]+)"
    r"|@import\s+[\"'](?P<import>[^\"']+)"
)


def fetched(text: str) -> set[str]:
    """Addresses in a page or style sheet that a browser would fetch."""
    return {found[found.lastgroup or 0] for found in FETCHED.finditer(text)}


def test_nothing_is_fetched_from_outside(site: Path) -> None:
    found = {one for path in site.rglob("*") if path.suffix in (".html", ".css") for one in fetched(path.read_text())}
    assert len(found) > 10
    assert not [one for one in found if re.match(r"(?:https?:)?//", one)]


def test_what_is_fetched_is_found() -> None:
    page = "<script async src='//x.example/a.js'></script><link rel=x href=https://x.example/b.css><a href=https://c>"
    assert fetched(page) == {"//x.example/a.js", "https://x.example/b.css"}
    assert fetched('@import "x.css"; a { b: url(https://x.example/f.woff) }') == {"x.css", "https://x.example/f.woff"}


def test_words_are_found_without_a_server(site: Path) -> None:
    """The index is a script that search.html loads, so that it works from a folder too."""
    index = (site / "searchindex.js").read_text()
    assert index.startswith("Search.setIndex(")
    assert "searchindex.js" in (site / "search.html").read_text()
    found = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))
    batching = found["docnames"].index("batching")
    where = found["terms"].get("queue", [])
    assert batching in (where if isinstance(where, list) else [where])


def test_a_link_to_a_heading_that_is_not_there_fails(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    for name in ("conf.py", "_static", "_templates"):
        path = ROOT / "docs" / name
        shutil.copytree(path, source / name) if path.is_dir() else shutil.copy(path, source)
    (source / "index.md").write_text("# One\n\n[two](other.md#two) and [three](other.md#three)\n")
    (source / "other.md").write_text("---\norphan: true\n---\n# Other\n\n## Two\n")
    done = build(source, tmp_path)
    assert done.returncode != 0
    assert "three" in done.stderr
    assert "two" not in done.stderr.replace("other.md#two", "")
