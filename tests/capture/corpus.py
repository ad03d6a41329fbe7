"""The corpus as text: `notebooks/NAME.py`, in percent format with a header of directives. Pure.

    # style: kaggle                      one of STYLES
    # about: what is special about it
    # input: x_test[0]                   an expression of the notebook; each is one request, the first is the proof's
    # expect: served                     or `live only`, or `refused: part of the message` (see REFUSALS)
    # gap: what goes wrong today         the outcome is not what is expected, and is to be mended
    # unreached: Net.fit, load           functions that are shipped and that no request calls
    # undetected: Config                 captured names that no answer depends on: only constructors or annotations do
    # insensitive: threshold             captured names of which a slight change may leave all answers as they are
    # order: 1 2 4 3                     cells in the order in which they ran; default: as they stand
    # %%                                 a cell; `# %% fails` raises when it runs, `# %% [markdown]` is text

Text after `# %% edited` is what a cell that ran before says now: the kernel has not seen it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["FOLDER", "LONG_STYLES", "REFUSALS", "STYLES", "Cell", "Notebook", "parse", "read_all"]

FOLDER = Path(__file__).parent / "notebooks"
STYLES = (
    "kaggle",
    "fine-tuning",
    "training loop",
    "homework",
    "exploratory",
    "language",
    "values",
    "modules",
    "ambient",
)
LONG_STYLES = STYLES[:5]
"""Those found in the wild; at least 20 of their notebooks have 15 cells or more."""
REFUSALS = {
    "lock": "a lock that somebody in the notebook holds: a free one is made anew in each worker",
    "open file": "a place in a file is of one process",
    "generator": "a running generator cannot be copied",
    "connection": "a connection is of one process",
    "changed file": "the module's file is not what was imported",
    "no source": "code whose text nobody has",
    "optimizer": "an optimizer belongs to training, not to serving",
    "thread": "a thread of the notebook, or what one waits for: a pool of threads is made anew",
    "weak reference": "it does not keep what it refers to",
    "program's module": "its code was made in the notebook's process: the program itself can be shipped",
    "cycle": "neither can be made before the other",
    "patched library": "workers import the library as it is installed",
    "loaded again": "a name from before the reload: workers import the module as it is now",
    "relative file": "found by the proof: the worker does not have the file",
}
"""Reviewed: why something is refused, and that refusing it is right."""


@dataclass(frozen=True)
class Cell:
    """One cell. fails: running it raises. edited: it is text that did not run."""

    source: str
    fails: bool = False
    edited: bool = False


@dataclass(frozen=True)
class Notebook:
    """One file of the corpus."""

    name: str
    style: str
    about: str
    cells: tuple[Cell, ...]
    order: tuple[int, ...]
    inputs: tuple[str, ...]
    expect: str = "served"
    reason: str = ""
    gap: str = ""
    unreached: frozenset[str] = frozenset()
    undetected: frozenset[str] = frozenset()
    insensitive: frozenset[str] = frozenset()

    def runs(self) -> list[Cell]:
        """Cells as they ran."""
        return [self.cells[number - 1] for number in self.order]

    def may_survive(self, name: str, kind: str) -> bool:
        """May this captured name be dropped, or be stale, without another answer?"""
        unused = name in self.undetected or any(name in (each, each.partition(".")[0]) for each in self.unreached)
        return unused or (kind == "stale" and name in self.insensitive)


@dataclass
class _Header:
    values: dict[str, list[str]] = field(default_factory=dict)

    def one(self, key: str, default: str = "") -> str:
        return " ".join(self.values.get(key, [default]))

    def names(self, key: str) -> frozenset[str]:
        return frozenset(name.strip() for name in self.one(key).split(",") if name.strip())


def parse(name: str, text: str) -> Notebook:
    """Raises ValueError naming the file where a directive is unknown or missing."""
    head, *bodies = ("\n" + text).split("\n# %%")
    header = _header(name, head)
    cells = [_cell(body) for body in bodies if not body.startswith(" [markdown]")]
    order = header.one("order")
    ran = [number for number, cell in enumerate(cells, 1) if not cell.edited]
    expect, _, reason = header.one("expect", "served").partition(":")
    notebook = Notebook(
        name=name,
        style=header.one("style"),
        about=header.one("about"),
        cells=tuple(cells),
        order=tuple(map(int, order.split())) if order else tuple(ran),
        inputs=tuple(header.values.get("input", ())),
        expect=expect.strip(),
        reason=reason.strip(),
        gap=header.one("gap"),
        unreached=header.names("unreached"),
        undetected=header.names("undetected"),
        insensitive=header.names("insensitive"),
    )
    if notebook.style not in STYLES or not notebook.about or notebook.expect not in ("served", "live only", "refused"):
        raise ValueError(f"{name}: style, about or expect is missing or unknown")
    if notebook.expect != "refused" and len(notebook.inputs) < 2:
        raise ValueError(f"{name}: a served notebook is asked at least twice")
    return notebook


def _header(name: str, head: str) -> _Header:
    known = {"style", "about", "input", "expect", "gap", "unreached", "undetected", "insensitive", "order"}
    header = _Header()
    for line in filter(str.strip, head.splitlines()):
        key, colon, value = line.removeprefix("# ").partition(":")
        if not line.startswith("# ") or not colon or key not in known:
            raise ValueError(f"{name}: no directive: {line}")
        header.values.setdefault(key, []).append(value.strip())
    return header


def _cell(body: str) -> Cell:
    kind, _, source = body.partition("\n")
    return Cell(source.strip("\n") + "\n", fails=kind.strip() == "fails", edited=kind.strip() == "edited")


def read_all(folder: Path = FOLDER) -> list[Notebook]:
    """Every notebook of the corpus, by name."""
    return [parse(path.stem, path.read_text("utf-8")) for path in sorted(folder.glob("*.py"))]
