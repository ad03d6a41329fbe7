"""What each verb does: plain data in, plain data out.

Named in the table of verbs (verbs.py), and called by `Endpoint` and the dashboard. What takes a page of its own has a
file of its own beside this one: attach, explanation, failures, profile_verbs, recording, verify.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbserve.client import is_log
from nbserve.config import ModelConfig
from nbserve.errors import UsageError
from nbserve.explanation import changes_since
from nbserve.measure.options import bench_options
from nbserve.options import model_config
from nbserve.resolve import Gateway, Gateways, Served, bundle_folder
from nbserve.wire.management import Event, GatewayStatus, ModelStatus
from nbserve.wire.recording import RecordingStatus, RecordRequest

if TYPE_CHECKING:
    from nbserve.doctor import Diagnosis
    from nbserve.export.image import Exported, ProofKind
    from nbserve.measure.result import BenchResult
    from nbserve.verify import Verification

__all__ = [
    "bench",
    "bench_target",
    "completion",
    "demo",
    "doctor",
    "export",
    "export_endpoint",
    "list_endpoints",
    "logs",
    "move_gateway",
    "predict",
    "record",
    "replay",
    "rollback",
    "scale",
    "serve",
    "show_bench",
    "status",
    "stop",
    "stop_endpoint",
    "token",
    "verify",
    "verify_bundle",
]


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
    asked: dict[str, Any] = {"tag": tag, "base_image": base_image, "vendor": vendor, "build": build, "proof": proof}
    return export_endpoint(
        served, folder, output=output, env=dict(env), allow_secrets=tuple(allow_secret), say=say, **asked
    )


def export_endpoint(
    served: Served | None,
    folder: Path | None = None,
    *,
    output: Path | None,
    say: Callable[[str], None] | None = None,
    hear: Callable[[str], None] = lambda line: None,
    **asked: Any,
) -> Exported:
    """The export of an endpoint, or of a bundle's folder where there is none. `hear` hears each line of the build.

    `asked`: fields of export.image.Asked.
    """
    from nbserve.export.image import Asked, export_image

    if served is not None:
        model = served.model()
        asked |= {"bundle": Path(model.bundle), "name": model.name, "config": model.config}
        asked |= {"live": served.client, "version": model.version}
    else:
        from nbserve.bundle import Bundle

        assert folder is not None
        asked |= {"bundle": folder, "name": Bundle.open(folder).name}
    return export_image(Asked(output=output or Path(f"{asked['name']}-image"), **asked), say or _to_stderr, hear)


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
