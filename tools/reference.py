"""`make docs`: writes the pages that repeat what the code says; a test compares them.

docs/configuration.md comes from nbserve/config.py (fields, types, defaults, docstrings), docs/cli.md from the help of
the `nbserve` command, docs/lifecycle.md from the tables of states.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from nbserve import cli, config
from nbserve.gateway import lifecycle
from nbserve.verbs import VERBS

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100

CONFIGURATION = """\
# Configuration

Every option and its default, written from `nbserve/config.py` by `make docs`. Units are in the names: `_s` seconds,
`_ms` milliseconds, `_bytes` bytes. In a cell and on the command line an option is written with dashes
(`--max-batch-size 8`), in the management API's JSON and in Python with underscores. An unknown option is an error.

"""

CLI = """\
# The `nbserve` command

Written from the command's own help by `make docs`. The verbs, their names and options are those of `%nbserve VERB` in a
notebook and of `Endpoint` in Python ([handlers.md](handlers.md) shows them in use).
"""


def configuration_page() -> str:
    """docs/configuration.md"""
    parts = [CONFIGURATION]
    sections: dict[str, type[msgspec.Struct]] = {"A model": config.ModelConfig, "A gateway": config.GatewayConfig}
    for title, options in sections.items():
        parts += [f"## {title}\n\n{inspect.getdoc(options)}\n\n", *_table(options), "\n"]
    parts.append(f"## Profiles\n\n{_docstrings(config)['PROFILES']}\n\n| profile | changes |\n|---|---|\n")
    for name, changes in config.PROFILES.items():
        parts.append(f"| {name} | {', '.join(f'`{key}` = `{value!r}`' for key, value in changes.items())} |\n")
    return "".join(parts)


def _table(options: type[msgspec.Struct]) -> Iterator[str]:
    yield "| option | type | default | |\n|---|---|---|---|\n"
    docs, types = _docstrings(options), _annotations(options)
    for field in msgspec.structs.fields(options):
        kind = types[field.name].replace("|", "\\|")
        yield f"| `{field.name}` | `{kind}` | {_default(field)} | {docs.get(field.name, '')} |\n"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{field.default_factory()!r}`"
    if field.default is msgspec.NODEFAULT:
        return "required"
    shown: Any = field.default
    return f"`{shown:_}`" if isinstance(shown, int) and shown is not True and shown >= 10_000 else f"`{shown!r}`"


def _docstrings(owner: Any) -> dict[str, str]:
    """Names assigned in a class or module -> the string that follows the assignment."""
    body = _body(owner)
    found = {}
    for node, following in itertools.pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = _text(following)
    return found


def _annotations(owner: type) -> dict[str, str]:
    return {
        node.target.id: ast.unparse(node.annotation).replace("'", '"')
        for node in _body(owner)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def _body(owner: Any) -> list[ast.stmt]:
    tree = ast.parse(inspect.getsource(owner))
    first = tree.body[0]
    return first.body if isinstance(first, ast.ClassDef) and inspect.isclass(owner) else tree.body


def _text(node: ast.stmt) -> str:
    """The words of a statement that is a string; empty for any other."""
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return " ".join(ast.literal_eval(node.value).split()) if is_text else ""  # type: ignore[attr-defined]


def cli_page() -> str:
    """docs/cli.md"""
    verbs = [name for name, verb in VERBS.items() if verb.in_face("cli")]
    commands = [[], *([verb] for verb in verbs)]
    return CLI + "".join(f"\n## `{' '.join(['nbserve', *one])}`\n\n```\n{_help(one)}```\n" for one in commands)


def _help(arguments: list[str]) -> str:
    """What `nbserve ... --help` prints on a terminal of our width."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            cli.run([*arguments, "--help"])
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return printed.getvalue()


LIFECYCLE = """\
# The lives of workers, pools and versions

Drawn from the tables in `nbserve/gateway/lifecycle.py` by `make docs`. An event that its state does not know is a bug
of nbserve, and raises with the story so far.
"""


def lifecycle_page() -> str:
    """docs/lifecycle.md"""
    lives: dict[str, tuple[Any, str]] = {
        "A worker": (lifecycle.WORKER_MOVES, "STOPPED"),
        "The pool of a version's workers": (lifecycle.POOL_MOVES, "STARTING"),
        "A version of a model": (lifecycle.VERSION_MOVES, "LOADING"),
    }
    return LIFECYCLE + "".join(f"\n## {title}\n\n{_drawn(*life)}" for title, life in lives.items())


def _drawn(moves: dict[str, dict[str, str]], start: str) -> str:
    arrows = [f"  {state} --> {target}: {event}" for state, events in moves.items() for event, target in events.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"  [*] --> {start}", *arrows, "```", ""])


PAGES: dict[str, Callable[[], str]] = {
    "docs/configuration.md": configuration_page,
    "docs/cli.md": cli_page,
    "docs/lifecycle.md": lifecycle_page,
}

if __name__ == "__main__":
    for name, render in PAGES.items():
        (ROOT / name).write_text(render())
        print(name)
