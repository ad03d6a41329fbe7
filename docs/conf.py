"""How Sphinx makes the site of these pages: `make site`. Nothing is fetched, when it is built or when it is read.

Every warning is an error there: a link to a page or a heading that does not exist fails the build.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from pygments.lexer import inherit
from pygments.lexers.python import PythonLexer
from pygments.token import Name
from sphinx.application import Sphinx

from nbserve import __version__

project = "nbserve"
author = "the nbserve authors"
version = release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["site"]
nitpicky = True
highlight_language = "text"
myst_heading_anchors = 4  # `page.md#heading` works as it does on GitHub, and is checked
myst_enable_extensions = ["colon_fence"]
myst_fence_as_directive = ["mermaid"]

html_theme = "pydata_sphinx_theme"
html_title = f"nbserve {version}"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_context = {"default_mode": "auto"}
html_css_files = ["nbserve.css"]
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it is fetched page by page, which a folder without a server does not allow
html_sidebars = {"**": ["pages"]}
html_theme_options: dict[str, Any] = {
    "navbar_align": "left",
    "navbar_center": [],
    "navbar_persistent": ["search-button-field"],
    "navbar_end": ["theme-switcher"],
    "footer_start": [],
    "footer_center": [],
    "footer_end": [],
    "primary_sidebar_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

_ARROW = re.compile(r"\s*(?P<state>\S+) --> (?P<target>\w+)(?:: (?P<event>.+))?")


class CellLexer(PythonLexer):
    """Python with lines that are magics."""

    tokens: ClassVar[dict[str, Any]] = {"root": [(r"^%%?\w[^\n]*\n", Name.Decorator), inherit]}


class States(Directive):
    """A Mermaid state diagram as a table: GitHub draws it, here a script of another host would have to."""

    has_content: ClassVar[bool] = True

    def run(self) -> Sequence[nodes.Node]:
        arrows = [found for line in self.content if (found := _ARROW.fullmatch(line))]
        if not arrows:
            raise self.error("only state diagrams can be shown")
        rows = [(one["state"].replace("[*]", "(begin)"), one["event"] or "", one["target"]) for one in arrows]
        return [_table(("state", "event", "becomes"), rows)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> nodes.table:
    group = nodes.tgroup("", *[nodes.colspec() for _ in head], cols=len(head))
    group += nodes.thead("", _row(head))
    group += nodes.tbody("", *[_row(row) for row in rows])
    return nodes.table("", group)


def _row(cells: Sequence[str]) -> nodes.row:
    return nodes.row("", *[nodes.entry("", nodes.paragraph(text=cell)) for cell in cells])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("mermaid", States)
    app.add_lexer("python", CellLexer)
