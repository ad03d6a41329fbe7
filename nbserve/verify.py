"""`nbserve verify`: a bundle proven alone: its files, then in a gateway of its own, the sample over HTTP.

Called by the verb `verify` and `Endpoint.verify`. Whoever makes something of a bundle (an image, a virtual environment)
proves it with `verify_in`, which does all of it in another interpreter.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from nbserve.bundle import Bundle, Difference, Sample, compare
from nbserve.bundle.requirements import asked, found_here
from nbserve.client import Client
from nbserve.config import ModelConfig
from nbserve.errors import LoadError, NbserveError, ProofError, RequestError, UsageError
from nbserve.launch import GatewayProcess, gateway_config

__all__ = ["PackageDifference", "Verification", "verify", "verify_in"]

_GRACE_S = 5.0
"""For the one worker to end: it has nothing in hand."""


class PackageDifference(msgspec.Struct, frozen=True):
    """A distribution that is not installed as the bundle asks. `found` empty: it is not installed at all."""

    name: str
    wanted: str
    found: str


class Verification(msgspec.Struct, kw_only=True):
    """What was found. `passed` is the answer to "may this bundle be used here?"."""

    name: str
    bundle: str
    digest: str
    passed: bool
    checked: Literal["sample", "initialize"]
    """"initialize": the bundle has no sample, only loading was tried."""
    max_difference: float | None = None
    """Largest difference of two numbers of the recorded answer and the one over HTTP; None where none was compared."""
    difference: str = ""
    """Where it did not pass: what differs, with both answers; or how the handler failed."""
    notes: list[str] = msgspec.field(default_factory=list)
    packages: list[PackageDifference] = msgspec.field(default_factory=list)
    python: str = ""
    """Of the interpreter that ran the worker; `wanted_python` is the minor version of the notebook's."""
    wanted_python: str = ""
    executable: str = ""
    load_s: float = 0.0
    answer_ms: float | None = None
    """One prediction over HTTP, as a client waits for it."""

    def __repr__(self) -> str:
        from nbserve.tables import to_text, verified

        return to_text(verified(self))


def verify(bundle: Path, config: ModelConfig | None = None) -> Verification:
    """Check and prove a bundle with this interpreter; a gateway is started for it and is gone afterwards.

    `config`: how the worker is started (threads, device, env); one worker and the proof are meant whatever it says.
    Raises BundleError where the folder is damaged, GatewayError. A handler that cannot be loaded and an answer that
    differs are no errors here: `passed` says it.
    """
    opened = Bundle.open(bundle)  # the gateway compares every file with its digest
    found = Verification(
        name=opened.name,
        bundle=str(opened.path),
        digest=opened.digest,
        passed=True,
        checked="sample" if opened.sample is not None else "initialize",
        packages=package_differences(opened.manifest.requirements),
        python=platform.python_version(),
        wanted_python=opened.manifest.python,
        executable=sys.executable,
    )
    if opened.manifest.live_only:
        found.notes.append("it holds a pickle: it serves beside the notebook that wrote it, and cannot be exported")
    config = msgspec.structs.replace(config or ModelConfig(), workers=1, proof="on")
    with _private_gateway() as client:
        _try(client, opened, config, found)
    return found


def package_differences(requirements: list[str]) -> list[PackageDifference]:
    """Pinned requirements ("torch==2.13.0") that this interpreter does not meet exactly."""
    found = ((asked(line).name, *found_here(line)) for line in requirements)
    return [PackageDifference(name, wanted, here) for name, wanted, here in found if here != wanted]


def verify_in(python: str, bundle: Path, config: ModelConfig | None = None) -> Verification:
    """The same with another interpreter, or that of a virtual environment's folder; nbserve must be installed there.

    `device` and `env` of the configuration go with it. Raises UsageError where there is no such interpreter or it has
    no nbserve, NbserveError with its own words where it fails.
    """
    executable = _executable(python)
    config = config or ModelConfig()
    command = [executable, "-m", "nbserve", "verify", str(bundle.resolve()), "--json", "--device", config.device]
    # not in argv, which others can read; PYTHONSAFEPATH: a source tree in the working directory is not installed there
    environment = os.environ | config.env | {"PYTHONSAFEPATH": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        try:
            out, err = process.communicate()
        except BaseException:  # Ctrl-C: it ends its gateway first
            process.terminate()
            raise
    try:
        return msgspec.json.decode(out, type=Verification)
    except msgspec.MsgspecError:
        raise _failed(executable, process.returncode, err.decode(errors="replace").strip()) from None


# -- the gateway of its own ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _private_gateway() -> Iterator[Client]:
    """A gateway on a free loopback port that `nbserve list` does not see; it, its log and its record are gone after."""
    with tempfile.TemporaryDirectory(prefix="nbs-verify-") as folder:
        config = gateway_config("notebook", name="verify", owner_pid=os.getpid(), shutdown_grace_s=_GRACE_S)
        process = GatewayProcess(
            config, log=Path(folder) / "gateway.log", environment={"JUPYTER_RUNTIME_DIR": f"{folder}/runtime"}
        )
        try:
            yield process.client
        finally:
            process.client.close()
            process.terminate()
            if process.wait(2 * _GRACE_S) is None:
                process.kill()


def _try(client: Client, bundle: Bundle, config: ModelConfig, found: Verification) -> None:
    """Load and prove it, then ask over HTTP; into `found`."""
    began_s = time.monotonic()
    try:
        client.register(str(bundle.path), config=config)
    except (LoadError, ProofError) as exc:
        _fail(found, exc)
        return
    finally:
        found.load_s = time.monotonic() - began_s
    if bundle.sample is None:
        return
    began_s = time.monotonic()
    try:
        difference = _ask(client, bundle.name, bundle.sample)
        found.answer_ms = (time.monotonic() - began_s) * 1000
        if not difference.equal and _varies(client, bundle.name, bundle.sample):
            found.notes.append(
                "its answers differ from one request to the next (it is random, or keeps state); with the seed of the "
                "notebook the first one was the same"
            )
            return
    except RequestError as exc:
        _fail(found, exc)
        return
    found.max_difference = difference.max_difference
    if not difference.equal:
        found.passed = False
        found.difference = f"the first answer is the notebook's, a later one is not: {difference.text}"


def _ask(client: Client, name: str, sample: Sample) -> Difference:
    return compare(sample, *client.predict(name, sample.body, sample.content_type))


def _varies(client: Client, name: str, sample: Sample) -> bool:
    """Whether two answers to the sample differ from each other."""
    content_type, body = client.predict(name, sample.body, sample.content_type)
    first = msgspec.structs.replace(sample, expected_content_type=content_type, expected_body=body)
    return not _ask(client, name, first).equal


def _fail(found: Verification, exc: NbserveError) -> None:
    found.passed = False
    hint = exc.hint or (exc.info.hint if exc.info else "")
    found.difference = "\n".join([exc.message, *([hint] if hint else ()), *(exc.info.traceback if exc.info else ())])


# -- another interpreter ---------------------------------------------------------------------------------------------


def _executable(python: str) -> str:
    inside = Path(python) / "bin" / "python"
    found = str(inside) if inside.is_file() else shutil.which(python)
    if found is None:
        raise UsageError(f"no Python interpreter at {python}", hint="give its path, or a virtual environment's folder")
    return found


def _failed(executable: str, code: int, said: str) -> NbserveError:
    if "No module named" in said and "nbserve" in said:
        return UsageError(f"{executable} has no nbserve", hint=f"{executable} -m pip install jupyter-nbserve")
    return NbserveError(f"verify with {executable} ended with exit code {code}:\n{said}")
