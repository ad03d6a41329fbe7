"""The guides do what they say: every block is run, in a real kernel and a real shell, and outputs are compared."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from nbserve.handler import Context
from nbserve.options import CELL_OPTIONS, MODEL_OPTIONS
from nbserve.pipeline import Item, Pipeline
from nbserve.verbs import VERBS, command
from tests.benchmarks import batching
from tests.docs.pages import Block, blocks, differs, play
from tests.guard.sources import ROOT
from tools.reference import PAGES as WRITTEN

DOCS = ROOT / "docs"
GUIDES = [
    "quickstart",
    "handlers",
    "dashboard",
    "batching",
    "explaining",
    "debugging",
    "recording",
    "profiling",
    "hub",
    "deploying",
]
PAGES = {path.stem: path.read_text() for path in [*DOCS.glob("*.md"), ROOT / "README.md"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a page is played: no gateway of another test is seen there."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("NBSERVE_HOME", str(tmp_path / "home"))
    work = tmp_path / "page"
    work.mkdir()
    return work


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_is_played(name: str, folder: Path) -> None:
    assert play(PAGES[name], folder) >= 5


EXAMPLES = [block for block in blocks(PAGES["handlers"]) if block.is_example]


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.code.splitlines()[0][2:])
def test_examples_of_the_handler_guide(block: Block) -> None:
    """The first line: the request's JSON, and the answer's JSON or the status of its error."""
    request, _, expected_text = block.code.splitlines()[0].removeprefix("# ").partition(" -> ")
    names: dict[str, Any] = {"__name__": __name__}
    exec(block.code, names)
    handler = [value for value in names.values() if getattr(value, "__module__", "") == __name__][-1]
    pipeline = Pipeline(handler, Context(name="example"))
    pipeline.initialize()
    [answer] = pipeline.run([Item(request.encode())]).answers
    expected = json.loads(expected_text)
    assert answer.status == (expected if answer.error else 200), answer.error
    if not answer.error:
        assert json.loads(answer.body) == expected


def commands(page: str) -> Iterator[list[str]]:
    """Each `nbserve VERB ...` in the scripts and service files of a page, as words."""
    for block in blocks(page):
        if block.language not in ("bash", "ini", "yaml", "dockerfile"):
            continue
        script = block.code.replace("\\\n", " ")
        for found in re.finditer(r"(?:^|\$\(|[\s/=])nbserve ((?:list|[a-z]+ )[^\n|;&>)#]*)", script, re.MULTILINE):
            yield shlex.split(found[1])


@pytest.mark.parametrize("name", sorted(PAGES))
def test_commands_are_understood(name: str) -> None:
    """Every command of every page, run by a test or not, is parsed by the verb's own parser."""
    for words in commands(PAGES[name]):
        assert words[0] in VERBS, words
        parser = command(VERBS[words[0]], "cli")
        try:
            parser.make_context(words[0], words[1:], resilient_parsing=False)
        except click.exceptions.Exit:
            continue  # --help
        except click.ClickException as exc:
            pytest.fail(f"nbserve {shlex.join(words)}: {exc.message}")


def test_commands_are_found() -> None:
    page = "```bash\nnbserve list\nA=$(nbserve token a b) nbserve stop \\\n  x --all | cat\n```\n"
    assert list(commands(page)) == [["list"], ["token", "a", "b"], ["stop", "x", "--all"]]
    assert sum(len(list(commands(PAGES[name]))) for name in GUIDES) > 10


def test_options_named_in_the_pages_exist() -> None:
    known = {flag for option in (*CELL_OPTIONS, *MODEL_OPTIONS) for flag in option.opts}
    known |= set(re.findall(r"--[\w-]+", WRITTEN["docs/cli.md"]()))
    known |= {flag for verb in VERBS.values() for option in command(verb, "magic").params for flag in option.opts}
    for name in (*GUIDES, "README"):
        named = set(re.findall(r"(?<=[`\s])(--[a-z][\w-]+)", _without_other_programs(PAGES[name])))
        assert not named - known, name


def _without_other_programs(page: str) -> str:
    """What `pip`, `curl` and the like are given is theirs; outputs are compared with what came out."""
    others = r"^[ \t]*(?:curl|pip|docker|podman|sudo|systemctl)\b(?:[^\n]*\\\n)*[^\n]*$|^```text\n.*?^```$"
    return re.sub(others, "", page, flags=re.MULTILINE | re.DOTALL)


def test_extras_that_pages_install_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [words for page in PAGES.values() for words in re.findall(r'pip install "([\w-]+)\[([\w,]+)\]"', page)]
    assert len(found) >= 2
    for name, extras in found:
        assert name == project["name"]
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_the_measured_table_is_that_of_the_result() -> None:
    page = PAGES["batching"]
    assert batching.with_table(page, json.loads(batching.RESULT.read_text())) == page


@pytest.mark.parametrize(
    ("shown", "actual", "same"),
    [
        ("a\n", "a", True),
        ("a  b\n", "a b", True),
        ("a...c\n", "abbb\nc", True),
        ("...\n", "", True),
        ("a\n", "ab", False),
        ("a.c\n", "abc", False),
        ("a...\n", "ba", False),
    ],
)
def test_outputs_are_compared(shown: str, actual: str, same: bool) -> None:
    assert (differs(shown, actual) == "") is same


CELL = "```python\n{code}\n```\n\n```text\n{output}\n```\n"


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        (CELL.format(code="1 + 1", output="3"), "line 1: the page shows\n3\nbut it is\n2"),
        (CELL.format(code="1 / 0", output="3"), "ZeroDivisionError"),
        ("<!-- raises -->\n" + CELL.format(code="1 + 1", output="2"), "no error"),
        ("text\n\n```bash\nls no-such-file\n```\n", "line 3: exit code 2"),
        ("<!-- stays: ready -->\n```bash\necho soon; exit 3\n```\n", "it ended"),
    ],
)
def test_a_page_that_is_wrong_is_caught(page: str, complaint: str, folder: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        play(page, folder)
    assert complaint in str(caught.value)
