"""What the dashboard's buttons and its try-it box do: the same verbs as everywhere, with their progress and result.

Called by `dashboard.py` in a thread for each action. Everything that comes back is text or a picture: names, logs and
errors are never HTML.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbserve import actions as verb_actions
from nbserve.errors import UsageError
from nbserve.tables import export_proof, megabytes
from nbserve.wire.codec import decode_body

if TYPE_CHECKING:
    from nbserve.endpoint import Endpoint
    from nbserve.measure.advice import Finding

__all__ = ["ACTIONS", "Say", "run", "try_it"]

Say = Callable[[str, float | None], None]
"""Hears what goes on, and how much of it is done (0 to 1, None where that is not known)."""
SHOWN_FAILURES = 20
ANSWER_CHARS = 20_000
"""An answer is shown up to here."""

Result = dict[str, Any]
"""title, text, rows ([[label, value]]), pictures ([{src, alt}]); what does not apply is left out."""


def run(endpoint: Endpoint, action: str, params: Mapping[str, Any], say: Say) -> Result:
    """Do one of ACTIONS. Raises what the verb raises; UsageError for an action that there is not."""
    if action not in ACTIONS:
        raise UsageError(f"there is no action {action[:50]!r}")
    return ACTIONS[action](endpoint, params, say)


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


def _scale(endpoint: Endpoint, params: Mapping[str, Any], say: Say) -> Result:
    workers = int(params.get("workers", 0))
    say(f"starting up to {workers} workers" if workers > endpoint.workers else f"going to {workers} workers", None)
    endpoint.scale(workers)
    return {"title": f"{workers} worker{'' if workers == 1 else 's'}"}


def _rollback(endpoint: Endpoint, params: Mapping[str, Any], say: Say) -> Result:
    say("loading and proving the earlier version", None)
    model = endpoint.rollback(str(params.get("to", "")))
    return {"title": f"version {model.version} serves again"}


def _stop(endpoint: Endpoint, params: Mapping[str, Any], say: Say) -> Result:
    say("finishing what is in hand", None)
    endpoint.stop()
    return {"title": "stopped"}


def _bench(endpoint: Endpoint, params: Mapping[str, Any], say: Say) -> Result:
    from nbserve.measure.bench import bench
    from nbserve.measure.options import bench_options
    from nbserve.measure.plots import plots
    from nbserve.measure.progress import Progress
    from nbserve.measure.report import as_text

    def on_progress(progress: Progress) -> None:
        failed = f", {progress.failed} failed" if progress.failed else ""
        say(f"{progress.doing}, {progress.answered} answered{failed}", progress.done)

    options = bench_options({"duration_s": float(params.get("seconds", 10.0))}, ())
    result = bench(endpoint.served, options, on_progress)
    pictures = [
        {"src": _data_url("image/svg+xml", plot.svg.encode()), "alt": plot.description} for plot in plots(result)
    ]
    return {"title": result.verdict, "text": as_text(result), "pictures": pictures}


def _profile(endpoint: Endpoint, params: Mapping[str, Any], say: Say) -> Result:
    """Ten seconds of whatever comes; where nothing comes, of the sample."""
    from nbserve.measure.profile_report import as_text
    from nbserve.profile_verbs import profile

    say("looking for requests", None)
    client = endpoint.served.client
    before = client.numbers(endpoint.name).requests
    time.sleep(1.0)
    quiet = client.numbers(endpoint.name).requests == before
    seconds = float(params.get("seconds", 10.0))
    result: Any = profile(endpoint.served, lambda text: say(text, None), "", seconds=seconds, send_sample=quiet)
    timeline = f"%nbserve profile {endpoint.name} --show {result.status.id}"
    return {
        "title": f"profiled {result.requests} requests",
        "rows": [*_findings(result.findings), ["timeline", timeline]],
        "text": as_text(result),
    }


def _advise(endpoint: Endpoint, params: Mapping[str, Any], say: Say) -> Result:
    advice = endpoint.advise()
    title = f"{len(advice.findings)} findings" if advice.findings else "no rule has anything to say"
    return {"title": f"{title}, of {advice.requests} requests since it was loaded", "rows": _findings(advice.findings)}


def _findings(findings: Sequence[Finding]) -> list[list[str]]:
    return [[one.level, f"{one.what}\n{one.why}\n→ {one.todo}\n({one.source})"] for one in findings]


def _failures(endpoint: Endpoint, params: Mapping[str, Any], say: Say) -> Result:
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


def _resend(endpoint: Endpoint, params: Mapping[str, Any], say: Say) -> Result:
    """A failed request once more, byte for byte."""
    detail = endpoint.served.client.failure(endpoint.name, str(params.get("id")))
    if detail.request.body is None:
        raise UsageError(f"the body of {detail.failure.id} is not kept: {detail.request.withheld}")
    return try_it(endpoint, detail.request.content_type, detail.request.body)


def _promote(endpoint: Endpoint, params: Mapping[str, Any], say: Say) -> Result:
    def hear(stage: str) -> None:
        say(stage, _share(stage))

    exported = verb_actions.export_endpoint(
        endpoint.served,
        output=Path(text) if (text := str(params.get("output", "")).strip()) else None,
        say=hear,
        env={},
        allow_secrets=(),
        tag=str(params.get("tag", "")).strip(),
        base_image=str(params.get("base_image", "")).strip(),
        vendor=bool(params.get("vendor", False)),
        build=bool(params.get("build", True)),
        proof=params.get("proof", "auto"),
    )
    rows = [["image", exported.tag if exported.image else f"not built; {exported.build_command}"]]
    if exported.image:
        rows.append(["size", f"{megabytes(exported.image_bytes)} in {exported.layers} layers"])
    rows += [["context", f"{exported.context} ({megabytes(exported.context_bytes)})"], ["digest", exported.digest]]
    rows += [["proof", export_proof(exported.proof)], ["run", exported.run_command]]
    rows += [["note", note] for note in exported.notes]
    layers = [{"what": layer.what, "bytes": layer.size_bytes} for layer in exported.layer_sizes]
    return {"title": "proven" if exported.proof.kind != "off" else "written", "rows": rows, "layers": layers}


def _share(stage: str) -> float | None:
    """ "step 3/9: RUN ..." -> 0.33"""
    words = stage.removeprefix("step ").partition(":")[0].partition("/")
    if stage.startswith("step ") and words[0].isdigit() and words[2].isdigit():
        return int(words[0]) / max(1, int(words[2]))
    return None


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


ACTIONS: Mapping[str, Callable[[Endpoint, Mapping[str, Any], Say], Result]] = {
    "bench": _bench,
    "profile": _profile,
    "scale": _scale,
    "rollback": _rollback,
    "stop": _stop,
    "promote": _promote,
    "advise": _advise,
    "failures": _failures,
    "resend": _resend,
}
"""By the name that the browser sends."""
