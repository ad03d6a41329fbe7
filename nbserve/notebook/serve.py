"""The story of one serve, from a live object to an `Endpoint`: capture, sample, bundle, gateway, register, wait.

Called by `magics.py`. Ctrl-C at any point leaves what was there before: an older version keeps serving.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbserve import errors
from nbserve.actions import stop_endpoint
from nbserve.bundle.garbage import collect
from nbserve.client import Client
from nbserve.config import ModelConfig
from nbserve.discovery import home
from nbserve.endpoint import Endpoint
from nbserve.errors import ErrorInfo, LoadError, NbserveError, NotFound, UsageError
from nbserve.explanation import remember, shared_bytes
from nbserve.notebook.board import Board
from nbserve.notebook.follower import Follower
from nbserve.notebook.history import History
from nbserve.notebook.launcher import NotebookGateway
from nbserve.resolve import Gateways, Served
from nbserve.tables import memory_line
from nbserve.wire.management import Event, ModelStatus

__all__ = ["Asked", "Serving"]

_POLL_S = 1.0
"""How often the version's state is asked for, in case an event was lost."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Asked:
    """One serve as the user asked for it. `sample` None: none given (a sample of None is no request)."""

    name: str
    target: Any
    """A handler class or function, an nn.Module, or the path of a bundle."""
    config: ModelConfig
    sample: Any = None
    has_sample: bool = False
    detach: bool = False
    wait: bool = True


class Serving:
    """What one IPython session serves: its gateway, the boards of its cells, the events' thread."""

    def __init__(self, ip: Any, history: History, gateway: NotebookGateway) -> None:
        self._ip = ip
        self._history = history
        self._loading: dict[str, Board] = {}
        self._boards: dict[tuple[str, str], Board] = {}
        self._follower = Follower(self._on_event)
        self.gateway = gateway
        self.sources: dict[str, tuple[str, Any]] = {}
        """Endpoint -> the notebook's name of what it serves ("" where it has none), and that object: for a replay."""

    def close(self) -> None:
        """Follow no more; endpoints keep serving."""
        self._follower.close()

    def serve(self, asked: Asked) -> Endpoint:
        """Do it, and return the endpoint (while it loads, with `wait` false).

        Raises UsageError, CaptureError, GatewayError; LoadError or ProofError where it does not come to serve.
        """
        check_name(asked.name)
        board = Board(self._ip, asked.name)
        if not asked.detach:
            self.gateway.begin()  # it takes as long to start as the handler to be captured
        try:
            bundle = self._bundle(asked, board)
            self.sources[asked.name] = _name_of(asked.target, self._ip.user_ns), asked.target
            self._remember(asked, bundle)
            board.stage("gateway")
            client = self.gateway.client(detach=asked.detach)
            before = client.status()
            board.note = memory_line(
                asked.config.workers, shared_bytes(bundle), before.memory.get("available_bytes", 0)
            )
            board.stage("start")
            self._loading[asked.name] = board
            self._follower.follow(client)
            model = self._register(client, asked, bundle, board)
            if asked.wait:
                model = self._wait(client, model, asked, board)
                _stop_elsewhere(client, asked.name)
                board.ready()
            else:
                board.leave()
            _collect(asked.name)
            return Endpoint(Served(client, asked.name), model, before)
        except KeyboardInterrupt as exc:
            still = self._what_serves(asked)
            board.done(f"interrupted; {still}")
            _show_briefly(exc, f"serving {asked.name!r} was interrupted; {still}")
            raise
        except Exception as exc:
            board.done(f"not served: {type(exc).__name__}; {self._what_serves(asked)}")
            _collect(asked.name)
            raise
        finally:
            self._loading.pop(asked.name, None)

    def _what_serves(self, asked: Asked) -> str:
        """What answers under this name now that the new version does not come to it."""
        client = self.gateway.running(detach=asked.detach)
        with suppress(NbserveError):
            if client is not None and (model := client.model(asked.name)).default and model.state == "READY":
                return f"version {model.version} is served still"
        return "nothing is served under this name"

    def _bundle(self, asked: Asked, board: Board) -> Path:
        """The folder to serve: written from the live object, or the one that was given."""
        if isinstance(asked.target, (str, Path)):
            folder = Path(asked.target).expanduser().resolve()
            if not (folder / "manifest.json").is_file():
                raise UsageError(f"no bundle at {folder}", hint="serve a class, a function, a module, or a bundle")
            if asked.has_sample:
                raise UsageError("a bundle has its own sample; --sample is for objects of the notebook")
            return folder
        from nbserve.capture import capture, imported_meanwhile, run_sample

        board.stage("capture")
        captured = capture(
            asked.target,
            name=asked.name,
            namespace=self._ip.user_ns,
            cells=self._history.cells,
            sample=asked.sample,
        )
        board.stage("write")
        with captured.draft(home() / "bundles") as draft:  # before the sample runs: it may change values in place
            sample = None
            if asked.has_sample:
                board.stage("sample")
                with imported_meanwhile(asked.name) as roots:
                    sample = run_sample(
                        captured.target,
                        captured.kind,
                        asked.sample,
                        name=asked.name,
                        values=captured.values,
                        warn=captured.warnings.append,
                        locate=self._history.cells.locate,
                    )
                captured.note_imports(roots)
                captured.note_changes(draft)
            return captured.finish(draft, sample).path

    def _remember(self, asked: Asked, bundle: Path) -> None:
        """For `explain`: what is served can be compared with what is live."""
        if isinstance(asked.target, (str, Path)):
            return
        from nbserve.capture import Snapshot

        name, target = self.sources[asked.name]
        namespace = self._ip.user_ns
        remember(
            asked.name,
            Snapshot(
                bundle,
                time.time(),
                lambda: namespace.get(name, target),
                namespace,
                self._history.cells,
                asked.sample,
            ),
        )

    def _register(self, client: Client, asked: Asked, bundle: Path, board: Board) -> ModelStatus:
        def register() -> ModelStatus:
            return client.register(str(bundle), name=asked.name, config=asked.config, synchronous=False)

        model = _shielded(register, undo=lambda model: _withdraw(client, model))
        board.version = model.version
        self._boards[model.name, model.version] = board
        return model

    def _wait(self, client: Client, model: ModelStatus, asked: Asked, board: Board) -> ModelStatus:
        try:
            while not board.wait(_POLL_S):
                if _is_settled(client, model):
                    break
        except BaseException:  # Ctrl-C, or the gateway is gone
            _withdraw(client, model)
            raise
        try:
            model = client.model(model.name, model.version)
        except NotFound:
            raise LoadError(f"{model.name} version {model.version} was stopped while it loaded") from None
        error = model.error or board.error
        if model.state != "READY":
            _withdraw(client, model)
            raise load_error(model, error)
        return model

    def _on_event(self, event: Event) -> None:
        """Hand an event to its version's board; before its version has a number, to the one that is loading."""
        board = self._boards.get((event.model, event.version)) or self._loading.get(event.model)
        if board is not None:
            board.event(event)


