"""The `nbserve` command: parses, calls the verb, shows what it returned.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such endpoint or gateway, 4 gateway cannot be started or reached,
130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from nbserve import __version__
from nbserve.errors import GatewayError, NbserveError, NotFound, UsageError
from nbserve.resolve import Gateways
from nbserve.tables import log_lines, plain
from nbserve.verbs import VERBS, Verb, command, invoke

__all__ = ["main", "run"]

_EPILOG = """\b
Examples:
  nbserve list
  nbserve serve path/to/bundle --port 8080
  curl -H "Authorization: Bearer $(nbserve token digits)" -H "Content-Type: application/json" -d "[1, 2]" URL

\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such endpoint, 4 gateway cannot be started or reached."""


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """One invocation; the exit code."""
    try:
        code = _group().main(list(arguments), prog_name="nbserve", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as exc:
        exc.show()
        return 2
    except NbserveError as exc:
        _show_error(exc)
        return _exit_code(exc)
    except (KeyboardInterrupt, click.Abort):
        return 130


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # as the table has them, not by letter


def _group() -> click.Group:
    group = _Verbs(
        "nbserve",
        help="Model serving that lives in the notebook: see, query and stop its endpoints; serve bundles.",
        epilog=_EPILOG,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
    )
    group.params.append(_version_option())
    for verb in VERBS.values():
        if verb.in_face("cli"):
            parsed = command(verb, "cli")
            parsed.callback = _callback(verb)
            group.add_command(parsed)
    return group


def _version_option() -> click.Option:
    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(f"nbserve {__version__}")
            ctx.exit()

    return click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show, help="Show it.")


def _callback(verb: Verb) -> Callable[..., None]:
    def do(**params: Any) -> None:
        data = invoke(verb, Gateways(), params)
        try:
            _show(verb, data, as_json=bool(params.get("as_json")))
            sys.stdout.flush()
        except BrokenPipeError:  # `nbserve list | head`: whoever read has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return do


def _show(verb: Verb, data: Any, *, as_json: bool) -> None:
    if as_json:
        _print_json(data)
    elif isinstance(data, Iterator):
        _print_stream(data)
    else:
        _print(verb.show(data))


def _print_json(data: Any) -> None:
    import json

    if isinstance(data, Iterator):  # followed logs: one object a line, as they come
        for item in data:
            print(json.dumps(plain(item)), flush=True)
    else:
        print(json.dumps(plain(data), indent=2))


def _print_stream(events: Iterator[Any]) -> None:
    try:
        for event in events:
            print("\n".join(log_lines(event)), flush=True)
    except KeyboardInterrupt:
        return  # how following ends


def _print(shown: Any) -> None:
    if isinstance(shown, str):
        if shown:
            print(shown)
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(shown)


def _show_error(exc: NbserveError) -> None:
    lines = [f"nbserve: {exc.message}"]
    if exc.info is not None and exc.info.traceback:
        lines += exc.info.traceback
    hint = exc.hint or (exc.info.hint if exc.info else "")
    if hint:
        lines.append(f"What to do: {hint}")
    print("\n".join(lines), file=sys.stderr)


def _exit_code(exc: NbserveError) -> int:
    if isinstance(exc, UsageError):
        return 2
    if isinstance(exc, NotFound):
        return 3
    return 4 if isinstance(exc, GatewayError) else 1
