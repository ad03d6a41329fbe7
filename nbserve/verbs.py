"""The one table of verbs: what the CLI (`nbserve VERB`), the line magic (`%nbserve VERB`) and `Endpoint` can do.

Each verb is defined once: name, help, options, examples, the function that does it and returns plain data, and how
the data is shown. The faces only parse, call and show. `serve` differs in what it serves (a bundle in the CLI, a live
object in a notebook), not in its options.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from nbserve import tables
from nbserve.client import is_log
from nbserve.errors import UsageError
from nbserve.explanation import Explanation, explanation
from nbserve.options import CELL_OPTIONS, MODEL_OPTIONS, SERVER_OPTIONS, model_config
from nbserve.resolve import Gateway, Gateways, Served
from nbserve.wire.management import Event, GatewayStatus, ModelStatus

__all__ = ["VERBS", "Face", "Verb", "command", "invoke"]

Face = Literal["cli", "magic"]

_GATEWAY = click.Option(["--gateway"], default="", metavar="ID", help="Id or name of a gateway, where several run.")
_VERSION = click.Option(["--version"], default="", metavar="V", help="One version, not the default one.")
_JSON = click.Option(["--json", "as_json"], is_flag=True, help="The plain data, for programs.")
_NAME = click.Argument(["name"], metavar="NAME[@GATEWAY]")
_ANY_NAME = click.Argument(["name"], metavar="[NAME[@GATEWAY]]", required=False, default="")


@dataclass(frozen=True)
class Verb:
    """One row of the table.

    `on`: "endpoint" = `run(served, **options)`, the name looked up first; "gateways" = `run(gateways, **options)`.
    `extra`: options that one face has beyond `params`; a face that is not in it does not have the verb.
    """

    name: str
    help: str
    run: Callable[..., Any]
    show: Callable[[Any], Any]
    params: tuple[click.Parameter, ...] = ()
    examples: tuple[str, ...] = ()
    on: Literal["endpoint", "gateways"] = "gateways"
    extra: Mapping[Face, tuple[click.Parameter, ...]] | None = None

    def in_face(self, face: Face) -> bool:
        """Whether this face has the verb."""
        return self.extra is None or face in self.extra


def command(verb: Verb, face: Face) -> click.Command:
    """The verb as a click command of one face; calling it is the face's business, parsing it is click's."""
    extra = (verb.extra or {}).get(face, ())
    prompt = "nbserve" if face == "cli" else "%nbserve"
    shown = [example.replace("nbserve ", f"{prompt} ", 1) for example in verb.examples]
    epilog = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in shown) if shown else None
    return click.Command(
        verb.name,
        params=[*verb.params, *extra],
        help=verb.help,
        epilog=epilog,
        short_help=verb.help.partition("\n")[0],
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110},
    )


def invoke(verb: Verb, gateways: Gateways, params: Mapping[str, Any]) -> Any:
    """Do the verb with parsed options; its plain data."""
    options = {name: value for name, value in params.items() if name != "as_json"}
    if verb.on == "gateways":
        return verb.run(gateways, **options)
    gateway = options.pop("gateway", "")
    served = gateways.find(options.pop("name"), gateway=gateway, version=options.pop("version", ""))
    return verb.run(served, **options)


# --- the verbs: plain data in, plain data out ---


def list_endpoints(gateways: Gateways, gateway: str = "") -> list[dict[str, Any]]:
    """Every version of every endpoint, with who owns it. Holds tokens: not for showing as it is."""
    return [_row(each, model) for each in gateways.matching(gateway) for model in each.status.models]


def status(
    gateways: Gateways, name: str = "", gateway: str = "", version: str = ""
) -> list[GatewayStatus] | ModelStatus:
    """One endpoint's status; without a name, that of every gateway."""
    if name:
        return gateways.find(name, gateway=gateway, version=version).model()
    return [each.status for each in gateways.matching(gateway)]


def logs(served: Served, follow: bool = False) -> Iterator[Event] | list[Event]:
    """What the handlers printed and what failed; with `follow` an iterator that goes on as more comes."""
    if not follow:
        return served.client.logs(served.name, served.version)
    events = served.client.events(follow=True)
    return (event for event in events if is_log(event, served.name, served.version))


