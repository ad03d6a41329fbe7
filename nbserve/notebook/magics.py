"""The magics: `%%serve_handler NAME` and `%nbserve VERB`, with an alias `%nbserve_VERB` for each verb.

`load` and `unload` are what `%load_ext nbserve` and `%unload_ext nbserve` call. Parsing, calling and showing only: the
verbs are in `verbs.py`, the story of a serve in `serve.py`.
"""

from __future__ import annotations

import ast
import contextlib
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import click

from nbserve.capture.cells import Cells
from nbserve.config import ModelConfig
from nbserve.endpoint import Endpoint, Secret
from nbserve.errors import NotFound, UsageError
from nbserve.explanation import Explanation
from nbserve.failures import find_failure
from nbserve.notebook.await_body import make_transformer
from nbserve.notebook.board import Board
from nbserve.notebook.body import pick_handler, run_body
from nbserve.notebook.completion import make_matcher
from nbserve.notebook.history import History
from nbserve.notebook.launcher import NotebookGateway, kernel_id, notebook_name
from nbserve.notebook.parsing import parse
from nbserve.notebook.serve import Asked, Serving
from nbserve.options import CELL_OPTIONS, MODEL_OPTIONS, model_config
from nbserve.resolve import Gateways
from nbserve.tables import log_lines, status, to_text
from nbserve.verbs import VERBS, Verb, command, invoke
from nbserve.wire.management import GatewayStatus, ModelStatus

__all__ = ["Report", "extension_of", "load", "unload"]

_EXTENSION = "_nbserve_extension"
_GATEWAY = "_nbserve_gateway"
"""Attributes of the shell; the gateway's outlives `%unload_ext`, as the gateway does."""
_STAGED = {"export": "exported", "record": "recorded", "profile": "profiled"}
"""Verbs that say what they are doing, and the word for its end."""
_CELL_EXAMPLE = """\b
Examples:
  %%serve_handler digits --sample x_test[0]
  %%serve_handler digits --workers 2 --max-batch-size 16 --slo-ms 50 --sample {"image": x_test[0]}
"""


def load(ip: Any) -> None:
    """Register the magics, completion and the listening to cells; again = no change."""
    if getattr(ip, _EXTENSION, None) is None:
        extension = _Extension(ip)
        extension.start()
        setattr(ip, _EXTENSION, extension)


def extension_of(ip: Any) -> _Extension:
    """The extension of a shell, loaded where it was not."""
    load(ip)
    extension: _Extension = getattr(ip, _EXTENSION)
    return extension


def unload(ip: Any) -> None:
    """Take all of it away. Endpoints keep serving."""
    extension: _Extension | None = getattr(ip, _EXTENSION, None)
    if extension is not None:
        extension.stop()
        setattr(ip, _EXTENSION, None)


class Report:
    """What a verb returned (`data`), shown as its table."""

    def __init__(self, data: Any, text: str) -> None:
        self.data = data
        self._text = text

    def __repr__(self) -> str:
        return self._text


class StatusReport(Report):
    """The status of one endpoint: its table, and where a notebook can show it, its dashboard."""

    def __init__(self, data: ModelStatus, text: str, endpoint: Endpoint) -> None:
        super().__init__(data, text)
        self._endpoint = endpoint

    def _repr_html_(self) -> str:
        return self._endpoint._repr_html_()

    def _ipython_display_(self) -> None:
        self._endpoint.display(repr(self))


