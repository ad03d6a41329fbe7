"""The proof of an export: what was made answers the sample as the live endpoint does.

Called by `image.py`: `prove_image` runs the built image as README.md says and asks from inside, `prove_environment`
installs requirements.txt into a clean virtual environment far from the project and runs `nbserve serve` there.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from nbserve.bundle import Sample, compare
from nbserve.client import Client
from nbserve.errors import ErrorInfo, ExportError, NbserveError, ProofError
from nbserve.export.ask import Reply
from nbserve.export.context import STOP_TIMEOUT_S
from nbserve.export.engine import Engine

__all__ = ["Proof", "Question", "judge", "prove_environment", "prove_image"]

_WHAT = {"image": "the image", "venv": "the new environment"}
_POLL_S = 0.25
_LOG_LINES = 30
_READY = re.compile(r"is ready at (http://\S+?)/predictions/")
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
"""What a clean process gets of our environment; pip gets all of it, as its configuration may lie there."""


class Proof(msgspec.Struct, kw_only=True):
    """How the proof went. kind: where it ran. checked: "sample", answers were compared; "seeded": the handler's answers
    vary, and the first one under the notebook's seed was the notebook's; "ready": there is no sample; "nothing": off.
    """

    kind: Literal["image", "venv", "off"]
    checked: Literal["sample", "seeded", "ready", "nothing"]
    against: str = ""
    """Whose answer it was compared with: the live endpoint's, or the one that the notebook recorded."""
    max_difference: float | None = None
    """Largest difference of two numbers; None where none was compared."""
    ready_s: float | None = None
    """From its start until it was ready."""


class Question(NamedTuple):
    """What is asked and expected. sample: None = only that it becomes ready. environment: of `--env`.

    proven_at_start: a server takes traffic only after its first answer, under the notebook's seed, was the notebook's.
    """

    name: str
    sample: Sample | None
    against: str
    environment: Mapping[str, str]
    proven_at_start: bool
    timeout_s: float


def prove_image(engine: Engine, tag: str, question: Question) -> Proof:
    """Start the image hardened, ask it from inside, stop it; the container is removed whatever comes.

    Raises ProofError with both answers, or with its log where it does not come to answer or to end with 0.
    """
    name = f"nbserve-proof-{secrets.token_hex(4)}"
    sample = question.sample
    asking = ["/opt/venv/bin/python", "-m", "nbserve.export.ask", question.name, sample.content_type if sample else ""]
    try:
        began = time.monotonic()
        engine.start(tag, name, question.environment)

        def ask() -> Reply:
            return msgspec.json.decode(engine.ask(name, asking, sample.body if sample else b""), type=Reply)

        def lives() -> bool:
            return engine.container(name).running

        reply = _await_reply(ask, lives, question, what=f"the image {tag}", log=lambda: engine.logs(name))
        took_s = time.monotonic() - began
        proof = judge(question, reply, ask, "image", took_s)
        code = engine.stop(name)
        if code:
            raise ProofError(
                f"the container of {tag} ended with exit code {code} after SIGTERM, not 0:\n{engine.logs(name)}"
            )
        return proof
    finally:
        engine.remove(name)


