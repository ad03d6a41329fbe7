"""The options of `serve`, once for every face: names, types, help; defaults come from config.ModelConfig.

Read by the table of verbs (CLI and line magic) and by the cell magic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from nbserve.config import ModelConfig
from nbserve.errors import UsageError

__all__ = ["CELL_OPTIONS", "MODEL_OPTIONS", "SERVER_OPTIONS", "model_config"]

_DEFAULTS = ModelConfig()

_UNIT_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>b|[kmgt]i?b|)", re.IGNORECASE)


class _WorkerCount(click.ParamType[Any]):
    """A number of workers, `auto`, or a range."""

    name = "N|auto|MIN:MAX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == "auto" or isinstance(value, int) or re.fullmatch(r"\d+:\d+", value):
            return value  # type: ignore[no-any-return]
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'auto' nor MIN:MAX", param, ctx)


class _Size(click.ParamType[Any]):
    """Bytes: a plain number, or one with a unit."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r} is no size; write bytes, or a number with KB, MB, GB, KiB, MiB or GiB", param, ctx)
        return int(float(match["number"]) * _UNIT_BYTES[match["unit"].lower()])


class _Failures(click.ParamType[Any]):
    """A number, or `off`."""

    name = "N|off"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return 0 if value == "off" else int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'off'", param, ctx)


class _Names(click.ParamType[Any]):
    """FIELD,FIELD."""

    name = "FIELD,FIELD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        return value if isinstance(value, list) else [name for text in value.split(",") if (name := text.strip())]


class _Assignment(click.ParamType[Any]):
    """K=V."""

    name = "K=V"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, sign, text = str(value).partition("=")
        if not sign or not key:
            self.fail(f"{value!r} is not K=V", param, ctx)
        return key, text


def _option(name: str, kind: Any, help_: str, **settings: Any) -> click.Option:
    field = name.removeprefix("--").replace("-", "_")
    default = getattr(_DEFAULTS, field, None)
    shown = default is not None and not settings.get("multiple")
    settings = {"default": default if shown else None, "show_default": shown} | settings
    return click.Option([name], type=kind, help=help_, **settings)


MODEL_OPTIONS: tuple[click.Option, ...] = (
    _option("--workers", _WorkerCount(), "Worker kernels; auto = usable cores / threads; MIN:MAX follows the load."),
    _option("--threads", int, "Compute threads of a worker.", show_default="usable cores / workers", metavar="N"),
    _option("--max-batch-size", int, "Most requests in one batch.", metavar="N"),
    _option(
        "--max-batch-delay-ms",
        float,
        "How long a batch may wait for more, from the oldest request's arrival; 0 = never while a worker is idle.",
        metavar="MS",
    ),
    _option("--slo-ms", float, "Latency objective; requests that cannot meet it get 503 at once.", metavar="MS"),
    _option("--response-timeout-s", float, "A handler that takes longer is interrupted: 504.", metavar="S"),
    _option("--startup-timeout-s", float, "A worker that is not ready by then has failed.", metavar="S"),
    _option("--max-queue-size", int, "Most requests that wait; more get 503.", metavar="N"),
    _option("--max-queue-bytes", int, "Most bytes of bodies that wait.", metavar="BYTES"),
    _option("--device", str, "auto, cpu, cuda or cuda:i.", metavar="DEVICE"),
    _option(
        "--env", _Assignment(), "Environment variable of the workers; may be repeated.", multiple=True, metavar="K=V"
    ),
    _option(
        "--start",
        click.Choice(["auto", "fork", "spawn"]),
        "Fork workers from a process that has imported what they need, or spawn each anew; auto: fork if possible.",
    ),
    _option(
        "--swap",
        click.Choice(["auto", "blue-green", "rolling", "stop-first"]),
        "How a running version is replaced; auto: blue-green where memory allows.",
    ),
    _option(
        "--proof",
        click.Choice(["on", "off"]),
        "Compare a worker's answer to the sample with the notebook's before it takes traffic.",
    ),
    _option(
        "--isolate",
        click.Choice(["on", "off"]),
        "Run a batch that failed again in parts, to find the requests at fault.",
    ),
    _option(
        "--retries", int, "How often a request whose worker died is tried again; 0 with side effects.", metavar="N"
    ),
    _option("--failures", _Failures(), "Failed requests that are kept for `failures` and `replay`; the last ones."),
    _option(
        "--redact",
        _Names(),
        "JSON fields whose values are not handed out with a failed request, at any depth.",
        default="",
        show_default=False,
    ),
    _option("--max-requests", int, "A worker is replaced by a fresh one after so many requests.", metavar="N"),
    click.Option(
        ["--max-rss", "max_rss_bytes"],
        type=_Size(),
        metavar="SIZE",
        help="A worker is replaced when its memory has grown over this: 2GB, 1500MB, 1GiB, or bytes.",
    ),
)

CELL_OPTIONS: tuple[click.Option, ...] = (
    click.Option(
        ["--sample"],
        metavar="EXPR",
        help="An expression of the notebook (no quoting): one request's value. Warms the workers, is the proof.",
    ),
    click.Option(["--handler"], metavar="NAME", help="Which class or function to serve, where there are several."),
    click.Option(["--detach"], is_flag=True, help="The endpoint outlives this kernel; `nbserve stop NAME` ends it."),
    click.Option(["--no-wait"], is_flag=True, help="Return at once, while the workers load."),
)

SERVER_OPTIONS: tuple[click.Option, ...] = (
    click.Option(
        ["--profile"],
        type=click.Choice(["server", "container"]),
        default="server",
        show_default=True,
        help="container: one port for all on 0.0.0.0, inference open, management off unless a token is given.",
    ),
    click.Option(["--host"], metavar="ADDRESS", help="Where to listen.  [default: 127.0.0.1; container: 0.0.0.0]"),
    click.Option(
        ["--port"],
        type=click.IntRange(0, 65535),
        metavar="P",
        help="Inference; 0 = any free port, for all three.  [default: 8080]",
    ),
    click.Option(
        ["--management-port"], type=click.IntRange(0, 65535), metavar="P", help="Management.  [default: 8081]"
    ),
    click.Option(["--metrics-port"], type=click.IntRange(0, 65535), metavar="P", help="Metrics.  [default: 8082]"),
    click.Option(
        ["--token"],
        envvar="NBSERVE_TOKEN",
        metavar="TOKEN",
        help="Bearer token that clients send; better in NBSERVE_TOKEN, which `ps` does not show.  [default: random]",
    ),
)

_OPTION_OF = {option.name: option.opts[0] for option in MODEL_OPTIONS}
"""Field of ModelConfig -> the option that a user writes."""


def model_config(params: Mapping[str, Any]) -> ModelConfig:
    """Parsed options -> ModelConfig. Raises UsageError for values that cannot be."""
    fields = {name: params[name] for name in ModelConfig.__struct_fields__ if name in params}
    fields["env"] = dict(fields.get("env") or ())
    try:
        return ModelConfig(**fields)
    except (ValueError, msgspec.ValidationError) as exc:
        name, _, rest = str(exc).partition(" ")
        raise UsageError(f"{_OPTION_OF.get(name, name)} {rest}") from exc