class _Extension:
    def __init__(self, ip: Any) -> None:
        self._ip = ip
        self._history = History(ip)
        self._serving = Serving(ip, self._history, _gateway_of(ip))
        self._gateways = Gateways()
        self._verbs = {name: verb for name, verb in VERBS.items() if verb.in_face("magic")}
        self._commands = {name: command(verb, "magic") for name, verb in self._verbs.items()}
        self._cell_command = _cell_command()
        self._names: list[str] = []
        self._matcher = make_matcher(self._completed(), lambda: self._names)
        self._transformer = make_transformer(ip)
        self._magics: list[tuple[str, str]] = []

    @property
    def sources(self) -> dict[str, tuple[str, Any]]:
        """What the notebook serves; see Serving."""
        return self._serving.sources

    @property
    def cells(self) -> Cells:
        """What ran in this notebook."""
        return self._history.cells

    def start(self) -> None:
        self._history.start()
        self._register("cell", "serve_handler", self._serve_handler, _help(self._cell_command, "%%serve_handler"))
        self._register("line", "nbserve", self._nbserve, self._overview())
        for name, parsed in self._commands.items():
            self._register("line", f"nbserve_{name}", self._alias(name), _help(parsed, f"%nbserve {name}"))
        self._ip.Completer.custom_matchers.append(self._matcher)
        self._ip.input_transformers_post.append(self._transformer)
        for kind, show in _SHOWN.items():
            self._ip.display_formatter.formatters["text/plain"].for_type(kind, show)

    def stop(self) -> None:
        self._history.stop()
        self._serving.close()
        for kind, name in self._magics:
            self._ip.magics_manager.magics[kind].pop(name, None)
        with contextlib.suppress(ValueError):
            self._ip.Completer.custom_matchers.remove(self._matcher)
        with contextlib.suppress(ValueError):
            self._ip.input_transformers_post.remove(self._transformer)
        for shown in _SHOWN:
            self._ip.display_formatter.formatters["text/plain"].pop(shown, None)

    def _register(self, kind: str, name: str, do: Callable[..., Any], doc: str) -> None:
        from IPython.core.magic import no_var_expand

        def magic(*arguments: str) -> Any:
            __tracebackhide__ = True
            return _one_line_usage(do, *arguments)

        magic.__doc__ = doc
        magic.__name__ = name
        self._ip.register_magic_function(no_var_expand(magic), kind, name)
        self._magics.append((kind, name))

    def _serve_handler(self, line: str, cell: str) -> Endpoint | Coroutine[Any, Any, Endpoint] | None:
        __tracebackhide__ = True
        params = _parse(self._cell_command, line)
        if params is None:
            return None
        name = params["name_option"] or params["name"]
        if not name:
            raise _Usage("%%serve_handler needs a name: %%serve_handler digits --sample x_test[0]")
        config = _config(params)

        def serve(tree: ast.Module) -> Endpoint:
            __tracebackhide__ = True
            _, target = pick_handler(tree, self._ip.user_ns, params["handler"])
            return self._serve(name, target, params, config)

        async def serve_when_run(running: Coroutine[Any, Any, ast.Module]) -> Endpoint:
            __tracebackhide__ = True
            return serve(await running)

        ran = run_body(self._ip, self._history, line, cell)
        return serve(ran) if isinstance(ran, ast.Module) else serve_when_run(ran)

    def _nbserve(self, line: str) -> Any:
        __tracebackhide__ = True
        name, _, rest = line.strip().partition(" ")
        if not name or name in ("--help", "-h"):
            print(self._overview())
            return None
        if name not in self._verbs:
            import difflib

            near = difflib.get_close_matches(name, self._verbs, n=1)
            known = f"did you mean {near[0]}?" if near else f"there are {', '.join(self._verbs)}"
            raise _Usage(f"%nbserve has no verb {name!r}; {known}")
        return self._do(self._verbs[name], rest)

    def _alias(self, name: str) -> Callable[[str], Any]:
        return lambda line: self._do(self._verbs[name], line)

    def _do(self, verb: Verb, line: str) -> Any:
        __tracebackhide__ = True
        params = _parse(self._commands[verb.name], line, target_is_expression=verb.name == "serve")
        if params is None:
            return None
        if verb.name == "serve":
            return self._serve_object(params)
        if verb.name == "gateway":
            return self._own_gateway(params["port"])
        if verb.name == "bench":
            params["data"] = self._bench_data(params["data"], params["content_type"])
        if verb.name == "replay":
            return self._replay(**params)
        if verb.name in _STAGED:
            return self._staged(verb, params)
        if verb.name == "stop":
            self._check_own(params["name"], params["gateway"])
        try:
            data = invoke(verb, self._gateways, params)
        except NotFound as exc:
            exc.hint = self._serving.gateway.obituary or exc.hint
            raise
        if verb.name == "token":
            return Secret(data)
        if isinstance(data, Iterator):
            return _print_stream(data)
        if params.get("as_json"):
            return _without_tokens(data)
        if isinstance(data, ModelStatus) and verb.name == "status":
            return StatusReport(data, to_text(verb.show(data)), self._endpoint(params))
        if hasattr(data, "_repr_html_"):
            return data
        return Report(data, to_text(verb.show(data)))

    def _check_own(self, name: str, gateway: str) -> None:
        """A notebook stops what is another one's only where it is told so. Raises UsageError."""
        if not name or gateway or "@" in name:
            return
        serving = [each for each in self._gateways if each.serves(name, "")]
        if serving and not any(each.is_own or each.record.name == self._serving.gateway.name for each in serving):
            raise UsageError(
                f"{name!r} is not served by this notebook, but by {', '.join(each.owner for each in serving)}",
                hint=f"`%nbserve stop {name}@{serving[0].record.id}` stops it there",
            )

    def _endpoint(self, params: dict[str, Any]) -> Endpoint:
        return Endpoint.find(params["name"], gateway=params["gateway"], version=params["version"])

    def _replay(self, word: str, gateway: str, **options: Any) -> Any:
        from nbserve.notebook.replay import replay_here

        __tracebackhide__ = True
        return replay_here(*find_failure(self._gateways, word, gateway=gateway), **options)

    def _staged(self, verb: Verb, params: dict[str, Any]) -> Any:
        """As the serving cell does: one line that says which stage it is at."""
        board = Board(self._ip, params["name"])
        try:
            data = invoke(verb, self._gateways, params | {"say": board.stage})
        except BaseException:
            board.done(f"not {_STAGED[verb.name]}")
            raise
        board.done(_STAGED[verb.name])
        if hasattr(data, "_repr_html_") and not params["as_json"]:
            return data
        return _without_tokens(data) if params["as_json"] else Report(data, to_text(verb.show(data)))

    def _bench_data(self, text: str | None, content_type: str) -> Any:
        """--data of bench: a file where there is one of this name, else an expression of the notebook."""
        from nbserve.measure.target import body_of_value

        if not text or os.path.isfile(text):
            return text
        try:
            value = self._evaluate(text, "--data")
        except SyntaxError:
            raise _Usage(f"--data {text} is neither a file nor an expression") from None
        return body_of_value(value, content_type)

    def _serve_object(self, params: dict[str, Any]) -> Endpoint:
        __tracebackhide__ = True
        target = self._evaluate(params["target"], "OBJECT")
        name = params["name"] or (params["target"] if params["target"].isidentifier() else "")
        if not name:
            raise _Usage(f"--name is needed: {params['target']!r} gives the endpoint no name")
        return self._serve(name, target, params, _config(params))

    def _serve(self, name: str, target: Any, params: Mapping[str, Any], config: ModelConfig) -> Endpoint:
        __tracebackhide__ = True
        text = params["sample"]
        endpoint = self._serving.serve(
            Asked(
                name=name,
                target=target,
                config=config,
                sample=self._evaluate(text, "--sample") if text else None,
                has_sample=bool(text),
                detach=params["detach"],
                wait=not params["no_wait"],
            )
        )
        if name not in self._names:
            self._names.append(name)
        return endpoint

    def _own_gateway(self, port: int | None) -> Report:
        client = self._serving.gateway.move(port) if port else self._serving.gateway.client()
        shown = [client.status()]
        return Report(shown, to_text(status(shown)))

    def _evaluate(self, expression: str, what: str) -> Any:
        """An expression of the notebook; what it raises is shown as the user's own."""
        __tracebackhide__ = True
        try:
            return eval(compile(expression, f"<{what} {expression}>", "eval"), self._ip.user_ns)
        except NameError as exc:
            raise _Usage(f"{what} {expression}: {exc}") from None

    def _completed(self) -> dict[str, click.Command]:
        by_verb = {f"%nbserve {name}": parsed for name, parsed in self._commands.items()}
        by_alias = {f"%nbserve_{name}": parsed for name, parsed in self._commands.items()}
        return {"%%serve_handler": self._cell_command} | by_verb | by_alias

    def _overview(self) -> str:
        lines = [f"  %nbserve {name:<9} {parsed.get_short_help_str(90)}" for name, parsed in self._commands.items()]
        return "\n".join(
            ["%nbserve VERB ...: see, query and stop endpoints; `%nbserve VERB --help` says more.", "", *lines]
        )


