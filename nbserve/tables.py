"""Plain data of the verbs -> what a person reads: rich tables, the same in terminal and notebook.

Called by `cli.py` and `notebook/magics.py` with what a verb returned. rich is imported at the point of use.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from nbserve.wire.management import Event, GatewayStatus, ModelStatus
from nbserve.wire.messages import WARMUP_REQUEST
from nbserve.wire.recording import RecordingStatus

if TYPE_CHECKING:
    from rich.table import Table

    from nbserve.doctor.diagnosis import Diagnosis, Placement
    from nbserve.explanation import Entry
    from nbserve.export.image import Exported
    from nbserve.export.proof import Proof
    from nbserve.verify import Verification

__all__ = [
    "answer",
    "demo",
    "diagnosed",
    "endpoints",
    "entry_size",
    "export_proof",
    "exported",
    "log_lines",
    "logs",
    "megabytes",
    "memory_line",
    "new_table",
    "nothing",
    "plain",
    "proof_line",
    "recorded",
    "status",
    "stopped",
    "to_text",
    "verified",
]


def to_text(shown: Any, width: int = 200) -> str:
    """A renderable (or text) as plain text without colours, for notebooks."""
    if isinstance(shown, str):
        return shown
    from rich.console import Console

    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_jupyter=False,
        force_terminal=False,
        color_system=None,
        markup=False,
        highlight=False,
    )
    console.print(shown)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def plain(data: Any) -> Any:
    """A verb's data as JSON knows it."""
    if isinstance(data, Iterator):
        return [plain(item) for item in data]
    return msgspec.to_builtins(data)


def megabytes(size_bytes: float) -> str:
    """Bytes in the unit that reads best: 812 B, 5.4 KB, 16.3 MB, 1.2 GB (powers of 1000)."""
    size, unit = float(size_bytes), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def memory_line(workers: int | str, shared_bytes: int, available_bytes: int) -> str:
    """What loading takes: "2 workers x 400 MB shared, 11.0 GB free"; `workers` may be "auto"."""
    each = f"{workers} worker{'s' if workers != 1 else ''}"
    taken = f"{each} x {megabytes(shared_bytes)} shared" if shared_bytes else each
    return f"{taken}, {megabytes(available_bytes)} free" if available_bytes else taken


def nothing(data: Any) -> str:
    """For a verb that has said everything while it ran."""
    return ""


def endpoints(rows: list[dict[str, Any]]) -> Any:
    """`list`: never shows a token."""
    if not rows:
        return "nothing is served now"
    table = new_table("endpoint", "version", "state", "workers", "url", "owner", "gateway")
    for row in rows:
        version = f"{row['version']}{' (default)' if row['default'] else ''}"
        name = PurePath(row["owner"]).name or row["profile"]
        table.add_row(row["name"], version, row["state"], str(row["workers"]), row["url"], name, row["gateway"])
    return table


_ENDED = {"time": "", "full": "; it was full then (--max-bytes)", "stopped": "; it was stopped then", "": ""}


def recorded(data: RecordingStatus) -> str:
    """`record`: what was kept, and where it is."""
    if data.running:
        return f"{data.name} is being recorded; `nbserve record {data.name} --stop` ends it and writes the file"
    text = f"{data.file}: {data.kept} of {data.seen} requests, {megabytes(data.body_bytes)} in {data.seconds:.1f} s"
    text += _ENDED[data.ended]
    if data.withheld:
        text += f"\n{data.withheld} bodies were withheld: they are no JSON, so that nothing could be redacted in them"
    return f"{text}\n`nbserve bench {data.name} --replay {data.file}` sends them again"


def status(data: list[GatewayStatus] | ModelStatus) -> Any:
    """`status`, `scale`, `gateway`."""
    if isinstance(data, ModelStatus):
        return _model(data)
    if not data:
        return "no gateway runs now"
    from rich.console import Group

    return Group(*(part for gateway in data for part in _gateway(gateway)))


