"""The verbs `profile` and `advise` as the table of verbs has them: options, and functions that load the rest."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbserve.resolve import Served
from nbserve.wire.profile import BATCHES, MAX_BATCHES, MAX_SECONDS, SECONDS, ProfileStatus

if TYPE_CHECKING:
    from nbserve.measure.profile_result import ProfileResult
    from nbserve.profiling import Advice

__all__ = ["ADVISE_PARAMS", "PROFILE_PARAMS", "advise", "profile", "show_advice", "show_profile"]

PROFILE_PARAMS: tuple[click.Parameter, ...] = (
    click.Option(
        ["--batches"],
        type=click.IntRange(1, MAX_BATCHES),
        default=None,
        metavar="N",
        help=f"How many batches.  [default: {BATCHES}; with --seconds, all that come]",
    ),
    click.Option(
        ["--seconds"],
        type=click.FloatRange(0, MAX_SECONDS, min_open=True),
        default=None,
        metavar="S",
        help=f"How long at most.  [default: {SECONDS:g}]",
    ),
    click.Option(["--worker"], type=int, default=None, metavar="N", help="Which worker.  [default: the busiest]"),
    click.Option(["--shapes"], is_flag=True, help="With the shapes and types of each operator's inputs."),
    click.Option(["--memory"], is_flag=True, help="With what is allocated."),
    click.Option(["--stacks"], is_flag=True, help="With the Python functions around the operators; slows them down."),
    click.Option(["--send-sample"], is_flag=True, help="Send the sample meanwhile, from four clients at once."),
    click.Option(
        ["--system"],
        is_flag=True,
        help="Sample gateway and workers with py-spy meanwhile: framework, Python, native, idle.",
    ),
    click.Option(
        ["--out"],
        type=click.Path(path_type=Path),
        default=None,
        metavar="FILE",
        help="Write the trace for ui.perfetto.dev: packed Chrome JSON, the gateway's spans in it.",
    ),
    click.Option(
        ["--show"], default="", metavar="ID", help="One that was made: its id, a profiled request's id, or last."
    ),
    click.Option(["--list", "list_"], is_flag=True, help="Those that the gateway keeps."),
    click.Option(["--no-wait"], is_flag=True, help="Begin, and return; --show last reads it."),
    click.Option(["--stop"], is_flag=True, help="End the one that goes on, and read it."),
)

ADVISE_PARAMS: tuple[click.Parameter, ...] = (
    click.Option(
        ["--seconds"],
        type=click.FloatRange(0, MAX_SECONDS),
        default=0.0,
        show_default="since it was loaded",
        metavar="S",
        help="Look at the traffic of the next S seconds.",
    ),
)


def profile(
    served: Served,
    say: Callable[[str], None] | None = None,
    show: str = "",
    list_: bool = False,
    no_wait: bool = False,
    stop: bool = False,
    **wanted: Any,
) -> ProfileResult | ProfileStatus | list[ProfileStatus]:
    """Profile a live worker, or see to profiles that there are. `wanted`: fields of profiling.Wanted."""
    from nbserve.profiling import Wanted, profile_endpoint

    return profile_endpoint(
        served, Wanted(**wanted), say or _to_stderr, show=show, list_=list_, no_wait=no_wait, stop=stop
    )


def advise(served: Served, seconds: float = 0.0) -> Advice:
    """What rules say of an endpoint's counters."""
    from nbserve.profiling import advise_endpoint

    return advise_endpoint(served, seconds, _to_stderr if seconds else None)


def show_profile(data: ProfileResult | ProfileStatus | list[ProfileStatus]) -> Any:
    """For a terminal."""
    from nbserve.measure.profile_report import renderable, statuses

    if isinstance(data, list):
        return statuses(data)
    if isinstance(data, ProfileStatus):
        return f"{data.name} is being profiled; `nbserve profile {data.name} --show last` reads it when it is over"
    return renderable(data)


def show_advice(data: Advice) -> Any:
    """For a terminal."""
    from rich.console import Group
    from rich.text import Text

    from nbserve.measure.profile_report import told_findings

    span = f"the last {data.seconds:g} s" if data.seconds else "all since it was loaded"
    head = f"{data.name} version {data.version}: {data.requests:,} requests ({span})"
    return Group(Text(head), told_findings(data.findings))


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