def stop(
    gateways: Gateways, name: str = "", gateway: str = "", version: str = "", all_: bool = False
) -> list[dict[str, str]]:
    """Drain and stop an endpoint, or all of them with their gateways; what was stopped."""
    if all_ == bool(name):
        raise UsageError("say which endpoint to stop, or --all", hint="`nbserve list` shows them")
    if not all_:
        return [stop_endpoint(gateways.find(name, gateway=gateway, version=version))]
    stopped = []
    for each in gateways.matching(gateway):
        stopped += [{"name": model.name, "version": model.version} for model in each.status.models]
        each.client.shutdown()
    return stopped


def stop_endpoint(served: Served) -> dict[str, str]:
    """Drain and stop one endpoint. A detached gateway that serves nothing more ends with it."""
    served.client.unregister(served.name, served.version)
    left = served.client.status()
    if not left.models and left.owner_pid is None and left.profile == "notebook":
        served.client.shutdown()
    return {"name": served.name, "version": served.version or "all"}


def scale(served: Served, workers: int) -> ModelStatus:
    """Run this many workers; returns when they are ready."""
    served.client.scale(served.name, workers, served.version)
    return served.model()


def rollback(served: Served, to: str = "") -> ModelStatus:
    """Serve a replaced version again, the last one where none is named; returns when it serves."""
    return served.client.rollback(served.name, to)


def predict(
    served: Served, body: str | None = None, file: Path | None = None, content_type: str = ""
) -> tuple[str, bytes]:
    """One prediction from text, a file or standard input; (content type, body) of the answer."""
    if (body is None) == (file is None):
        raise UsageError("give the body as text, or --file PATH (- = standard input)")
    if body is not None:
        content, guessed = body.encode(), "application/json"
    else:
        assert file is not None
        content, guessed = _read_body(file)
    return served.client.predict(served.name, content, content_type or guessed, served.version)


def explain(served: Served) -> Explanation:
    """What was captured, how, from which cell, and what the proof said."""
    return explanation(served.model())


def token(served: Served) -> str:
    """The bearer token of the endpoint's gateway."""
    return served.client.token


def serve(gateways: Gateways, **options: Any) -> None:
    """A gateway in the foreground that serves a bundle, until Ctrl-C (CLI; notebooks serve live objects)."""
    from nbserve.foreground import serve_bundle

    target, name = options.pop("target"), options.pop("name")
    config = model_config(options)
    listening = {key: value for key, value in options.items() if key not in config.__struct_fields__}
    serve_bundle(Path(target), name=name, config=config, profile="server", **listening)


def demo(gateways: Gateways, output: Path) -> dict[str, Any]:
    """Run the quickstart notebook for real; the facts that it found."""
    from nbserve.demo import run_demo

    return run_demo(output)


def move_gateway(gateways: Gateways, port: int | None) -> list[dict[str, Any]]:
    """Only a notebook has a gateway of its own: its magic does this verb."""
    raise UsageError("`gateway` belongs to a notebook: %nbserve gateway --port P")


def _row(gateway: Gateway, model: ModelStatus) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "default": model.default,
        "state": model.state,
        "url": model.url,
        "workers": len([w for w in model.workers if w.state not in ("STOPPED", "FAILED")]),
        "owner": gateway.record.name,
        "gateway": gateway.record.id,
        "profile": gateway.record.profile,
        "management_url": gateway.record.management_url,
        "token": gateway.record.token,
    }


_TYPES = {".json": "application/json", ".txt": "text/plain", ".png": "image/png", ".jpg": "image/jpeg"}


def _read_body(file: Path) -> tuple[bytes, str]:
    if str(file) == "-":
        return sys.stdin.buffer.read(), "application/json"
    try:
        return file.read_bytes(), _TYPES.get(file.suffix.lower(), "application/octet-stream")
    except OSError as exc:
        raise UsageError(f"cannot read {file}: {exc.strerror}") from exc


_PATH = click.Path(path_type=Path)

