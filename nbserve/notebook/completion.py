"""Tab in the line of our magics: verbs, options, their choices, the names that this notebook serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

__all__ = ["complete", "make_matcher"]

Commands = Callable[[str], click.Command | None]


def complete(line: str, command: click.Command, names: Sequence[str]) -> list[str]:
    """What may stand at the end of `line` (the text after the magic's name, up to the cursor)."""
    words = line.split(" ")
    fragment, before = words[-1], [word for word in words[:-1] if word]
    options = {name: option for option in command.params if isinstance(option, click.Option) for name in option.opts}
    previous = options.get(before[-1]) if before else None
    if previous is not None and not previous.is_flag:
        choices = _choices(previous)
    elif fragment.startswith("-"):
        used = {word for word in before if word in options and not options[word].multiple}
        choices = [name for name in options if name.startswith("--") and name not in used]
    elif not before and any(isinstance(p, click.Argument) and p.name == "name" for p in command.params):
        choices = list(names)
    else:
        choices = []
    return [choice for choice in choices if choice.startswith(fragment)]


def make_matcher(commands: Mapping[str, click.Command], names: Callable[[], Sequence[str]]) -> Any:
    """A matcher for `ip.Completer.custom_matchers`. `commands`: by magic with its verb, "%nbserve list"."""
    from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

    verbs = [line.partition(" ")[2] for line in commands if line.startswith("%nbserve ")]

    @context_matcher(identifier="nbserve")  # type: ignore[untyped-decorator, unused-ignore]
    def nbserve_matcher(context: CompletionContext) -> dict[str, Any]:
        line = context.line_with_cursor[: context.cursor_position].lstrip()
        found: list[str] = []
        if line.startswith("%nbserve ") and " " not in line.removeprefix("%nbserve "):
            found = [verb for verb in verbs if verb.startswith(line.removeprefix("%nbserve "))]
        else:
            magic = next((magic for magic in commands if line.startswith(f"{magic} ")), None)
            if magic is not None:
                found = complete(line[len(magic) + 1 :], commands[magic], names())
        return {
            "completions": [SimpleCompletion(text=text, type="param") for text in found],
            "matched_fragment": line.rpartition(" ")[2],
            "suppress": bool(found),
        }

    return nbserve_matcher


def _choices(option: click.Option) -> list[str]:
    if isinstance(option.type, click.Choice):
        return [str(choice) for choice in option.type.choices]
    return {"device": ["auto", "cpu", "cuda"], "workers": ["auto", "1", "2", "4"]}.get(option.name or "", [])