def _name_of(target: Any, namespace: Mapping[str, Any]) -> str:
    """How the notebook calls an object now: what is bound to that name later is what will be replayed."""
    own = str(getattr(target, "__name__", ""))
    if namespace.get(own) is target:
        return own
    return next((name for name, value in namespace.items() if value is target and not name.startswith("_")), "")


def _collect(name: str) -> None:
    """Remove what runs before this one have left, also those that failed; not worth an error of its own."""
    with suppress(NbserveError, OSError):
        collect(home() / "bundles", name, _bundles_in_use())


def _bundles_in_use() -> list[Path]:
    """What any gateway of this user serves, or could roll back to."""
    models = [model for gateway in Gateways() for model in gateway.status.models]
    return [Path(path) for model in models for path in (model.bundle, *model.kept_bundles)]


def check_name(name: str) -> None:
    """Raises UsageError for what cannot stand in a URL and a file name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for an endpoint", hint="up to 100 letters, digits, '_', '-' and '.', e.g. digits"
        )


def load_error(model: ModelStatus, info: ErrorInfo | None) -> NbserveError:
    """Why a version does not serve, as the exception that the cell shows."""
    named = f"{model.name} version {model.version}"
    if info is None:
        return LoadError(f"{named} did not become ready; the gateway does not say why")
    kind: Any = getattr(errors, info.type, None) if info.type in errors.__all__ else None
    if isinstance(kind, type) and issubclass(kind, NbserveError):
        return kind(f"{named}: {info.message}", hint=info.hint, info=info)
    stage = f" in {info.stage}" if info.stage else ""
    where = f" ({info.where})" if info.where else ""
    return LoadError(f"{named} failed{stage}{where}: {info.type}: {info.message}", hint=info.hint, info=info)


def _is_settled(client: Client, model: ModelStatus) -> bool:
    try:
        return client.model(model.name, model.version).state in ("READY", "FAILED")
    except NotFound:
        return True


def _stop_elsewhere(client: Client, name: str) -> None:
    """One notebook, one name, one endpoint: after a change of --detach, the one of the other gateway goes."""
    for gateway in Gateways(beside=client):
        if gateway.is_own and gateway.serves(name, ""):
            stop_endpoint(Served(gateway.client, name))


def _withdraw(client: Client, model: ModelStatus) -> None:
    """Take a version back; whatever is wrong then, the user is told of what came first."""
    with suppress(NbserveError):
        client.unregister(model.name, model.version)


def _shielded(do: Callable[[], ModelStatus], *, undo: Callable[[ModelStatus], None]) -> ModelStatus:
    """Run a short request that Ctrl-C must not cut in half: interrupted, it is let finish and then undone."""
    with ThreadPoolExecutor(1, thread_name_prefix="nbserve-register") as pool:
        future = pool.submit(do)
        try:
            return future.result()
        except KeyboardInterrupt:
            undo(future.result())
            raise


def _show_briefly(exc: KeyboardInterrupt, text: str) -> None:
    exc._render_traceback_ = lambda: [f"KeyboardInterrupt: {text}"]  # type: ignore[attr-defined]
