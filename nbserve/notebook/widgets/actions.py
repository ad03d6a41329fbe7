"""What the dashboard's buttons and its try-it box do: the same verbs as everywhere, with their progress and result.

Called by `job.py` in a thread for each action. Everything that comes back is text or a picture: names, logs and
errors are never HTML.
"""

from __future__ import annotations

import base64
import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nbserve import actions as verb_actions
from nbserve.errors import UsageError
from nbserve.notebook.widgets import can_show
from nbserve.notebook.widgets.build_log import BuildProgress
from nbserve.tables import export_proof, megabytes
from nbserve.wire.codec import decode_body

if TYPE_CHECKING:
    from nbserve.endpoint import Endpoint
    from nbserve.measure.advice import Finding

__all__ = ["ACTIONS", "Listener", "run", "try_it"]

SHOWN_FAILURES = 20
PROFILE_S = 10.0
ANSWER_CHARS = 20_000
"""An answer is shown up to here."""

Result = dict[str, Any]
"""title, text, rows ([[label, value]]), copies ([[label, text to copy]]), pictures ([{src, alt}]), views (widgets to be
shown); what does not apply is left out."""


class Listener(Protocol):
    """Who hears what goes on; job.Teller."""

    def say(self, text: str, done: float | None = None) -> None:
        """In words, and how much of it is done (0 to 1; None where that is not known)."""

    def line(self, line: str) -> None:
        """One line of what a program printed."""


def run(endpoint: Endpoint, action: str, params: Mapping[str, Any], ear: Listener) -> Result:
    """Do one of ACTIONS. Raises what the verb raises; UsageError for an action that there is not."""
    if action not in ACTIONS:
        raise UsageError(f"there is no action {action[:50]!r}")
    return ACTIONS[action](endpoint, params, ear)


def try_it(endpoint: Endpoint, content_type: str, body: bytes) -> Result:
    """One prediction: the answer as text, and where its milliseconds went. A refusal is an answer too."""
    from nbserve.measure.load_answers import stages_of

    served = endpoint.served
    answer = served.client.ask(served.name, body, content_type, served.version)
    stages = stages_of(answer.server_timing.encode("latin-1", "replace"))
    total_ms = answer.seconds * 1e3
    stages["network"] = max(0.0, total_ms - sum(stages.values()))
    return {
        "status": answer.status,
        "content_type": answer.content_type,
        "text": _readable(answer.content_type, answer.body),
        "request_id": answer.request_id,
        "total_ms": total_ms,
        "stages_ms": stages,
    }


def _readable(content_type: str, body: bytes) -> str:
    kind = content_type.partition(";")[0].strip()
    text = body.decode("utf-8", "replace")
    if kind == "application/json":
        with suppress(ValueError):
            text = json.dumps(json.loads(body), indent=1, ensure_ascii=False)
    elif not kind.startswith("text/"):
        text = repr(decode_body(content_type, body))
    left = len(text) - ANSWER_CHARS
    return text if left <= 0 else f"{text[:ANSWER_CHARS]}\n… ({left} characters more)"


def _scale(endpoint: Endpoint, params: Mapping[str, Any], ear: Listener) -> Result:
    workers = int(params.get("workers", 0))
    ear.say(f"starting up to {workers} workers" if workers > endpoint.workers else f"going to {workers} workers")
    endpoint.scale(workers)
    return {"title": f"{workers} worker{'' if workers == 1 else 's'}"}


def _rollback(endpoint: Endpoint, params: Mapping[str, Any], ear: Listener) -> Result:
    ear.say("loading and proving the earlier version")
    model = endpoint.rollback(str(params.get("to", "")))
    return {"title": f"version {model.version} serves again"}


def _stop(endpoint: Endpoint, params: Mapping[str, Any], ear: Listener) -> Result:
    ear.say("finishing what is in hand")
    endpoint.stop()
    return {"title": "stopped"}


def _bench(endpoint: Endpoint, params: Mapping[str, Any], ear: Listener) -> Result:
    from nbserve.measure.bench import bench
    from nbserve.measure.options import bench_options
    from nbserve.measure.plots import plots
    from nbserve.measure.progress import Progress
    from nbserve.measure.report import as_text

    def on_progress(progress: Progress) -> None:
        failed = f", {progress.failed} failed" if progress.failed else ""
        ear.say(f"{progress.doing}, {progress.answered} answered{failed}", progress.done)

    options = bench_options({"duration_s": float(params.get("seconds", 10.0))}, ())
    result = bench(endpoint.served, options, on_progress)
    pictures = [
        {"src": _data_url("image/svg+xml", plot.svg.encode()), "alt": plot.description} for plot in plots(result)
    ]
    return {"title": result.verdict, "text": as_text(result), "pictures": pictures}


