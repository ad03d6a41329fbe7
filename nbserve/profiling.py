"""The verbs `profile` and `advise`, beside the gateway: begin a profile, wait, read what came. Called by verbs.py."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nbserve.config import ModelConfig
from nbserve.errors import MeasureError, NbserveError, NotFound, UsageError
from nbserve.measure.advice import Facts, Finding, advise
from nbserve.measure.advice.facts import facts_of_numbers
from nbserve.measure.profile_result import ProfileResult, make_result
from nbserve.measure.system_profile import Sampling, SystemProfile, Track, start_sampling
from nbserve.resolve import Served
from nbserve.wire.management import ModelStatus
from nbserve.wire.profile import MAX_BATCHES, SECONDS, ProfileRequest, ProfileStatus

__all__ = ["Advice", "Wanted", "advise_endpoint", "make_profile", "profile_endpoint"]

LOOK_EVERY_S = 0.2
QUIET_S = 3.0
"""After so long without a request it is said that none comes."""
SYSTEM_S = 5.0
"""How long --system samples at least, where --seconds does not say otherwise: 250 samples of each thread."""
SENDERS = 4

Say = Callable[[str], None]


class Advice(msgspec.Struct, kw_only=True):
    """What `advise` says of an endpoint. `seconds`: of traffic that it looked at; 0 = all since it was loaded."""

    name: str
    version: str
    seconds: float
    requests: int
    findings: list[Finding]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A profile as it is asked for in any face. `batches`, `seconds`: None = what the other, or the default, leaves."""

    batches: int | None = None
    seconds: float | None = None
    memory: bool = False
    shapes: bool = False
    stacks: bool = False
    worker: int | None = None
    send_sample: bool = False
    system: bool = False
    out: Path | None = None

    def request(self) -> ProfileRequest:
        """As the gateway wants it: with --seconds alone, as many batches as come."""
        default = ProfileRequest()
        most = MAX_BATCHES if self.seconds is not None else default.batches
        return ProfileRequest(
            batches=self.batches if self.batches is not None else most,
            seconds=self.seconds if self.seconds is not None else SECONDS,
            worker=self.worker,
            memory=self.memory,
            shapes=self.shapes,
            stacks=self.stacks,
        )


def profile_endpoint(
    served: Served,
    wanted: Wanted,
    say: Say,
    *,
    show: str = "",
    list_: bool = False,
    no_wait: bool = False,
    stop: bool = False,
) -> ProfileResult | ProfileStatus | list[ProfileStatus]:
    """The verb `profile`: make one, or see to those that there are (`show` an id, `list_`, `stop`).

    Raises Conflict, NotFound, Unavailable; MeasureError where nothing came of it; UsageError.
    """
    if sum(map(bool, (show, list_, no_wait, stop))) > 1:
        raise UsageError("--show, --list, --no-wait and --stop exclude each other")
    if list_:
        return served.client.profiles(served.name)
    if show:
        return _read(served, show, wanted)
    if no_wait:
        return served.client.start_profile(served.name, wanted.request(), served.version)
    if stop:
        served.client.stop_profile(served.name)
        return _read(served, _ended(served).id, wanted)
    return make_profile(served, wanted, say)


def make_profile(served: Served, wanted: Wanted, say: Say) -> ProfileResult:
    """Begin, wait until it is over or Ctrl-C comes, and read it."""
    model = served.model()
    system: tuple[SystemProfile, list[Track]] | None = None
    with contextlib.ExitStack() as around:
        if wanted.send_sample:
            around.enter_context(_sending(served, model))
        sampling = around.enter_context(_sampling(served, model, say)) if wanted.system else None
        began = served.client.start_profile(served.name, wanted.request(), served.version)
        status = _watched(served, began, wanted, say)
        if isinstance(sampling, Sampling):
            with contextlib.suppress(KeyboardInterrupt):
                sampling.wait(wanted.seconds if wanted.seconds is not None else SYSTEM_S)
            system = sampling.finish()
        elif sampling is not None:
            system = sampling, []
    _check(status, wanted)
    return _read(served, status.id, wanted, system)


def advise_endpoint(served: Served, seconds: float, say: Say | None = None) -> Advice:
    """The verb `advise`: rules over the counters of an endpoint, of the next `seconds` or of all its life (0)."""
    before = served.client.numbers(served.name, served.version) if seconds else None
    if seconds:
        if say is not None:
            say(f"looking at {served.name} for {seconds:g} s")
        time.sleep(seconds)
    now = served.client.numbers(served.name, served.version)
    facts = facts_of_numbers(now, before, served.model().config, served.client.status().memory)
    return Advice(name=now.name, version=now.version, seconds=seconds, requests=facts.requests, findings=advise(facts))


