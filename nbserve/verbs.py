"""The one table of verbs: what the CLI (`nbserve VERB`), the line magic (`%nbserve VERB`) and `Endpoint` can do.

Each verb is defined once: name, help, options, examples, the function that does it and returns plain data, and how
the data is shown. The faces only parse, call and show. `serve` differs in what it serves (a bundle in the CLI, a live
object in a notebook), not in its options.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec

from nbserve import tables
from nbserve.attach import attach
from nbserve.attach import shown as show_attached
from nbserve.client import is_log
from nbserve.completion import complete_bundle_or_name, complete_gateway, complete_name, complete_version
from nbserve.config import ModelConfig
from nbserve.errors import UsageError
from nbserve.explained import as_renderable
from nbserve.explanation import changes_since, explain
from nbserve.failures import STAGES, failures
from nbserve.measure.options import BENCH_PARAMS, bench_options
from nbserve.options import CELL_OPTIONS, MODEL_OPTIONS, SERVER_OPTIONS, model_config
from nbserve.profile_verbs import ADVISE_PARAMS, PROFILE_PARAMS, advise, profile, show_advice, show_profile
from nbserve.resolve import Gateway, Gateways, Served, bundle_folder
from nbserve.wire.management import Event, GatewayStatus, ModelStatus
from nbserve.wire.recording import RecordingStatus, RecordRequest

if TYPE_CHECKING:
    from nbserve.doctor import Diagnosis
    from nbserve.export.image import Exported, ProofKind
    from nbserve.measure.result import BenchResult
    from nbserve.verify import Verification

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


# --- the verbs: plain data in, plain data out ---


def list_endpoints(gateways: Gateways, gateway: str = "") -> list[dict[str, Any]]:
    """Every version of every endpoint, with who owns it. Holds tokens: not for showing as it is."""
    return [_row(each, model) for each in gateways.matching(gateway) for model in each.status.models]


def status(
    gateways: Gateways, name: str = "", gateway: str = "", version: str = ""
) -> list[GatewayStatus] | ModelStatus:
    """One endpoint's status; without a name, that of every gateway."""
    if name:
        model = gateways.find(name, gateway=gateway, version=version).model()
        return msgspec.structs.replace(model, warnings=[*model.warnings, *changes_since(model)])
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


def verify(
    gateways: Gateways,
    name: str,
    gateway: str = "",
    version: str = "",
    python: str = "",
    device: str | None = None,
    env: tuple[tuple[str, str], ...] = (),
) -> Verification:
    """Check and prove a bundle, or the one that an endpoint serves, with a worker of its own."""
    folder = bundle_folder(name)
    if folder is not None:
        return verify_bundle(folder, ModelConfig(), python, device, env)
    model = gateways.find(name, gateway=gateway, version=version).model()
    return verify_bundle(Path(model.bundle), model.config, python, device, env)


def verify_bundle(
    bundle: Path,
    config: ModelConfig,
    python: str = "",
    device: str | None = None,
    env: tuple[tuple[str, str], ...] = (),
) -> Verification:
    """The proof alone, by this interpreter or `python`; device and env are put over those of `config`."""
    from nbserve.verify import verify, verify_in

    config = model_config(
        msgspec.structs.asdict(config) | {"env": config.env | dict(env), "device": device or config.device}
    )
    return verify_in(python, bundle, config) if python else verify(bundle, config)


def bench(
    gateways: Gateways,
    name: str,
    gateway: str = "",
    version: str = "",
    data: Any = None,
    content_type: str = "",
    replay: Path | None = None,
    speed: float = 1.0,
    out: Path | None = None,
    html: Path | None = None,
    **options: Any,
) -> BenchResult:
    """Measure an endpoint, or any URL. `data`: a file, or a `measure.options.Body` of a notebook's value.

    replay: a file of `record`, sent as it came, `speed` times as fast.
    """
    from nbserve.measure.target import is_url, served_at

    if not is_url(name):
        target: Served | str = gateways.find(name, gateway=gateway, version=version)
    else:
        target = served_at(name, [each.client for each in gateways]) or name
    options |= {"replay": replay, "speed": speed}
    return bench_target(target, options, data=data, content_type=content_type, out=out, html=html)