def _gateway(gateway: GatewayStatus) -> list[Any]:
    lives = f"lives with pid {gateway.owner_pid}" if gateway.owner_pid else "detached"
    lines = [f"{gateway.name or gateway.profile} ({gateway.id}) at {gateway.url}, pid {gateway.pid}, {lives}"]
    if note := gateway.placement.get("note"):
        lines.append(f"  cores: {note}")
    if available := gateway.memory.get("available_bytes"):
        lines.append(f"  memory: {megabytes(available)} free")
    if not gateway.models:
        lines.append("  serves nothing")
    return [*lines, *(_model(model) for model in gateway.models)]


def _model(model: ModelStatus) -> Any:
    from rich.console import Group

    default = ", default" if model.default else ""
    answered = ", ".join(f"{count} x {kind}" for kind, count in sorted(model.requests.items())) or "none"
    lines = [
        f"{model.name} version {model.version}: {model.state}{default}, {model.url}",
        f"  requests: {answered}; queued: {model.queue_items} ({megabytes(model.queue_bytes)})",
    ]
    if model.batch_sizes:
        sizes = sorted(model.batch_sizes.items(), key=lambda item: int(item[0]))
        lines.append("  batch sizes: " + ", ".join(f"{size} ({count}x)" for size, count in sizes))
    if model.error is not None:
        lines.append(f"  {model.error.type}: {model.error.message}")
        lines += [f"    {line}" for line in model.error.traceback]
    if model.default and model.kept:
        lines.append(f"  can be rolled back to: {', '.join(model.kept)}")
    lines += [f"  warning: {warning}" for warning in model.warnings]
    if model.config.start != "spawn":
        lines += [f"  worker {one.id} was {one.start}" for one in model.workers if one.start.startswith("spawned: ")]
    table = new_table(
        *("worker", "state", "pid", "cores", "threads", "device", "batches", "memory", "own", "cpu s", "restarts")
    )
    for worker in model.workers:
        memory = worker.pss_bytes or worker.rss_bytes
        table.add_row(
            f"#{worker.id}",
            f"{worker.state}{' (held)' if worker.held else ''}",
            str(worker.pid or ""),
            ",".join(map(str, worker.cores)),
            str(worker.threads),
            worker.device,
            str(worker.batches),
            megabytes(memory) if memory else "",
            megabytes(worker.private_dirty_bytes) if worker.private_dirty_bytes else "",
            f"{worker.cpu_s:.1f}" if worker.cpu_s is not None else "",
            str(worker.restarts),
        )
    return Group(*lines, table)


def log_lines(event: Event) -> list[str]:
    """One event as lines for a reader: `[digits #0 batch 17] text` or `[digits #0 warm-up] text`; errors with stack."""
    worker = f" #{event.worker}" if event.worker is not None else ""
    batch = f" batch {event.batch_id}" if event.batch_id is not None else ""
    if set(event.request_ids) == {WARMUP_REQUEST}:
        batch = " warm-up"
    mark = f"[{event.model}{worker}{batch}]"
    text = event.text.splitlines()
    if event.error is not None:
        error = event.error
        text += error.traceback or [f"{error.type}: {error.message}{f' ({error.where})' if error.where else ''}"]
    return [f"{mark} {line}" for line in text]


def logs(events: Iterable[Event]) -> str:
    """`logs`, when not followed."""
    return "\n".join(line for event in events for line in log_lines(event)) or "nothing was printed"


def stopped(rows: list[dict[str, str]]) -> str:
    """`stop`."""
    return "\n".join(f"stopped {row['name']} (version {row['version']})" for row in rows) or "nothing was served"


def answer(data: tuple[str, bytes]) -> str:
    """`predict`: the body as text where it is text."""
    content_type, body = data
    try:
        return body.decode()
    except UnicodeDecodeError:
        return f"{len(body)} bytes of {content_type or 'unknown type'}"


def entry_size(entry: Entry) -> str:
    """Bytes of captured data; nothing for code."""
    return "" if entry.how in ("import", "source") else megabytes(entry.bytes)