def _watched(served: Served, status: ProfileStatus, wanted: Wanted, say: Say) -> ProfileStatus:
    """Tell how it goes until it is over; Ctrl-C ends it with what there is."""
    asked = f"{status.asked_batches} batches" if wanted.seconds is None else f"{status.asked_seconds:g} s"
    say(f"profiling worker {status.worker} of {served.name}: {asked}; Ctrl-C ends it before")
    told, quiet = 0, False
    try:
        while status.state == "running":
            time.sleep(LOOK_EVERY_S)
            status = served.client.profile_status(served.name)
            if status.batches > told and status.state == "running":
                told = status.batches
                say(f"profiling {served.name}: {told} batches")
            if not status.batches and status.seconds > QUIET_S and not quiet and not wanted.send_sample:
                quiet = True
                say(f"no requests come to {served.name}: send some, or use --send-sample")
    except KeyboardInterrupt:
        served.client.stop_profile(served.name)
        return _ended(served)
    return status


def _ended(served: Served) -> ProfileStatus:
    """Wait until the worker has packed what it has."""
    while (status := served.client.profile_status(served.name)).state == "running":
        time.sleep(LOOK_EVERY_S)
    return status


def _check(status: ProfileStatus, wanted: Wanted) -> None:
    if status.state == "failed":
        raise MeasureError(f"the profile of {status.name} failed: {status.error}")
    if not status.batches:
        hint = "send requests meanwhile, or use --send-sample"
        if wanted.send_sample:
            hint = "`nbserve logs` may say why the sample was not answered"
        raise MeasureError(f"no request came to worker {status.worker} in {status.seconds:.1f} s", hint=hint)


def _read(
    served: Served, id_: str, wanted: Wanted, system: tuple[SystemProfile, list[Track]] | None = None
) -> ProfileResult:
    record = served.client.profile_record(served.name, id_)
    raw = served.client.profile_trace(served.name, record.status.id) if record.status.has_trace else None
    if record.status.state == "failed" or not record.worker.batches:
        _check(record.status, wanted)
    result = make_result(raw, record, _around(served, record.status.version), system)
    if wanted.out is not None:
        _write(wanted.out, result.perfetto())
        result.file = str(wanted.out)
    return result


def _around(served: Served, version: str) -> Facts:
    """What the endpoint's counters tell beside a profile; of a version that is gone, nothing."""
    try:
        now = served.client.numbers(served.name, version)
        config = served.client.model(served.name, version).config
        return facts_of_numbers(now, None, config, served.client.status().memory)
    except NotFound:
        return Facts(config=ModelConfig())


def _write(file: Path, packed: bytes) -> None:
    """The file is complete or not there; readable by its owner only: shapes and ids of requests are in it."""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    except OSError as exc:
        raise UsageError(f"--out {file} cannot be written: {exc.strerror}") from exc
    try:
        with os.fdopen(descriptor, "wb") as writing:
            writing.write(packed)
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _sampling(served: Served, model: ModelStatus, say: Say) -> Iterator[Sampling | SystemProfile]:
    """py-spy on the gateway and on this version's workers; without py-spy, what says so: the profile is made anyway."""
    pids = {"gateway": served.client.status().pid}
    pids |= {f"worker {worker.id}": worker.pid for worker in model.workers if worker.pid is not None}
    with tempfile.TemporaryDirectory(prefix="nbs-") as folder:
        try:
            sampling = start_sampling(pids, Path(folder))
        except UsageError as exc:
            say(f"{exc.message}: {exc.hint}; the rest of the profile is made all the same")
            yield SystemProfile(seconds=0.0, missing=dict.fromkeys(pids, f"{exc.message}: {exc.hint}"))
            return
        try:
            say(f"py-spy begins to sample {len(pids)} processes")
            sampling.wait_begun()
            yield sampling
        finally:
            sampling.stop()


@contextlib.contextmanager
def _sending(served: Served, model: ModelStatus) -> Iterator[None]:
    """Traffic for those who have none: the sample, from a few clients at once. Raises UsageError without a sample."""
    from nbserve.measure.target import sample_body

    body, over = sample_body(model), threading.Event()

    def send() -> None:
        while not over.is_set():
            with contextlib.suppress(NbserveError):  # what the profile shows is how it is answered
                served.client.predict(served.name, body.content, body.content_type, served.version)
                continue
            over.wait(LOOK_EVERY_S)

    senders = [threading.Thread(target=send, name="nbserve-sample", daemon=True) for _ in range(SENDERS)]
    for sender in senders:
        sender.start()
    try:
        yield
    finally:
        over.set()
        for sender in senders:
            sender.join()
