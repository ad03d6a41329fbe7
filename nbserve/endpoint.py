"""`Endpoint`: a served model as an object. Returned by `%%serve_handler`; `Endpoint.find(name)` elsewhere.

Its methods are the verbs (actions.py). Everything is asked of the gateway anew, the card too, though once a second at
most. The token never shows: not in the repr, not in the card.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from nbserve import actions, profile_verbs
from nbserve.errors import HandlerError, NbserveError
from nbserve.explanation import Explanation, explanation
from nbserve.resolve import Gateways, Served
from nbserve.wire.codec import decode_body, encode_value
from nbserve.wire.management import Event, GatewayStatus, ModelStatus
from nbserve.wire.recording import RecordingStatus

if TYPE_CHECKING:
    from nbserve.attach import Attached
    from nbserve.export.image import Exported, ProofKind
    from nbserve.failures import Failures
    from nbserve.measure.profile_result import ProfileResult
    from nbserve.measure.result import Arrivals, BenchResult
    from nbserve.notebook.card import Card
    from nbserve.notebook.replay import Replayed
    from nbserve.notebook.widgets.dashboard import Dashboard
    from nbserve.profiling import Advice
    from nbserve.verify import Verification

__all__ = ["Endpoint", "Secret"]


CARD_S = 1.0
"""A card is that of now, or of so long ago: text and HTML are asked for one after the other, and shown together."""


class Secret(str):
    """A token: a string for code, masked where it is shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Endpoint:
    """One endpoint. Methods raise GatewayError where its gateway is gone, and the classes of errors.py otherwise.

    name, url (of its predictions), version (that this object was made for), workers (how many, then).
    Predictions go to the default version: after a swap, an older object asks the new version.
    """

    def __init__(self, served: Served, model: ModelStatus, gateway: GatewayStatus | None = None) -> None:
        self._served = served
        self._model = model
        self._gateway = gateway
        self._shown: tuple[float, Card] | None = None
        self._dashboard: Dashboard | None = None
        self.name = model.name
        self.url = model.url
        self.version = model.version

    @classmethod
    def find(cls, name: str, *, gateway: str = "", version: str = "") -> Endpoint:
        """The endpoint of this name (or `name@gateway`) on this machine.

        Raises NotFound, or UsageError where several gateways serve that name.
        """
        served = Gateways().find(name, gateway=gateway, version=version)
        return cls(served, served.model(), served.client.status())

    @property
    def served(self) -> Served:
        """Its gateway's client and its name there."""
        return self._served

    @property
    def workers(self) -> int:
        """Worker kernels that are starting, ready or busy, when this object last asked."""
        return sum(worker.state not in ("STOPPED", "FAILED") for worker in self._model.workers)

    @property
    def token(self) -> Secret:
        """The bearer token, masked where it is shown."""
        return Secret(actions.token(self._served))

    def predict(self, value: Any, *, content_type: str = "") -> Any:
        """One prediction. `value`: plain data, tensors, arrays (sent as JSON), or bytes; the answer decoded.

        Raises the class of errors.py that fits the status: BadRequest, HandlerError, Unavailable, ResponseTimeout, ...
        """
        body, encoded_type = encode_value(value)
        served = self._served
        try:
            answer_type, answer = served.client.predict(served.name, body, content_type or encoded_type, served.version)
        except HandlerError as exc:
            if self._model.config.failures and not exc.hint:
                exc.hint = f"in a notebook, `%nbserve replay {self.name}` runs it again, for `%debug`"
            raise
        return decode_body(answer_type, answer)

    def predict_many(self, values: Iterable[Any], *, concurrency: int = 32) -> list[Any]:
        """One request per value, `concurrency` at a time; answers in order. Raises the first error."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="nbserve-predict") as pool:
            try:
                return list(pool.map(self.predict, values))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def status(self) -> ModelStatus:
        """State, workers, queue, batches, as of now."""
        self._model = self._served.model()
        return self._model

    def logs(self, follow: bool = False) -> Iterator[Event] | list[Event]:
        """What the workers printed and what failed; with `follow` an iterator that goes on as more comes."""
        return actions.logs(self._served, follow)

    def stop(self) -> None:
        """Drain and stop the endpoint, all its versions."""
        actions.stop_endpoint(self._served)

    def scale(self, workers: int) -> ModelStatus:
        """Run this many workers; returns when they are ready."""
        self._model = actions.scale(self._served, workers)
        return self._model

    def rollback(self, to: str = "") -> ModelStatus:
        """Serve a replaced version again, the last one where none is named; returns when it serves."""
        self._model = actions.rollback(self._served, to)
        return self._model

    def explain(self, variable: str = "") -> Explanation:
        """What was captured, how, from which cell, what the proof said, and what has changed in this notebook since.

        variable: only this captured name: its chain, its source, and which cells bound it. Raises UsageError where it
        was not captured, saying why.
        """
        return explanation(self._served.model(), variable)

    def verify(
        self, python: str = "", *, device: str | None = None, env: Mapping[str, str] | None = None
    ) -> Verification:
        """Prove the bundle that it serves once more, in a gateway of its own; with another interpreter where named.

        device, env: other ones than it is served with; env's are put over those.
        Raises BundleError where the bundle is damaged; a differing answer is in what is returned (`passed`).
        """
        model = self._served.model()
        return actions.verify_bundle(Path(model.bundle), model.config, python, device, tuple((env or {}).items()))

    def export(
        self,
        output: str | Path | None = None,
        *,
        tag: str = "",
        base_image: str = "",
        vendor: bool = False,
        build: bool = True,
        proof: ProofKind = "auto",
        env: Mapping[str, str] | None = None,
        allow_secret: Sequence[str] = (),
    ) -> Exported:
        """An image of what it serves, in a build context at `output` (default: NAME-image), built and proven.

        Raises ExportError where a pickle or a secret would go in, or where pip or the engine fails; ProofError where
        the image answers the sample otherwise than this endpoint.
        """
        asked: dict[str, Any] = {"tag": tag, "base_image": base_image, "vendor": vendor, "build": build, "proof": proof}
        asked |= {"env": dict(env or {}), "allow_secrets": tuple(allow_secret)}
        return actions.export_endpoint(self._served, output=Path(output) if output else None, say=print, **asked)

    def record(
        self,
        *,
        sample: float = 1.0,
        max_bytes: int = 64_000_000,
        seconds: float = 60.0,
        redact: str = "",
        out: str | Path | None = None,
        no_wait: bool = False,
        stop: bool = False,
    ) -> RecordingStatus:
        """Write its requests to a file (default: NAME-requests.jsonl) that `bench(replay=...)` sends again.

        sample: share that is kept. max_bytes: of the gateway's memory; the recording ends when it is full. redact:
        names of JSON fields, with commas, whose values are not written. no_wait: begin only; stop: end what was begun,
        and write it. Raises Conflict where it is being recorded already, NotFound where `stop` finds nothing.
        """
        return actions.record(
            self._served, sample, max_bytes, seconds, redact, Path(out) if out else None, no_wait, stop, say=print
        )

    @property
    def failures(self) -> Failures:
        """The failed requests that its gateway remembers, the last one first; an index shows the card of one."""
        from nbserve.failures import failures

        return failures(self._served)

    def replay(
        self,
        word: str = "",
        *,
        pdb: bool = False,
        stop_at: Literal["preprocess", "inference", "postprocess"] | None = None,
        against: Literal["live"] | None = None,
        force: bool = False,
    ) -> Replayed:
        """Run a failed request (its id, or the request's; default: the last one) again with the notebook's code.

        What the handler raises is raised here, so that `%debug` opens on the cell's lines. pdb: open the debugger at
        once. stop_at: open it at the first line of that method. against "live": send the bytes to this endpoint, too,
        and return both answers instead of raising. force: also where the request killed its worker. Raises NotFound
        where it is not kept, UsageError outside a notebook.
        """
        from nbserve.notebook.replay import replay_here

        __tracebackhide__ = True
        detail = self._served.client.failure(self.name, word or "last")
        return replay_here(self._served, detail, pdb=pdb, stop_at=stop_at, against=against, force=force)

    def attach(
        self,
        worker: int = 0,
        *,
        run: str | None = None,
        serve: bool = False,
        seconds: float = 600.0,
        release: bool = False,
    ) -> Attached:
        """Hold a worker aside until `release=True`, for `seconds` at most; its requests go to the others, or wait.

        run: code for its shell, where `handler` and `context` are; one that was not held is held only while it runs.
        serve: it goes on serving, without time limits, for breakpoints. Raises NotFound, Conflict, GatewayError.
        """
        from nbserve.attach import attach

        return attach(self._served, worker, run, serve, seconds, release)

    def profile(
        self,
        *,
        batches: int | None = None,
        seconds: float | None = None,
        worker: int | None = None,
        shapes: bool = False,
        memory: bool = False,
        stacks: bool = False,
        send_sample: bool = False,
        system: bool = False,
        out: str | Path | None = None,
        show: str = "",
    ) -> ProfileResult:
        """Look inside a live worker under its real traffic, for `batches` (default 20) or `seconds` (default 30).

        worker: which; default the busiest. shapes, memory, stacks: what is recorded beside the operators. send_sample:
        send the sample meanwhile. system: then sample all processes with py-spy. out: file for ui.perfetto.dev.
        show: no new one, but one that is kept: its id, a profiled request's, or "last".
        Raises Conflict where a profile goes on, MeasureError where nothing came of it, NotFound, UsageError.
        """
        wanted: dict[str, Any] = {"batches": batches, "seconds": seconds, "worker": worker, "send_sample": send_sample}
        wanted |= {"shapes": shapes, "memory": memory, "stacks": stacks, "system": system}
        wanted["out"] = Path(out) if out is not None else None
        result: Any = profile_verbs.profile(self._served, print, show, **wanted)
        return cast("ProfileResult", result)

    def advise(self, seconds: float = 0.0) -> Advice:
        """What rules say of its counters: of all since it was loaded, or of the next `seconds`."""
        return profile_verbs.advise(self._served, seconds)

    def bench(
        self,
        *,
        rate: float | None = None,
        arrivals: Arrivals = "poisson",
        concurrency: int | None = None,
        search: bool = False,
        slo: str = "",
        duration_s: float = 10.0,
        warmup_s: float = 1.0,
        repeat: int = 1,
        against: str = "",
        data: Any = None,
        replay: str | Path | None = None,
        speed: float = 1.0,
        content_type: str = "",
        seed: int = 1,
        timeout_s: float = 30.0,
        processes: int | None = None,
        out: str | Path | None = None,
        html: str | Path | None = None,
    ) -> BenchResult:
        """Measure it: rate, latencies, what the limit is; a closed loop that fills its batches where nothing is said.

        rate: open loop, requests a second; concurrency: closed loop; search with slo ("p99<10ms"): the highest rate
        that meets it. against: another version, measured in turns. data: a value as in `predict`, or the Path of a
        file; None = the sample. replay: a file of `record`, sent as it came, `speed` times as fast. out, html: files
        for the result as JSON, and for its page with plots.
        Raises UsageError, NotFound, MeasureError.
        """
        from nbserve.measure.target import body_of_value

        options: dict[str, Any] = {
            "rate": rate,
            "arrivals": arrivals,
            "concurrency": concurrency,
            "search": search,
            "slo": slo,
            "duration_s": duration_s,
            "warmup_s": warmup_s,
            "repeat": repeat,
            "against": against,
            "replay": replay,
            "speed": speed,
            "seed": seed,
            "timeout_s": timeout_s,
            "processes": processes,
        }
        body = data if data is None or isinstance(data, Path) else body_of_value(data, content_type)
        files = {"out": Path(out) if out else None, "html": Path(html) if html else None}
        return actions.bench_target(self._served, options, data=body, content_type=content_type, **files)

    def __repr__(self) -> str:
        from nbserve.notebook.card import as_text

        return as_text(self._card())

    def _repr_html_(self) -> str:
        from nbserve.notebook.card import as_html

        return as_html(self._card())

    def _ipython_display_(self) -> None:
        """Called by IPython: card and live dashboard. Raises NotImplementedError where no notebook shows widgets: then
        IPython asks for text and HTML."""
        self.display(repr(self))

    def display(self, text: str) -> None:
        """Show card and live dashboard as a cell's output, with `text` for where there is only text. Raises
        NotImplementedError where no notebook shows widgets, or where it is not served any more."""
        from nbserve.notebook.widgets import can_show

        if not can_show("dashboard"):
            raise NotImplementedError
        from nbserve.notebook.widgets import static
        from nbserve.notebook.widgets.dashboard import Dashboard

        if self._dashboard is None:
            try:
                self._dashboard = Dashboard(self)
            except NbserveError:  # the card says so
                raise NotImplementedError from None
        static.publish(self._dashboard.twin, self._dashboard.model_id, text, self._repr_html_())

    def _card(self) -> Card:
        now_s = time.monotonic()
        if self._shown is None or now_s - self._shown[0] >= CARD_S:
            self._shown = now_s, self._made_card()
        return self._shown[1]

    def _made_card(self) -> Card:
        """The card of this object's version as it is now, or of what has become of it."""
        from nbserve.notebook.card import build, obituary

        client = self._served.client
        try:
            self._model = client.model(self.name, self._model.version)
            return build(self._model, self._gateway, client.numbers(self.name, self._model.version))
        except NbserveError as exc:
            return obituary(self._model, exc)
