"""`make capture-report`: plays the whole corpus and every mutant, prints the outcomes and writes docs/capture.md.

python -m tests.capture.report              all, several minutes
python -m tests.capture.report --quick      without the mutants
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.capture.corpus import LONG_STYLES, REFUSALS, STYLES, Notebook, read_all
from tests.capture.outcome import Outcome, Processes, play, wrong_with
from tests.capture.shapes import SHAPES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "capture.md"
_WORKERS = 2


@dataclass
class Row:
    """One notebook's line. survivors: mutants that no answer noticed, without those that the
    notebook names (named). tried: how many there were."""

    notebook: Notebook
    outcome: Outcome
    wrong: str = ""
    survivors: list[list[str]] = field(default_factory=list)
    named: int = 0
    tried: int = 0

    @property
    def said(self) -> str:
        """The outcome in words."""
        return "**gap**" if self.notebook.gap else self.outcome.verdict

    @property
    def reason(self) -> str:
        """Why it is not simply served."""
        if self.notebook.gap:
            return self.notebook.gap
        if self.outcome.verdict == "live only":
            return "; ".join(text.partition("; it is pickled")[0] for text in self.outcome.warnings)
        return self.outcome.text.partition(" | ")[0] if self.outcome.verdict == "refused" else ""


def judge(notebook: Notebook, processes: Processes, *, mutate: bool) -> Row:
    """Play one notebook and, if asked, its mutants."""
    with tempfile.TemporaryDirectory(prefix="nbs-corpus-") as name:
        folder = Path(name)
        outcome = play(notebook, processes, folder)
        row = Row(notebook, outcome, "" if notebook.gap else wrong_with(notebook, outcome))
        if mutate and outcome.verdict in ("served", "live only"):
            found = processes.mutants.run(
                "tests.capture.mutation:survivors",
                folder / "mutants",
                limit_s=1200,
                bundle=str(outcome.bundle),
                expected=outcome.answers,
            )
            row.tried = found["tried"]
            row.survivors = [each for each in found["survivors"] if not notebook.may_survive(*each)]
            row.named = len(found["survivors"]) - len(row.survivors)
        return row


def play_all(notebooks: list[Notebook], *, mutate: bool) -> list[Row]:
    """All of them, two at a time."""
    pools = [Processes() for _ in range(_WORKERS)]
    free = list(pools)

    def one(notebook: Notebook) -> Row:
        processes = free.pop()
        try:
            row = judge(notebook, processes, mutate=mutate)
        finally:
            free.append(processes)
        survived = f", survivors: {row.survivors}" if row.survivors else ""
        print(f"{notebook.name:34} {row.said}{': ' + row.wrong if row.wrong else ''}{survived}", flush=True)
        return row

    try:
        with ThreadPoolExecutor(_WORKERS) as threads:
            return list(threads.map(one, notebooks))
    finally:
        for pool in pools:
            pool.close()


_INTRODUCTION = """\
# What capture can serve

Written by `make capture-report`. Each row is a notebook of `tests/capture/notebooks/`: its cells run in a real IPython
shell, the handler is captured as `%%serve_handler` does it, and the bundle is served by a process that never saw the
notebook, in another folder and with a clean environment. What it rebuilds is compared with what the notebook had:
types, numbers, and what is one object or shares memory. Several requests each, alone and as one batch, reach every
line of the captured functions; all answers are compared with those of the live handler.
"""


def page(rows: list[Row]) -> str:
    """docs/capture.md."""
    lines = [_INTRODUCTION, *_totals(rows), "", "Refused, for reasons that were reviewed:", ""]
    lines += [f"- {key}: {why}" for key, why in REFUSALS.items()]
    lines += ["", "| shape | shown by |", "|---|---|"]
    for kind, shapes in SHAPES.items():
        lines.append(f"| **{kind}** | |")
        lines += [f"| {shape} | {', '.join(names.split())} |" for shape, names in shapes.items()]
    counts = Counter(row.notebook.style for row in rows)
    lines += ["", "| notebook | about | cells | captured | bytes | outcome | why |", "|---|---|--:|--:|--:|---|---|"]
    for style in STYLES:
        lines.append(f"| **{style}** ({counts[style]}) | | | | | | |")
        lines += [_line(row) for row in rows if row.notebook.style == style]
    return "\n".join(lines) + "\n"


def _totals(rows: list[Row]) -> list[str]:
    reviewed = Counter(row.outcome.verdict for row in rows if not row.notebook.gap)
    gaps = sum(bool(row.notebook.gap) for row in rows)
    wrong = sum(bool(row.wrong) for row in rows)
    long = sum(row.notebook.style in LONG_STYLES and len(row.notebook.cells) >= 15 for row in rows)
    tried, named = sum(row.tried for row in rows), sum(row.named for row in rows)
    survived = sum(len(row.survivors) for row in rows)
    noticed = tried - named - survived
    served = reviewed["served"]
    lines = [
        f"- {len(rows)} notebooks, {long} of them with 15 or more cells in the styles found in the wild.",
        f"- **{served} served ({served / len(rows):.0%})**; {reviewed['live only']} served but live only (a pickle:"
        f" no export); {reviewed['refused']} refused; {gaps} with a known gap, where an answer is wrong.",
        f"- {wrong} with another outcome than the reviewed one.",
    ]
    if tried:
        lines.append(
            f"- {tried} mutants (each captured name dropped, each literal and value made stale): {noticed}"
            f" noticed by another answer, {named} without influence on any and named so in their notebooks (used by"
            f" constructors or annotations only, or a change too slight), {survived} not noticed."
        )
    return lines


def _line(row: Row) -> str:
    about, why = (text.replace("|", "\\|").replace("\n", " ") for text in (row.notebook.about, row.reason))
    size = f"{row.outcome.bytes:,}" if row.outcome.entries else ""
    cells = [
        row.notebook.name,
        about,
        len(row.notebook.cells),
        len(row.outcome.entries) or "",
        size,
        row.said,
        why[:220],
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    """0 where every outcome is the reviewed one and no mutant survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the mutants")
    parser.add_argument("names", nargs="*", help="only notebooks whose names start so; the page is not written")
    asked = parser.parse_args()
    notebooks = [each for each in read_all() if not asked.names or each.name.startswith(tuple(asked.names))]
    began = time.monotonic()
    rows = play_all(notebooks, mutate=not asked.quick)
    bad = [row for row in rows if row.wrong or row.survivors]
    text = page(rows)
    if not asked.names and not asked.quick:
        PAGE.write_text(text, "utf-8")
    print("\n".join(line for line in text.splitlines() if line.startswith("- ")))
    print(f"{time.monotonic() - began:.0f} s; {len(bad)} to look at: {' '.join(row.notebook.name for row in bad)}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
