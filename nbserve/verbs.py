"""The one table of verbs: what the CLI (`nbserve VERB`), the line magic (`%nbserve VERB`) and `Endpoint` can do.

Each verb is defined once: name, help, options, examples, the function that does it and returns plain data, and how
the data is shown. The faces only parse, call and show. `serve` differs in what it serves (a bundle in the CLI, a live
object in a notebook), not in its options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from nbserve import actions, tables
from nbserve.attach import attach
from nbserve.attach import shown as show_attached
from nbserve.completion import complete_bundle_or_name, complete_gateway, complete_name, complete_version
from nbserve.explained import as_renderable
from nbserve.explanation import explain
from nbserve.failures import STAGES, failures
from nbserve.measure.options import BENCH_PARAMS
from nbserve.options import CELL_OPTIONS, MODEL_OPTIONS, SERVER_OPTIONS
from nbserve.profile_verbs import ADVISE_PARAMS, PROFILE_PARAMS, advise, profile, show_advice, show_profile
from nbserve.resolve import Gateways
from nbserve.wire.recording import RecordRequest

if TYPE_CHECKING:
    pass

__all__ = ["VERBS", "Face", "Verb", "command", "invoke"]

Face = Literal["cli", "magic"]

_GATEWAY = click.Option(
    ["--gateway"],
    default="",
    metavar="ID",
    help="Id or name of a gateway, where several run.",
    shell_complete=complete_gateway,
)
_VERSION = click.Option(
    ["--version"],
    default="",
    metavar="V",
    help="One version, not the default one.",
    shell_complete=complete_version,
)
_JSON = click.Option(["--json", "as_json"], is_flag=True, help="The plain data, for programs.")
_NAME = click.Argument(["name"], metavar="NAME[@GATEWAY]", shell_complete=complete_name)
_ANY_NAME = click.Argument(
    ["name"], metavar="[NAME[@GATEWAY]]", required=False, default="", shell_complete=complete_name
)
_VARIABLE = click.Argument(["variable"], metavar="[VARIABLE]", required=False, default="")
_NAME_OR_BUNDLE = click.Argument(["name"], metavar="NAME|BUNDLE", shell_complete=complete_bundle_or_name)


@dataclass(frozen=True)
class Verb:
    """One row of the table.

    `on`: "endpoint" = `run(served, **options)`, the name looked up first; "gateways" = `run(gateways, **options)`.
    `extra`: options that one face has beyond `params`; a face that is not in it does not have the verb.
    `examples_in`: examples of one face, after those of both.
    `exits`: what exit codes mean beyond the usual; `failed`: whether what was returned is a failure (exit code 1).
    `settings`: of click's context.
    """

    name: str
    help: str
    run: Callable[..., Any]
    show: Callable[[Any], Any]
    params: tuple[click.Parameter, ...] = ()
    examples: tuple[str, ...] = ()
    on: Literal["endpoint", "gateways"] = "gateways"
    extra: Mapping[Face, tuple[click.Parameter, ...]] | None = None
    examples_in: Mapping[Face, tuple[str, ...]] = field(default_factory=dict)
    exits: Mapping[int, str] = field(default_factory=dict)
    failed: Callable[[Any], bool] = lambda data: False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def in_face(self, face: Face) -> bool:
        """Whether this face has the verb."""
        return self.extra is None or face in self.extra

    def examples_of(self, face: Face) -> tuple[str, ...]:
        """As they are written in this face: `nbserve list`, `%nbserve list`."""
        prompt = "nbserve" if face == "cli" else "%nbserve"
        shared = tuple(example.replace("nbserve ", f"{prompt} ", 1) for example in self.examples)
        return shared + tuple(self.examples_in.get(face, ()))

    def exit_codes(self) -> dict[int, str]:
        """What the command may end with."""
        codes = {0: "done", 1: "failed", 2: "wrong usage"}
        if _GATEWAY in self.params:
            codes |= {3: "no such endpoint or gateway", 4: "the gateway cannot be reached"}
        return codes | dict(self.exits)


def command(verb: Verb, face: Face) -> click.Command:
    """The verb as a click command of one face; calling it is the face's business, parsing it is click's."""
    extra = (verb.extra or {}).get(face, ())
    epilog = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in verb.examples_of(face))
    if face == "cli":
        codes = ", ".join(f"{code} {meaning}" for code, meaning in sorted(verb.exit_codes().items()))
        epilog += f"\n\nExit codes: {codes}."
    return click.Command(
        verb.name,
        params=[*verb.params, *extra],
        help=verb.help,
        epilog=epilog,
        short_help=verb.help.partition("\n")[0],
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110, **verb.settings},
    )


def invoke(verb: Verb, gateways: Gateways, params: Mapping[str, Any]) -> Any:
    """Do the verb with parsed options; its plain data."""
    options = {name: value for name, value in params.items() if name != "as_json"}
    if verb.on == "gateways":
        return verb.run(gateways, **options)
    gateway = options.pop("gateway", "")
    served = gateways.find(options.pop("name"), gateway=gateway, version=options.pop("version", ""))
    return verb.run(served, **options)


_PATH = click.Path(path_type=Path)
_RECORD = RecordRequest()
_FOLDER = click.Path(file_okay=False)


def _option_named(field_: str) -> click.Option:
    """The option of `serve` for this field of the configuration."""
    return next(option for option in MODEL_OPTIONS if option.name == field_)


_TABLE = (
    Verb(
        "serve",
        "Serve a bundle (CLI) or a live object of the notebook, and wait until it is ready.",
        actions.serve,
        tables.nothing,
        (click.Option(["--name"], default="", metavar="NAME", help="Name of the endpoint."), *MODEL_OPTIONS),
        extra={
            "cli": (
                click.Argument(["target"], metavar="BUNDLE", type=_FOLDER, envvar="NBSERVE_BUNDLE"),
                *SERVER_OPTIONS,
            ),
            "magic": (
                click.Argument(["target"], metavar="OBJECT"),
                *(option for option in CELL_OPTIONS if option.name != "handler"),  # the object is the handler
            ),
        },
        examples_in={
            "cli": (
                "nbserve serve path/to/bundle",
                "nbserve serve path/to/bundle --port 9000 --workers 2",
            ),
            "magic": ("%nbserve serve model --sample x_test[0]", "%nbserve serve predict --name sums --workers 2"),
        },
        exits={0: "ended by Ctrl-C or SIGTERM", 4: "the gateway cannot be started"},
        settings={"auto_envvar_prefix": "NBSERVE"},  # how an image is set up: NBSERVE_WORKERS=2
    ),
    Verb(
        "list",
        "Every endpoint of this machine, with its owner.",
        actions.list_endpoints,
        tables.endpoints,
        (_GATEWAY, _JSON),
        ("nbserve list", "nbserve list --json"),
    ),
    Verb(
        "status",
        "State, workers with pid and cores, queue and batches of an endpoint; with no name, of all.",
        actions.status,
        tables.status,
        (_ANY_NAME, _VERSION, _GATEWAY, _JSON),
        ("nbserve status", "nbserve status digits --json"),
    ),
    Verb(
        "logs",
        "What the workers printed and what failed, marked with worker and batch.",
        actions.logs,
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
        actions.stop,
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
        actions.scale,
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
        actions.rollback,
        tables.status,
        (_NAME, click.Argument(["to"], metavar="[VERSION]", required=False, default=""), _GATEWAY, _JSON),
        ("nbserve rollback digits", "nbserve rollback digits 3"),
        on="endpoint",
    ),
    Verb(
        "predict",
        "One prediction; the body is JSON unless said otherwise.",
        actions.predict,
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
        "bench",
        "Measure an endpoint or any URL: ten seconds of load, rate and latencies, and what the limit is.",
        actions.bench,
        actions.show_bench,
        (
            click.Argument(["name"], metavar="NAME[@GATEWAY]|URL", shell_complete=complete_name),
            *BENCH_PARAMS,
            click.Option(["--out"], type=_PATH, default=None, metavar="FILE", help="The result as JSON."),
            click.Option(
                ["--html"], type=_PATH, default=None, metavar="FILE", help="The report as a page, with plots."
            ),
            _VERSION,
            _GATEWAY,
            _JSON,
        ),
        (
            "nbserve bench digits",
            "nbserve bench digits --rate 200 --duration 30",
            "nbserve bench digits --search --slo 'p99<10ms'",
            "nbserve bench digits --against 1",
            "nbserve bench digits --replay digits-requests.jsonl --speed 2",
            "nbserve bench http://127.0.0.1:8000/health --concurrency 16",
        ),
        exits={1: "nothing was answered, or the figures are not valid, or no rate met the objective"},
        failed=lambda result: result.failed,
    ),
    Verb(
        "record",
        "Write an endpoint's requests to a file that `bench --replay` sends again; named JSON fields are left out.",
        actions.record,
        tables.recorded,
        (
            _NAME,
            click.Option(
                ["--sample"],
                type=click.FloatRange(0, 1, min_open=True),
                default=_RECORD.sample,
                show_default=True,
                metavar="SHARE",
                help="Share of the requests to keep, drawn one by one.",
            ),
            click.Option(
                ["--max-bytes"],
                type=_option_named("max_rss_bytes").type,
                default=_RECORD.max_bytes,
                show_default="64MB",
                metavar="SIZE",
                help="Most memory of the gateway; what does not fit any more ends the recording.",
            ),
            click.Option(
                ["--seconds"],
                type=click.FloatRange(0, min_open=True),
                default=_RECORD.seconds,
                show_default=True,
                metavar="S",
                help="How long.",
            ),
            click.Option(
                ["--redact"],
                default="",
                metavar="FIELD,FIELD",
                help="JSON fields whose values are not written, at any depth; bodies that are no JSON are withheld.",
            ),
            click.Option(
                ["--out"],
                type=_PATH,
                default=None,
                metavar="FILE",
                help="Where to, for its owner only.  [default: NAME-requests.jsonl]",
            ),
            click.Option(["--no-wait"], is_flag=True, help="Begin, and return; --stop takes it, within ten minutes."),
            click.Option(["--stop"], is_flag=True, help="End the recording that goes on, and write what it has."),
            _VERSION,
            _GATEWAY,
            _JSON,
        ),
        (
            "nbserve record digits --seconds 30 --redact password,email",
            "nbserve record digits --sample 0.1 --max-bytes 500MB --no-wait",
            "nbserve record digits --stop --out monday.jsonl",
        ),
        on="endpoint",
        exits={0: "done; Ctrl-C ends the recording and writes it"},
    ),
    Verb(
        "failures",
        "Requests that failed: when, why, in which cell and line; `replay` runs one again in the notebook.",
        failures,
        lambda data: data.table(),
        (
            _NAME,
            click.Option(["--forget"], is_flag=True, help="Have the gateway forget them."),
            _VERSION,
            _GATEWAY,
            _JSON,
        ),
        ("nbserve failures digits", "nbserve failures digits --json"),
        on="endpoint",
    ),
    Verb(
        "replay",
        "Run a failed request again with the notebook's code: it fails here, where %debug opens on the cell's lines.",
        actions.replay,
        tables.nothing,
        (
            click.Argument(["word"], metavar="ID|REQUEST|NAME"),
            click.Option(["--pdb"], is_flag=True, help="Open the debugger where it fails."),
            click.Option(
                ["--break", "stop_at"],
                type=click.Choice(STAGES),
                default=None,
                help="Open the debugger at the first line of this method.",
            ),
            click.Option(
                ["--against"],
                type=click.Choice(["live"]),
                default=None,
                help="Send the very bytes to the endpoint, too, and show both answers.",
            ),
            click.Option(["--force"], is_flag=True, help="Also a request that killed its worker."),
            _GATEWAY,
        ),
        ("nbserve replay digits-3", "nbserve replay digits --pdb", "nbserve replay digits-3 --against live"),
        extra={"magic": ()},
    ),
    Verb(
        "attach",
        "Hold a worker aside for a console, or run code in it; requests go to the others, or wait.",
        attach,
        show_attached,
        (
            _NAME,
            click.Argument(["worker"], type=click.IntRange(min=0), default=0, metavar="[WORKER]"),
            click.Option(
                ["--run"],
                default=None,
                metavar="CODE",
                help="Run this in the worker; `handler` and `context` are there to look at.",
            ),
            click.Option(
                ["--serve"], is_flag=True, help="It goes on serving, but without time limits: for breakpoints."
            ),
            click.Option(
                ["--seconds"],
                type=click.FloatRange(0, 86_400, min_open=True),
                default=600.0,
                show_default=True,
                metavar="S",
                help="It is given back by itself after so long.",
            ),
            click.Option(["--release"], is_flag=True, help="Give the worker back: it serves as before."),
            _VERSION,
            _GATEWAY,
            _JSON,
        ),
        (
            "nbserve attach digits",
            'nbserve attach digits 1 --run "handler.model.training"',
            "nbserve attach digits --release",
        ),
        on="endpoint",
        exits={1: "the code raised"},
        failed=lambda data: data.failed,
    ),
    Verb(
        "profile",
        "Look inside a live worker under its real traffic: operators, stages, a trace for Perfetto, and advice.",
        profile,
        show_profile,
        (_NAME, *PROFILE_PARAMS, _VERSION, _GATEWAY, _JSON),
        (
            "nbserve profile digits",
            "nbserve profile digits --seconds 5 --shapes --out digits.pt.trace.json.gz",
            "nbserve profile digits --send-sample --system",
        ),
        on="endpoint",
        exits={0: "done; Ctrl-C ends it with what there is", 1: "nothing came of it: no requests, or it failed"},
    ),
    Verb(
        "advise",
        "What rules say of an endpoint's counters: what costs time or memory, since when it matters, what to do.",
        advise,
        show_advice,
        (_NAME, *ADVISE_PARAMS, _VERSION, _GATEWAY, _JSON),
        ("nbserve advise digits", "nbserve advise digits --seconds 10"),
        on="endpoint",
    ),
    Verb(
        "explain",
        "What an endpoint or a bundle is made of: what was captured, how, and from which cell; what the proof said.",
        explain,
        as_renderable,
        (_NAME_OR_BUNDLE, _VARIABLE, _VERSION, _GATEWAY, _JSON),
        ("nbserve explain digits", "nbserve explain digits model", "nbserve explain path/to/bundle --json"),
    ),
    Verb(
        "verify",
        "Prove a bundle alone: check its files, load it, compare its answer to the sample with the recorded one.",
        actions.verify,
        tables.verified,
        (
            _NAME_OR_BUNDLE,
            click.Option(
                ["--python"],
                default="",
                metavar="EXE",
                help="With this interpreter, or that of a virtual environment's folder; nbserve is installed there.",
            ),
            click.Option(
                ["--device"],
                default=None,
                metavar="DEVICE",
                help="auto, cpu, cuda or cuda:i.  [default: as served]",
            ),
            _option_named("env"),
            _VERSION,
            _GATEWAY,
            _JSON,
        ),
        ("nbserve verify path/to/bundle", "nbserve verify digits --python path/to/venv"),
        exits={1: "the bundle is damaged, cannot be loaded, or its answer differs"},
        failed=lambda found: not found.passed,
    ),
    Verb(
        "export",
        "Make an image of an endpoint or a bundle: pinned, built where docker or podman answers, and proven.",
        actions.export,
        tables.exported,
        (
            _NAME_OR_BUNDLE,
            click.Option(
                ["--docker", "kind"],
                flag_value="docker",
                default="docker",
                help="A build context for docker and podman, and the image; what is made where nothing is said.",
            ),
            click.Option(
                ["--output", "-o"],
                type=_PATH,
                metavar="DIR",
                help="Folder of the build context, new or an earlier export.  [default: NAME-image]",
            ),
            click.Option(["--tag", "-t"], default="", metavar="TAG", help="Of the image.  [default: NAME:DIGEST]"),
            click.Option(
                ["--base-image"],
                default="",
                metavar="IMAGE",
                help="With Python's minor version of the notebook.  [default: python:3.x-slim-bookworm]",
            ),
            click.Option(["--vendor"], is_flag=True, help="Put all wheels into the context: the build needs no index."),
            click.Option(["--build/--no-build"], default=True, help="Build the image, or write the context only."),
            click.Option(
                ["--proof"],
                type=click.Choice(["auto", "image", "venv", "off"]),
                default="auto",
                show_default=True,
                help="Where it must answer the sample as the endpoint did; auto: the image, else a clean environment.",
            ),
            click.Option(
                ["--env"],
                type=_option_named("env").type,
                multiple=True,
                metavar="K=V",
                help="For the proof, beside those of the endpoint; the image gets names only. May be repeated.",
            ),
            click.Option(
                ["--allow-secret"],
                multiple=True,
                metavar="NAME",
                help="What looks like a secret and is none, as the refusal names it. May be repeated.",
            ),
            _VERSION,
            _GATEWAY,
            _JSON,
        ),
        ("nbserve export digits -o digits-image", "nbserve export digits -t registry/digits:1.0 --vendor"),
        exits={1: "refused, or the build or the proof failed"},
    ),
    Verb(
        "token",
        "Print the bearer token of an endpoint, and nothing else.",
        actions.token,
        str,
        (_NAME, _VERSION, _GATEWAY),
        ("nbserve token digits",),
        on="endpoint",
        examples_in={
            "cli": (
                'curl -H "Authorization: Bearer $(nbserve token digits)" -d "[1, 2]" http://127.0.0.1:PORT/predictions/digits',
            )
        },
    ),
    Verb(
        "doctor",
        "What this machine offers for serving, what is wrong with it, and what to do.",
        actions.doctor,
        tables.diagnosed,
        (_JSON,),
        ("nbserve doctor", "nbserve doctor --json"),
        exits={1: "there is a problem"},
        failed=lambda found: found.has_problem,
    ),
    Verb(
        "demo",
        "Run the quickstart notebook for real: trains, serves, measures, swaps; with docker or podman also its image.",
        actions.demo,
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
            click.Option(
                ["--image/--no-image"], default=True, show_default=True, help="Build and prove the endpoint's image."
            ),
            click.Option(
                ["--base-image"],
                default="",
                metavar="IMAGE",
                help="Of that image.  [default: python:3.x-slim-bookworm]",
            ),
            _JSON,
        ),
        ("nbserve demo", "nbserve demo --output folder --json"),
        extra={"cli": ()},
    ),
    Verb(
        "completion",
        "Print the script by which a shell completes verbs, options and the names of running endpoints.",
        actions.completion,
        str,
        (click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"])),),
        extra={"cli": ()},
        examples_in={
            "cli": (
                'eval "$(nbserve completion bash)"   # in ~/.bashrc',
                'eval "$(nbserve completion zsh)"   # in ~/.zshrc',
                "nbserve completion fish > ~/.config/fish/completions/nbserve.fish",
            )
        },
    ),
    Verb(
        "gateway",
        "This notebook's gateway: where it listens; --port moves it, and is remembered.",
        actions.move_gateway,
        tables.status,
        (click.Option(["--port"], type=click.IntRange(1, 65535), metavar="P", help="The port from now on."),),
        ("nbserve gateway --port 8900",),
        extra={"magic": ()},
    ),
)

VERBS: dict[str, Verb] = {verb.name: verb for verb in _TABLE}
"""By name, in the order of help."""
