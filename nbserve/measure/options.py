"""The options of `bench`, once for every face: `BenchOptions`, and the same as click's options for CLI and magic.

Read by the table of verbs, `Endpoint.bench` and `bench.py`. Light: `nbserve --help` loads it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from nbserve.errors import UsageError
from nbserve.measure.result import Arrivals

__all__ = ["BENCH_PARAMS", "BenchOptions", "Body", "bench_options"]


class Body(NamedTuple):
    """One request's body."""

    content: bytes
    content_type: str


class BenchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. Neither `rate`, `concurrency` nor `search`: a closed loop that fills the endpoint's batches."""

    rate: float | None = None
    """Open loop: requests a second, sent whether or not earlier ones are answered."""
    arrivals: Arrivals = "poisson"
    concurrency: int | None = None
    """Closed loop: so many clients, each of which sends when it was answered."""
    search: bool = False
    """Find the highest rate that meets `slo`."""
    slo: str = ""
    duration_s: float = 10.0
    warmup_s: float = 1.0
    """Before each run, not counted."""
    repeat: int = 1
    against: str = ""
    """Another version of the endpoint, measured in turns with this one."""
    bodies: tuple[Body, ...] = ()
    """Sent in turn; empty: the endpoint's sample, or nothing to a URL."""
    offsets_s: tuple[float, ...] = ()
    """Open loop by a recording: when each of `bodies` is due, from the start. The whole of it is measured."""
    method: str = ""
    """For URLs that are not ours: POST where there is a body, else GET."""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    seed: int = 1
    """Of the arrivals."""
    timeout_s: float = 30.0
    """A request that is not answered by then has failed."""
    processes: int | None = None
    """Load processes; None = one for each free core up to four, or one where none is free."""

    def __post_init__(self) -> None:
        modes = [self.rate is not None, self.concurrency is not None, self.search, bool(self.offsets_s)]
        if sum(modes) > 1:
            raise UsageError("--rate, --concurrency, --search and --replay exclude each other")
        if self.against and self.offsets_s:
            raise UsageError("--against takes no --replay", hint="measure one version, then the other")
        if self.search != bool(self.slo):
            raise UsageError("--search and --slo belong together", hint="--search --slo 'p99<10ms'")
        if self.against and (self.search or self.repeat > 1):
            raise UsageError("--against takes no --search and no --repeat: it measures both versions in ten turns")
        if self.search and self.repeat > 1:
            raise UsageError("--search takes no --repeat: it confirms what it found by itself")
        for name in ("rate", "concurrency", "duration_s", "repeat", "timeout_s", "processes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"--{name.removesuffix('_s')} must be positive, not {value}")
        if self.warmup_s < 0:
            raise UsageError("--warmup must not be negative")


_DEFAULTS = BenchOptions()
_option = functools.partial(click.Option, show_default=True)


def _header(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition(":") for text in value]
    for name, colon, _ in pairs:
        if not (name.strip() and colon):
            raise click.BadParameter(f"{name!r} is not NAME: VALUE", ctx, param)
    return {name.strip(): text.strip() for name, _, text in pairs}


def _seconds(names: list[str], default: float, help_: str) -> click.Option:
    return _option(names, type=float, default=default, metavar="S", help=help_)


BENCH_PARAMS: tuple[click.Option, ...] = (
    _option(
        ["--rate"],
        type=float,
        default=None,
        metavar="R",
        help="Open loop: requests a second, whether or not answers come.",
    ),
    _option(
        ["--arrivals"],
        type=click.Choice(["poisson", "constant", "bursty"]),
        default=_DEFAULTS.arrivals,
        help="When they come, with --rate and --search; bursty: eight at a time in the mean.",
    ),
    _option(
        ["--concurrency"],
        type=int,
        default=None,
        metavar="C",
        help="Closed loop: clients that send when they are answered.  [default: as many as fill the batches]",
    ),
    _option(["--search"], is_flag=True, default=False, show_default=False, help="The highest rate that meets --slo."),
    _option(["--slo"], default="", show_default=False, metavar="SLO", help="p99<10ms, p50<800us, mean<0.2s."),
    _seconds(["--duration", "duration_s"], _DEFAULTS.duration_s, "Measured time of a run, in seconds."),
    _seconds(["--warmup", "warmup_s"], _DEFAULTS.warmup_s, "Time before each run that is not counted."),
    _option(["--repeat"], type=int, default=_DEFAULTS.repeat, metavar="N", help="Runs, for confidence intervals."),
    _option(
        ["--against"],
        default="",
        show_default=False,
        metavar="VERSION",
        help="Measure that version in turns with this one, and say whether they differ.",
    ),
    _option(
        ["--data"],
        default=None,
        metavar="FILE",
        help="What to send: a file (.jsonl: one body a line), in a notebook also an expression.  [default: the sample]",
    ),
    _option(
        ["--replay"],
        type=click.Path(path_type=Path),
        default=None,
        metavar="FILE",
        help="A file of `nbserve record`: its requests at the moments at which they came, from the first to the last.",
    ),
    _option(
        ["--speed"],
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        metavar="X",
        help="With --replay: so many times as fast.",
    ),
    _option(["--content-type"], default="", show_default=False, help="Of the body.  [default: by the file's name]"),
    _option(["--method"], default="", show_default=False, help="For a URL.  [default: POST with a body, else GET]"),
    _option(["--header", "headers"], multiple=True, callback=_header, metavar="NAME:VALUE", help="May be repeated."),
    _option(["--seed"], type=int, default=_DEFAULTS.seed, metavar="N", help="Of the arrivals."),
    _seconds(["--timeout", "timeout_s"], _DEFAULTS.timeout_s, "A request that is not answered by then has failed."),
    _option(
        ["--processes"],
        type=int,
        default=None,
        metavar="N",
        help="Load processes.  [default: one a free core, up to four]",
    ),
)


def bench_options(params: dict[str, Any], bodies: tuple[Body, ...], offsets_s: tuple[float, ...] = ()) -> BenchOptions:
    """Parsed options -> BenchOptions. Raises UsageError for what cannot be, or not together."""
    fields = {name: params[name] for name in BenchOptions.__struct_fields__ if name in params}
    return BenchOptions(**fields, bodies=bodies, offsets_s=offsets_s)
