"""What a shell completes after `nbserve`: the script for it, and names that running gateways give. (A notebook's Tab is
notebook/completion.py.)

Called by the table of verbs; click finds verbs, options and choices by itself. A gateway that does not answer within
`ANSWER_TIMEOUT_S` gives no names: a Tab must not hang.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

__all__ = [
    "PROGRAM",
    "VARIABLE",
    "complete_bundle_or_name",
    "complete_gateway",
    "complete_name",
    "complete_version",
    "script",
]

PROGRAM = "nbserve"
VARIABLE = "_NBSERVE_COMPLETE"
"""The environment variable by which the script asks; click's own name for it."""
ANSWER_TIMEOUT_S = 2.0


def script(shell: str) -> str:
    """The completion script for bash (4.4 or newer), zsh or fish."""
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "a choice of the verb"
    return ShellComplete.source(kind(click.Command(PROGRAM), {}, PROGRAM, VARIABLE))


def complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of endpoints."""
    return _items((name for name, _ in _served()), incomplete)


def complete_bundle_or_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of endpoints; where none fits, the shell completes folders."""
    return complete_name(ctx, param, incomplete) or [CompletionItem(incomplete, type="dir")]


def complete_version(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Versions of the endpoint that is named before."""
    before = [ctx.params.get("name"), *ctx.args]  # in args while the option that is completed has no value yet
    wanted = next((word for word in before if word), "").partition("@")[0]
    return _items((version for name, version in _served() if name == wanted), incomplete)


def complete_gateway(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of running gateways."""
    from nbserve import discovery

    return _items((record.id for record in discovery.records()), incomplete)


def _served() -> list[tuple[str, str]]:
    """(name, version) of what all gateways serve, as far as they say so in time."""
    found: list[tuple[str, str]] = []

    def ask() -> None:
        from nbserve.resolve import Gateways

        for gateway in Gateways():
            found.extend((model.name, model.version) for model in gateway.status.models)

    thread = threading.Thread(target=ask, name="nbserve-completion", daemon=True)
    thread.start()
    thread.join(ANSWER_TIMEOUT_S)
    return list(found)


def _items(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in sorted(set(words)) if word.startswith(incomplete)]