def _gateway_of(ip: Any) -> NotebookGateway:
    gateway: NotebookGateway | None = getattr(ip, _GATEWAY, None)
    if gateway is None:
        gateway = NotebookGateway(notebook_name(ip.user_ns), kernel_id(ip))
        setattr(ip, _GATEWAY, gateway)
    return gateway


def _cell_command() -> click.Command:
    name = click.Argument(["name"], metavar="NAME", required=False, default="")
    named = click.Option(["--name", "name_option"], metavar="NAME", help="The same as NAME.")
    return click.Command(
        "%%serve_handler",
        params=[name, named, *MODEL_OPTIONS, *CELL_OPTIONS],
        help="Run the cell, then serve the handler that it defines: a class with `inference` (see nbserve.Handler), "
        "or a function `predict(batch)`. Returns an Endpoint when the first answer is proven; the former version of "
        "NAME serves until then.",
        epilog=_CELL_EXAMPLE,
        context_settings={"help_option_names": ["--help", "-h"]},
    )


def _help(parsed: click.Command, name: str) -> str:
    with click.Context(parsed, info_name=name, max_content_width=100, terminal_width=100) as context:
        return parsed.get_help(context)


def _parse(parsed: click.Command, line: str, **settings: Any) -> dict[str, Any] | None:
    """Options, or None where help was asked for and shown."""
    try:
        return parse(parsed, line, **settings)
    except UsageError as exc:
        raise _Usage(f"{exc.message}{f' ({exc.hint})' if exc.hint else ''}") from None
    except click.exceptions.Exit:
        return None