def prove_environment(
    context: Path,
    question: Question,
    *,
    settings: Mapping[str, str],
    vendored: bool,
    say: Callable[[str], None],
) -> Proof:
    """Install the context's requirements.txt into a new virtual environment and serve its bundle from there.

    settings: what the image would have. Nothing of this project or environment is seen by it.
    Raises ExportError where pip cannot install, ProofError.
    """
    with tempfile.TemporaryDirectory(prefix="nbs-proof-") as folder:
        python = _make_environment(Path(folder), context, vendored=vendored)
        say("serving the bundle from the new environment")
        began = time.monotonic()
        log = Path(folder) / "serve.log"
        clean = {key: os.environ[key] for key in _KEPT_VARIABLES if key in os.environ}
        home = {"HOME": folder, "TMPDIR": folder, "JUPYTER_RUNTIME_DIR": f"{folder}/runtime"}
        command = [str(python.parent / "nbserve"), "serve", str(context / "bundle"), "--name", question.name]
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [*command, "--profile", "container", "--host", "127.0.0.1", "--port", "0"],
                cwd=folder,
                env={**clean, **home, **settings, **question.environment},
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )
        ask = partial(_ask_at, log, question)
        try:
            reply = _await_reply(
                ask,
                lambda: process.poll() is None,
                question,
                what="the new environment",
                log=lambda: _tail(log.read_text(errors="replace")),
            )
            proof = judge(question, reply, ask, "venv", time.monotonic() - began)
            if code := _stop(process):
                raise ProofError(f"`nbserve serve` ended with {code} after SIGTERM, not 0:\n{_tail(log.read_text())}")
            return proof
        finally:
            if process.poll() is None:
                _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _make_environment(folder: Path, context: Path, *, vendored: bool) -> Path:
    python = folder / "venv" / "bin" / "python"
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], context)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet"]
    offline = ["--no-index", "--find-links", "wheels"] if vendored else []
    _run([*pip, *offline, "-r", "requirements.txt"], context)
    return python


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise ExportError(f"{' '.join(command[1:4])} failed in {cwd}:\n{_tail(done.stderr or done.stdout)}")


def _ask_at(log: Path, question: Question) -> Reply:
    """Ask the server that writes this log, once it says where it listens."""
    found = _READY.search(log.read_text(errors="replace"))
    if found is None:
        return Reply(error=ErrorInfo("Unavailable", "it is loading", status=503))
    if question.sample is None:
        return Reply()
    with Client(found[1], "") as client:
        try:
            return Reply(*client.predict(question.name, question.sample.body, question.sample.content_type))
        except NbserveError as exc:
            return Reply(error=exc.to_info())


def _await_reply(
    ask: Callable[[], Reply], lives: Callable[[], bool], question: Question, *, what: str, log: Callable[[], str]
) -> Reply:
    """Ask until it is ready. Raises ProofError where it ends, answers with an error, or takes too long."""
    deadline = time.monotonic() + question.timeout_s
    said = ""
    while time.monotonic() < deadline:
        try:
            reply = ask()
        except ExportError as exc:  # it cannot be asked: it has ended, or its interpreter does not start
            reply = Reply(error=ErrorInfo("Unavailable", exc.message, status=503))
        if reply.error is None:
            return reply
        said = f"{reply.error.type}: {reply.error.message}"
        if reply.error.status != 503 and reply.error.type != "GatewayError":  # GatewayError: nothing listens yet
            raise ProofError(f"{what} answers the sample with an error: {said}\n{log()}", info=reply.error)
        if not lives():
            raise ProofError(f"{what} ended before it was ready:\n{log()}")
        time.sleep(_POLL_S)
    raise ProofError(f"{what} was not ready after {question.timeout_s:.0f} s ({said}):\n{log()}")


def judge(
    question: Question, reply: Reply, ask: Callable[[], Reply], kind: Literal["image", "venv"], ready_s: float
) -> Proof:
    """Raises ProofError with both answers where they differ, though one of its own is as the next."""
    if question.sample is None:
        return Proof(kind=kind, checked="ready", ready_s=ready_s)
    found = compare(question.sample, reply.content_type, reply.body)
    if not found.equal and question.proven_at_start and _varies(question.sample, reply, ask()):
        return Proof(kind=kind, checked="seeded", against="the notebook", ready_s=ready_s)
    if not found.equal:
        place = found.text.splitlines()[0]
        raise ProofError(
            f"{_WHAT[kind]} answers the sample otherwise than {question.against}, {place}\n"
            f"  {question.against}: {_shown(question.sample.expected_body)}\n"
            f"  {_WHAT[kind]}: {_shown(reply.body)}",
            hint="look for what the handler takes from this machine: files, environment, network, other libraries. "
            "Where it may answer otherwise each time: --proof off",
        )
    return Proof(
        kind=kind, checked="sample", against=question.against, max_difference=found.max_difference, ready_s=ready_s
    )


def _varies(sample: Sample, one: Reply, other: Reply) -> bool:
    first = msgspec.structs.replace(sample, expected_content_type=one.content_type, expected_body=one.body)
    return other.error is None and not compare(first, other.content_type, other.body).equal


def _shown(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    return text if len(text) <= 600 else f"{text[:597]}..."


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LOG_LINES:])