_TABLE = (
    Verb(
        "serve",
        "Serve a bundle (CLI) or a live object of the notebook, and wait until it is ready.",
        serve,
        tables.nothing,
        (click.Option(["--name"], default="", metavar="NAME", help="Name of the endpoint."), *MODEL_OPTIONS),
        (),
        extra={
            "cli": (click.Argument(["target"], metavar="BUNDLE"), *SERVER_OPTIONS),
            "magic": (
                click.Argument(["target"], metavar="OBJECT"),
                *(option for option in CELL_OPTIONS if option.name != "handler"),  # the object is the handler
            ),
        },
    ),
    Verb(
        "list",
        "Every endpoint of this machine, with its owner.",
        list_endpoints,
        tables.endpoints,
        (_GATEWAY, _JSON),
        ("nbserve list", "nbserve list --json"),
    ),
    Verb(
        "status",
        "State, workers with pid and cores, queue and batches of an endpoint; with no name, of all.",
        status,
        tables.status,
        (_ANY_NAME, _VERSION, _GATEWAY, _JSON),
        ("nbserve status", "nbserve status digits --json"),
    ),
    Verb(
        "logs",
        "What the workers printed and what failed, marked with worker and batch.",
        logs,
        tables.logs,
        (
            _NAME,
            click.Option(["--follow", "-f"], is_flag=True, help="Go on as more comes; Ctrl-C ends it."),
            _VERSION,
            _GATEWAY,
            _JSON,
        ),
        ("nbserve logs digits -f",),
        on="endpoint",
    ),
    Verb(
        "stop",
        "Drain and stop an endpoint, or --all of them with their gateways.",
        stop,
        tables.stopped,
        (
            _ANY_NAME,
            click.Option(["--all", "all_"], is_flag=True, help="Every endpoint of every gateway (or of --gateway)."),
            _VERSION,
            _GATEWAY,
            _JSON,
        ),
        ("nbserve stop digits", "nbserve stop --all"),
    ),
    Verb(
        "scale",
        "Run this many workers; returns when they are ready.",
        scale,
        tables.status,
        (
            _NAME,
            click.Argument(["workers"], type=click.IntRange(min=1), metavar="WORKERS"),
            _VERSION,
            _GATEWAY,
            _JSON,
        ),
        ("nbserve scale digits 4",),
        on="endpoint",
    ),
    Verb(
        "rollback",
        "Serve a version again that was replaced; the last one where none is named. Five are kept.",
        rollback,
        tables.status,
        (_NAME, click.Argument(["to"], metavar="[VERSION]", required=False, default=""), _GATEWAY, _JSON),
        ("nbserve rollback digits", "nbserve rollback digits 3"),
        on="endpoint",
    ),
    Verb(
        "predict",
        "One prediction; the body is JSON unless said otherwise.",
        predict,
        tables.answer,
        (
            _NAME,
            click.Argument(["body"], required=False, metavar="[BODY]"),
            click.Option(["--file"], type=_PATH, metavar="PATH", help="Body from a file; - = standard input."),
            click.Option(["--content-type"], default="", help="Default: by the file's name, else application/json."),
            _VERSION,
            _GATEWAY,
        ),
        ("nbserve predict adder '[1, 2]'", "nbserve predict digits --file digit.png"),
        on="endpoint",
    ),
    Verb(
        "explain",
        "What an endpoint is made of: what was captured, how, and from which cell; what the proof said.",
        explain,
        tables.explained,
        (_NAME, _VERSION, _GATEWAY, _JSON),
        ("nbserve explain digits",),
        on="endpoint",
    ),
    Verb(
        "token",
        "Print the bearer token of an endpoint, and nothing else.",
        token,
        str,
        (_NAME, _VERSION, _GATEWAY),
        ('curl -H "Authorization: Bearer $(nbserve token digits)" ...',),
        on="endpoint",
    ),
    Verb(
        "demo",
        "Run the quickstart notebook for real: trains, serves, queries; prints what came out.",
        demo,
        tables.demo,
        (
            click.Option(
                ["--output"],
                type=_PATH,
                default=Path("demo-output"),
                show_default=True,
                metavar="FOLDER",
                help="Where the executed notebook goes.",
            ),
            _JSON,
        ),
        ("nbserve demo",),
        extra={"cli": ()},
    ),
    Verb(
        "gateway",
        "This notebook's gateway: where it listens; --port moves it, and is remembered.",
        move_gateway,
        tables.status,
        (click.Option(["--port"], type=click.IntRange(1, 65535), metavar="P", help="The port from now on."),),
        ("nbserve gateway --port 8900",),
        extra={"magic": ()},
    ),
)

VERBS: dict[str, Verb] = {verb.name: verb for verb in _TABLE}
"""By name, in the order of help."""