def _profile(endpoint: Endpoint, params: Mapping[str, Any], ear: Listener) -> Result:
    """Some seconds of whatever comes; where nothing comes, of the sample. `show`: one that is kept instead."""
    from nbserve.measure.profile_report import as_text
    from nbserve.profile_verbs import profile

    served, show = endpoint.served, str(params.get("show", ""))
    wanted: dict[str, Any] = {"seconds": float(params.get("seconds", PROFILE_S))}
    if not show:
        ear.say("looking for requests")
        wanted |= {each: bool(params.get(each)) for each in ("shapes", "memory", "stacks", "system")}
        wanted["send_sample"] = not _has_traffic(endpoint)
    result: Any = profile(served, lambda text: ear.say(text.partition("; Ctrl-C")[0]), show, **wanted)
    done: Result = {
        "title": f"profile {result.status.id}: {result.requests} requests in {result.status.seconds:.1f} s",
        "rows": _findings(result.findings),
        "copies": [["the same in a cell of its own", f"%nbserve profile {endpoint.name} --show {result.status.id}"]],
        "text": as_text(result),
    }
    if can_show("trace"):
        done["views"] = [view for view in (result.view(), result.system_view()) if view is not None]
    return done


def _has_traffic(endpoint: Endpoint) -> bool:
    """Whether requests come just now."""
    client = endpoint.served.client
    before = client.numbers(endpoint.name).requests
    time.sleep(1.0)
    return client.numbers(endpoint.name).requests != before


def _end_profile(endpoint: Endpoint, params: Mapping[str, Any], ear: Listener) -> Result:
    """The one that goes on; who began it reads what there is."""
    endpoint.served.client.stop_profile(endpoint.name)
    return {}


def _profiles(endpoint: Endpoint, params: Mapping[str, Any], ear: Listener) -> Result:
    """Those that the gateway keeps, the last one first."""
    kept = endpoint.served.client.profiles(endpoint.name)
    done = [one for one in reversed(kept) if one.state == "done"]
    return {
        "profiles": [
            {"id": one.id, "text": f"{one.id}: version {one.version}, {one.batches} batches, {one.events:,} events"}
            for one in done
        ]
    }


def _advise(endpoint: Endpoint, params: Mapping[str, Any], ear: Listener) -> Result:
    advice = endpoint.advise()
    title = f"{len(advice.findings)} findings" if advice.findings else "no rule has anything to say"
    return {"title": f"{title}, of {advice.requests} requests since it was loaded", "rows": _findings(advice.findings)}


def _findings(findings: Sequence[Finding]) -> list[list[str]]:
    return [[one.level, f"{one.what}\n{one.why}\n→ {one.todo}\n({one.source})"] for one in findings]


def _failures(endpoint: Endpoint, params: Mapping[str, Any], ear: Listener) -> Result:
    found = endpoint.served.client.failures(endpoint.name)
    rows = [
        {
            "id": one.id,
            "at": one.at,
            "status": one.status,
            "error": f"{one.error.type}: {one.error.message}"[:500],
            "where": one.error.where or one.error.stage,
        }
        for one in found[:SHOWN_FAILURES]
    ]
    return {"failures": rows, "left_out": len(found) - len(rows)}


def _resend(endpoint: Endpoint, params: Mapping[str, Any], ear: Listener) -> Result:
    """A failed request once more, byte for byte."""
    detail = endpoint.served.client.failure(endpoint.name, str(params.get("id")))
    if detail.request.body is None:
        raise UsageError(f"the body of {detail.failure.id} is not kept: {detail.request.withheld}")
    return try_it(endpoint, detail.request.content_type, detail.request.body)


def _promote(endpoint: Endpoint, params: Mapping[str, Any], ear: Listener) -> Result:
    progress = BuildProgress()

    def say(stage: str) -> None:
        ear.say(stage, progress.stage(stage))
        if not stage.startswith("step "):  # a step is a line of the build, too
            ear.line(f"— {stage}")

    def hear(line: str) -> None:
        progress.line(line)
        ear.line(line)

    exported = verb_actions.export_endpoint(
        endpoint.served,
        output=Path(text) if (text := str(params.get("output", "")).strip()) else None,
        say=say,
        hear=hear,
        env={},
        allow_secrets=(),
        tag=str(params.get("tag", "")).strip(),
        base_image=str(params.get("base_image", "")).strip(),
        vendor=bool(params.get("vendor", False)),
        build=bool(params.get("build", True)),
        proof=params.get("proof", "auto"),
    )
    rows = [["image", exported.tag if exported.image else "not built"]]
    if exported.image:
        rows.append(["size", f"{megabytes(exported.image_bytes)} in {exported.layers} layers"])
    rows += [["proof", export_proof(exported.proof)]]
    rows += [["context", f"{exported.context} ({megabytes(exported.context_bytes)})"], ["digest", exported.digest]]
    rows += [["note", note] for note in exported.notes]
    build = [] if exported.image else [["build", f"cd {shlex.quote(exported.context)} && {exported.build_command}"]]
    layers = [{"what": layer.what, "bytes": layer.size_bytes} for layer in exported.layer_sizes]
    made = "built" if exported.image else "written"
    return {
        "title": f"{made}, not proven" if exported.proof.kind == "off" else f"{made} and proven",
        "rows": rows,
        "copies": [*build, ["run", exported.run_command]],
        "layers": layers,
    }


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


ACTIONS: Mapping[str, Callable[[Endpoint, Mapping[str, Any], Listener], Result]] = {
    "bench": _bench,
    "profile": _profile,
    "profiles": _profiles,
    "end_profile": _end_profile,
    "scale": _scale,
    "rollback": _rollback,
    "stop": _stop,
    "promote": _promote,
    "advise": _advise,
    "failures": _failures,
    "resend": _resend,
}
"""By the name that the browser sends."""