def _config(params: Mapping[str, Any]) -> ModelConfig:
    try:
        return model_config(params)
    except UsageError as exc:
        raise _Usage(exc.message) from None


class _Usage(Exception):
    """A wrong option: becomes IPython's UsageError, which is shown as one line."""


def _one_line_usage(do: Callable[..., Any], *arguments: str) -> Any:
    from IPython.core.error import UsageError as OneLine

    __tracebackhide__ = True
    try:
        return do(*arguments)
    except _Usage as exc:
        raise OneLine(str(exc)) from None


def _print_stream(events: Iterator[Any]) -> None:
    """Followed logs, until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        for event in events:
            print("\n".join(log_lines(event)), flush=True)


def _without_tokens(data: Any) -> Any:
    """Plain data for a notebook, whose outputs are saved: no token in it."""
    from nbserve.tables import plain

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if key != "token"}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return strip(plain(data))


def _show_status(data: Any, printer: Any, cycle: bool) -> None:
    printer.text(to_text(status(data)))


def _show_gateway(data: Any, printer: Any, cycle: bool) -> None:
    printer.text(to_text(status([data])))


def _show_explanation(data: Any, printer: Any, cycle: bool) -> None:
    printer.text(repr(data))


_SHOWN: dict[type, Callable[[Any, Any, bool], None]] = {
    ModelStatus: _show_status,
    GatewayStatus: _show_gateway,
    Explanation: _show_explanation,
}
"""Plain data of the verbs that reads better as a table when it is a cell's result."""