def proof_line(proof: dict[str, Any]) -> str:
    """What the proof said, in one line."""
    if not proof.get("checked"):
        return "no sample: only initialize was checked"
    difference = proof.get("max_difference")
    if not difference:
        return "the worker answers the sample exactly as the notebook does"
    return f"the worker answers the sample as the notebook does (largest difference {difference:.2g})"


def verified(data: Verification) -> str:
    """`verify`: the verdict first."""
    lines = [f"{data.name}: {_verdict(data)}", *(f"  {line}" for line in data.difference.splitlines())]
    lines += [f"  bundle: {data.bundle}", f"  digest: {data.digest}"]
    other = f", the notebook had {data.wanted_python}" if not data.python.startswith(f"{data.wanted_python}.") else ""
    lines.append(f"  Python {data.python}{other} ({data.executable})")
    took = f"; one prediction over HTTP: {data.answer_ms:.1f} ms" if data.answer_ms is not None else ""
    lines.append(f"  ready in {data.load_s:.1f} s{took}")
    for each in data.packages:
        lines.append(f"  {each.name}: {each.found or 'not installed'} here, the notebook had {each.wanted}")
    return "\n".join([*lines, *(f"  note: {note}" for note in data.notes)])


def _verdict(data: Verification) -> str:
    if not data.passed:
        return "NOT verified"
    if data.checked == "initialize":
        return "loads; it has no sample, so that only `initialize` was checked"
    if data.max_difference is None:
        return "verified: the sample is answered as in the notebook"
    if data.max_difference == 0:
        return "verified: the sample is answered exactly as in the notebook"
    return f"verified: the sample is answered as in the notebook (largest difference {data.max_difference:.2g})"


def diagnosed(data: Diagnosis) -> Any:
    """`doctor`: what is wrong first, then what there is, then who would run where."""
    from rich.console import Group

    table = new_table("", "", "")
    table.show_header = False
    for each in data.findings:
        told = [each.what, each.why, f"-> {each.todo}" if each.todo else ""]
        table.add_row(each.level, each.area, "\n".join(filter(None, told)))
    counts = [f"{count} {level}" for level, count in data.counts().items() if count]
    return Group(", ".join(counts), table, *_placements(data.placements))


def _placements(placements: list[Placement]) -> Iterator[str]:
    """What is drawn alike is drawn once."""
    for drawing, alike in itertools.groupby(placements, key=lambda each: each.drawing):
        asked = ", ".join(f"--workers {each.workers}" for each in alike)
        yield f"\n{asked}:\n\n{drawing}"


def exported(data: Exported) -> Any:
    """`export`."""
    from rich.console import Group

    table = new_table("", "")
    table.show_header = False
    if data.image:
        table.add_row("image", data.tag)
        table.add_row("size", f"{megabytes(data.image_bytes)} in {data.layers} layers")
    table.add_row("context", f"{data.context} ({megabytes(data.context_bytes)})")
    table.add_row("digest", data.digest)
    table.add_row("proof", export_proof(data.proof))
    if not data.image:
        table.add_row("build", f"cd {data.context} && {data.build_command}")
    table.add_row("run", data.run_command)
    return Group(table, *(f"note: {note}" for note in data.notes))


def export_proof(proof: Proof) -> str:
    """What the proof of an export says."""
    if proof.kind == "off":
        return "off: nothing was compared"
    what = "the image" if proof.kind == "image" else "a clean virtual environment"
    if proof.checked == "ready":
        return f"{what} becomes ready; the bundle has no sample, so no answer was compared"
    if proof.checked == "seeded":
        return f"{what} answers the sample as the notebook did under its seed; its answers vary from one to the next"
    return f"{what} answers the sample as {proof.against} did (largest difference {proof.max_difference or 0:.2g})"


def demo(facts: dict[str, Any]) -> Any:
    """`demo`."""
    table = new_table("", "")
    table.show_header = False
    for key, value in facts.items():
        table.add_row(key, str(value))
    return table


def new_table(*columns: str) -> Table:
    """An empty table in the one style that all verbs have."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