def bench_target(
    target: Served | str,
    options: dict[str, Any],
    *,
    data: Any = None,
    content_type: str = "",
    out: Path | None = None,
    html: Path | None = None,
) -> BenchResult:
    """The measurement, with its progress shown. `out`, `html`: files for the result and for its page with plots."""
    from nbserve.measure.bench import bench as measure
    from nbserve.measure.options import Body
    from nbserve.measure.progress import shown_progress
    from nbserve.measure.replay import read_replay
    from nbserve.measure.report import as_page
    from nbserve.measure.target import bodies_from_file

    replay, speed = options.pop("replay", None), options.pop("speed", 1.0)
    offsets_s: tuple[float, ...] = ()
    if replay is not None:
        if data is not None:
            raise UsageError("--replay and --data exclude each other: a recording has its own bodies")
        bodies, offsets_s = read_replay(Path(replay), speed)
    elif data is None:
        bodies = ()
    else:
        bodies = (data,) if isinstance(data, Body) else tuple(bodies_from_file(Path(data), content_type))
    asked = bench_options(options, bodies, offsets_s)
    with shown_progress(target if isinstance(target, str) else target.name) as on_progress:
        result = measure(target, asked, on_progress)
    if out is not None:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))
    if html is not None:
        html.write_text(as_page(result), encoding="utf-8")
    return result


def record(
    served: Served,
    sample: float = 1.0,
    max_bytes: int = 64_000_000,
    seconds: float = 60.0,
    redact: str = "",
    out: Path | None = None,
    no_wait: bool = False,
    stop: bool = False,
    say: Callable[[str], None] | None = None,
) -> RecordingStatus:
    """Write requests of an endpoint to a file; `say` hears that it has begun (None: standard error)."""
    from nbserve.recording import record_requests, take_requests

    file = out or Path(f"{served.name}-requests.jsonl")
    if stop:
        return take_requests(served, file)
    names = [name for text in redact.split(",") if (name := text.strip())]
    asked = RecordRequest(sample=sample, max_bytes=max_bytes, seconds=seconds, redact=names)
    return record_requests(served, asked, None if no_wait else file, say or _to_stderr)


def replay(gateways: Gateways, **options: Any) -> None:
    """Only a notebook has the code that is run again: its magic does this verb."""
    raise UsageError("`replay` runs the notebook's own code: %nbserve replay ID there")


def show_bench(result: BenchResult) -> Any:
    """The report for a terminal."""
    from nbserve.measure.report import renderable

    return renderable(result)


def doctor(gateways: Gateways) -> Diagnosis:
    """What this machine offers for serving, and what is wrong with it."""
    from nbserve.doctor import diagnose, read_machine

    return diagnose(read_machine())


def completion(gateways: Gateways, shell: str) -> str:
    """The script that has a shell complete our command."""
    from nbserve.completion import script

    return script(shell)


def token(served: Served) -> str:
    """The bearer token of the endpoint's gateway."""
    return served.client.token


def serve(gateways: Gateways, **options: Any) -> None:
    """A gateway in the foreground that serves a bundle, until Ctrl-C (CLI; notebooks serve live objects)."""
    from nbserve.foreground import serve_bundle

    target, name = options.pop("target"), options.pop("name")
    config = model_config(options)
    listening = {key: value for key, value in options.items() if key not in config.__struct_fields__}
    serve_bundle(Path(target), name=name, config=config, **listening)


