"""`make faults`: every fault of the table against a real gateway, counted by its clients.

    python -m tests.faults.run                          everything, about an hour; writes docs/reliability.md
    python -m tests.faults.run --times 1                each row once, some four minutes
    python -m tests.faults.run --rows swap,kill-1 --times 2
    python -m tests.faults.run --out faults.json        results as JSON; rows that do not run keep what is in it
    python -m tests.faults.run --rows swap --times 5 --add --out faults.json    five more runs of the same commit

Exit code 1 where a `must` of a row that ran is broken. The page is written once there is a result for every row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from tests.benchmarks.endpoints import commit, machine
from tests.faults.result import RowResult, Run, markdown_table, rich_table
from tests.faults.row import Row
from tests.faults.stage import stage
from tests.faults.table import ROWS

__all__ = ["main", "play", "write_page"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin (make faults) -->", "<!-- faults: end -->"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every `must` held."""
    options = parse_options(arguments)
    console = Console(width=None if os.isatty(1) else 180)
    known = read(options.out)
    ran: list[RowResult] = []
    for name in options.rows:
        row = ROWS[name]()
        times = options.times or row.times
        console.print(f"[bold]{name}[/bold]: {row.fault} ({times} runs)")
        here = commit(ROOT)
        before = known.get(name) if options.add else None
        if before is not None and before.commit != here:
            console.print(f"  {len(before.runs)} runs of {before.commit} are left out: this is {here}")
            before = None
        done = len(before.runs) if before is not None else 0
        result = asyncio.run(play(row, times, options.seed, lambda text: console.print(f"  {text}", style="dim"), done))
        result.commit = here
        if before is not None:
            result.runs = before.runs + result.runs
            result.seconds += before.seconds
        ran.append(result)
        known[name] = result
        if options.out:
            write(options.out, known)
    console.print(rich_table(ran))
    report(ran, console)
    if set(known) >= set(ROWS) and not options.no_page:
        write_page(PAGE, [known[name] for name in ROWS], machine("clients, gateway and workers share them"))
        console.print(f"written: {PAGE.relative_to(ROOT)}")
    return 0 if all(result.held for result in ran) else 1


async def play(
    row: Row, times: int, seed: int, say: Callable[[str], None] = lambda _: None, done: int = 0
) -> RowResult:
    """So many runs of a row on one stage, and a look at what the gateway leaves behind at its end.

    `done`: runs of it that there are already; these go on with the next ones' random numbers.
    """
    result = RowResult(row.name, row.fault, row.must, seed=seed)
    began_s = time.monotonic()
    async with stage() as here:
        failed = await guarded(row.prepare(here), row.limit_s)
        for number in range(done, done + times if failed is None else done):
            run = await guarded(row.run(here, random.Random(f"{seed}-{row.name}-{number}")), row.limit_s)
            assert run is not None
            result.runs.append(run)
            say(f"run {number + 1} of {done + times}: " + ("; ".join(run.broken)[:400] if run.broken else "held"))
        if failed is not None:
            result.runs.append(failed)
        left = await here.end()
        if left:
            result.runs[-1].broken.append(f"left behind at the end: {', '.join(left)[:500]}")
            say(result.runs[-1].broken[-1])
    result.seconds = time.monotonic() - began_s
    return result


async def guarded(part: object, limit_s: float) -> Run | None:
    """What this part of a row returned; where it raised or took too long, a broken run that says so."""
    try:
        async with asyncio.timeout(limit_s):
            return await part  # type: ignore[misc, no-any-return]
    except TimeoutError:
        return Run(broken=[f"not over after {limit_s:g} s"])
    except Exception as exc:
        return Run(broken=[f"it could not be played: {type(exc).__name__}: {exc}"])


def report(results: Sequence[RowResult], console: Console) -> None:
    """Why rows are broken, and how to see it again."""
    for result in results:
        if not result.held:
            console.print(
                f"[bold red]broken: {result.name}[/bold red]  (again: --rows {result.name} --seed {result.seed})"
            )
            for reason in result.broken() or ["it did not run"]:
                console.print(f"  {reason}", markup=False)


def read(path: Path | None) -> dict[str, RowResult]:
    """Results of earlier runs."""
    if path is None or not path.exists():
        return {}
    rows = json.loads(path.read_text())["rows"]
    return {row["name"]: RowResult.from_plain(row) for row in rows if row["name"] in ROWS}


def write(path: Path, results: dict[str, RowResult]) -> None:
    """All results, in the order of the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [results[name].plain() for name in ROWS if name in results]
    path.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def write_page(page: Path, results: Sequence[RowResult], where: str) -> None:
    """Put the table between the markers of the page."""
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in rest:
        raise ValueError(f"{page} has lost its markers: {BEGIN} ... {END}")
    names: dict[str, list[str]] = {}
    for result in results:
        names.setdefault(result.commit or "unknown", []).append(result.name)
    commits = "; ".join(
        f"{commit} ({', '.join(rows)})" if len(names) > 1 and len(rows) < len(results) / 2 else commit
        for commit, rows in sorted(names.items(), key=lambda item: -len(item[1]))
    )
    minutes = sum(result.seconds for result in results) / 60
    note = f"Measured on {where}; commit {commits}; {minutes:.0f} minutes in all."
    page.write_text(f"{before}{BEGIN}\n\n{note}\n\n{markdown_table(results)}\n\n{END}{after}")


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(ROWS), metavar="A,B")
    parser.add_argument("--times", type=int, help="runs of each row (default: the row's own, mostly 20)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    parser.add_argument("--out", type=Path, help="JSON file; results of other rows in it are kept")
    parser.add_argument("--add", action="store_true", help="keep earlier runs of the same commit in --out, and go on")
    parser.add_argument("--no-page", action="store_true", help="do not write docs/reliability.md")
    parser.add_argument("--list", action="store_true", help="show the rows and end")
    options = parser.parse_args(arguments)
    if options.list:
        for row in ROWS.values():
            print(f"{row.name:12}{row.fault}; must: {row.must}")
        sys.exit(0)
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
