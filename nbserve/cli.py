"""The `nbserve` command: parses, calls the verb, shows what it returned.

Exit codes: see `EXIT_CODES`; what 1 means for a verb is in its row of the table. A user's mistake is a line on standard
error and what to do about it; only a bug of nbserve shows a stack, and where to report it.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from nbserve import __version__
from nbserve.completion import PROGRAM, VARIABLE
from nbserve.errors import GatewayError, NbserveError, NotFound, UsageError
from nbserve.resolve import Gateways
from nbserve.tables import log_lines, plain, to_text
from nbserve.verbs import VERBS, Verb, command, invoke

__all__ = ["EXIT_CODES", "SECTIONS", "main", "run"]

EXIT_CODES = {
    0: "done",
    1: "failed",
    2: "wrong usage",
    3: "no such endpoint or gateway",
    4: "the gateway cannot be started or reached",
    130: "ended by Ctrl-C",
    143: "ended by SIGTERM",
}
SECTIONS = {
    "Serve": ("serve", "list", "status", "logs", "scale", "rollback", "stop"),
    "Ask and measure": ("predict", "token", "bench", "record", "profile", "advise"),
    "Look inside and prove": ("explain", "verify", "failures", "attach"),
    "Ship": ("export",),
    "This machine": ("doctor", "demo", "completion"),
}
"""How `nbserve --help` groups the verbs."""
REPORT_URL = "https://github.com/nbserve/nbserve/issues"
_PIPE_WIDTH = 10_000
"""Of tables that no terminal shows: a row stays a line, for grep. COLUMNS changes it."""

_EPILOG = """\b
Examples:
  nbserve list
  nbserve serve path/to/bundle --port 8080
  nbserve predict digits --file digit.png
  nbserve doctor

`nbserve VERB --help` has more of them.

"""


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # what handlers print may not fit the terminal's encoding
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that what was started is ended
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """One invocation; the exit code."""
    try:
        code = _group().main(list(arguments), prog_name=PROGRAM, complete_var=VARIABLE, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as exc:
        exc.show()
        return 2
    except NbserveError as exc:
        _show_error(exc)
        return _exit_code(exc)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except Exception as exc:
        if isinstance(exc, OSError) and exc.filename:  # a folder that cannot be written, a disk that is full
            print(f"nbserve: {exc.filename}: {exc.strerror}", file=sys.stderr)
        else:
            _show_bug()
        return 1


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # as the table has them, not by letter

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        longest = max(map(len, self.commands))
        limit = formatter.width - 6 - longest
        for section, names in SECTIONS.items():
            present = [name for name in names if name in self.commands]
            rows = [(name.ljust(longest), self.commands[name].get_short_help_str(limit)) for name in present]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)


def _group() -> click.Group:
    codes = ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    group = _Verbs(
        PROGRAM,
        help="Model serving that lives in the notebook: its endpoints, and the bundles that they are made of.",
        epilog=f"{_EPILOG}Exit codes: {codes}.",
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


def _callback(verb: Verb) -> Callable[..., int]:
    def do(**params: Any) -> int:
        data = invoke(verb, Gateways(), params)
        try:
            _show(verb, data, as_json=bool(params.get("as_json")))
            sys.stdout.flush()
        except BrokenPipeError:  # `nbserve list | head`: whoever read has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(verb.failed(data))

    return do


def _show(verb: Verb, data: Any, *, as_json: bool) -> None:
    if as_json:
        _print_json(data)
    elif isinstance(data, Iterator):
        for event in data:
            print("\n".join(log_lines(event)), flush=True)
    elif verb.name == "predict" and not sys.stdout.isatty():
        sys.stdout.buffer.write(data[1])  # into a file or a pipe: the answer's own bytes
    else:
        _print(verb.show(data))


def _print_json(data: Any) -> None:
    import json

    if isinstance(data, Iterator):  # followed logs: one object a line, as they come
        for item in data:
            print(json.dumps(plain(item)), flush=True)
    else:
        print(json.dumps(plain(data), indent=2))


def _print(shown: Any) -> None:
    if isinstance(shown, str):
        if shown:
            print(shown)
    elif sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False, markup=False).print(shown)
    else:
        width = os.environ.get("COLUMNS", "")
        print(to_text(shown, int(width) if width.isdigit() else _PIPE_WIDTH))


def _show_error(exc: NbserveError) -> None:
    lines = [f"nbserve: {exc.message}"]
    if exc.info is not None and exc.info.traceback:
        lines += exc.info.traceback
    hint = exc.hint or (exc.info.hint if exc.info else "")
    if hint:
        lines.append(f"What to do: {hint}")
    print("\n".join(lines), file=sys.stderr)


def _show_bug() -> None:
    traceback.print_exc()
    print(
        f"\nnbserve: this is a bug of nbserve, not of what you typed. Please report it, with the lines above, at\n"
        f"{REPORT_URL} (nbserve {__version__}, Python {platform.python_version()}, {platform.platform()})",
        file=sys.stderr,
    )


def _exit_code(exc: NbserveError) -> int:
    if isinstance(exc, UsageError):
        return 2
    if isinstance(exc, NotFound):
        return 3
    return 4 if isinstance(exc, GatewayError) else 1