def export(
    gateways: Gateways,
    name: str,
    kind: str = "docker",
    output: Path | None = None,
    tag: str = "",
    base_image: str = "",
    vendor: bool = False,
    build: bool = True,
    proof: ProofKind = "auto",
    env: tuple[tuple[str, str], ...] = (),
    allow_secret: tuple[str, ...] = (),
    version: str = "",
    gateway: str = "",
    say: Callable[[str], None] | None = None,
) -> Exported:
    """An image of what an endpoint serves (or of a bundle), proven. `say` hears of each stage; None: standard error."""
    folder = bundle_folder(name)
    served = None if folder is not None else gateways.find(name, gateway=gateway, version=version)
    asked = {"tag": tag, "base_image": base_image, "vendor": vendor, "build": build, "proof": proof}
    return export_endpoint(
        served, folder, output=output, env=dict(env), allow_secrets=tuple(allow_secret), say=say, **asked
    )


def export_endpoint(
    served: Served | None,
    folder: Path | None = None,
    *,
    output: Path | None,
    say: Callable[[str], None] | None = None,
    **asked: Any,
) -> Exported:
    """The export of an endpoint, or of a bundle's folder where there is none. `asked`: fields of export.image.Asked."""
    from nbserve.export.image import Asked, export_image

    if served is not None:
        model = served.model()
        asked |= {"bundle": Path(model.bundle), "name": model.name, "config": model.config}
        asked |= {"live": served.client, "version": model.version}
    else:
        from nbserve.bundle import Bundle

        assert folder is not None
        asked |= {"bundle": folder, "name": Bundle.open(folder).name}
    return export_image(Asked(output=output or Path(f"{asked['name']}-image"), **asked), say or _to_stderr)


def _to_stderr(stage: str) -> None:
    print(stage, file=sys.stderr, flush=True)


def demo(gateways: Gateways, output: Path, image: bool = True, base_image: str = "") -> dict[str, Any]:
    """Run the quickstart notebook for real, and make its image; the facts that came out."""
    from nbserve.demo import run_demo

    return run_demo(output, image=image, base_image=base_image)


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
_RECORD = RecordRequest()
_FOLDER = click.Path(file_okay=False)


def _option_named(field_: str) -> click.Option:
    """The option of `serve` for this field of the configuration."""
    return next(option for option in MODEL_OPTIONS if option.name == field_)


_TABLE = (
    Verb(
        "serve",
        "Serve a bundle (CLI) or a live object of the notebook, and wait until it is ready.",
        serve,
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
        "bench",
        "Measure an endpoint or any URL: ten seconds of load, rate and latencies, and what the limit is.",
        bench,
        show_bench,
        (
            click.Argument(["name"], metavar="NAME[@GATEWAY]|URL", shell_complete=complete_name),
            *BENCH_PARAMS,
            click.Option(["--out"], type=_PATH, metavar="FILE", help="The result as JSON."),
            click.Option(["--html"], type=_PATH, metavar="FILE", help="The report as a page, with plots."),
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
        record,
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
        replay,
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
        verify,
        tables.verified,
        (
            _NAME_OR_BUNDLE,
            click.Option(
                ["--python"],
                default="",
                metavar="EXE",
                help="With this interpreter, or that of a virtual environment's folder; nbserve is installed there.",
            ),
            click.Option(["--device"], metavar="DEVICE", help="auto, cpu, cuda or cuda:i.  [default: as served]"),
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
        export,
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
        token,
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
        doctor,
        tables.diagnosed,
        (_JSON,),
        ("nbserve doctor", "nbserve doctor --json"),
        exits={1: "there is a problem"},
        failed=lambda found: found.has_problem,
    ),
    Verb(
        "demo",
        "Run the quickstart notebook for real: trains, serves, measures, swaps; with docker or podman also its image.",
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
        completion,
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
        move_gateway,
        tables.status,
        (click.Option(["--port"], type=click.IntRange(1, 65535), metavar="P", help="The port from now on."),),
        ("nbserve gateway --port 8900",),
        extra={"magic": ()},
    ),
)

VERBS: dict[str, Verb] = {verb.name: verb for verb in _TABLE}
"""By name, in the order of help."""
