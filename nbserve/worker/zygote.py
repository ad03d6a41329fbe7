"""`python -m nbserve.worker.zygote`: imports once what an endpoint's workers need, and forks them.

Started by gateway/pool/zygote.py, which hands over one end of a socket (NBSERVE_ZYGOTE_FD) and speaks wire/zygote.py.
Imports ipykernel, the worker, and third-party distributions that the bundle names: never the user's own modules, and
nothing is called but TABLES. A child of a process with threads may hang in its first parallel region (libgomp: pytorch
issues 17199 and 41197), so the zygote has one thread or does not fork, and says which import is at fault.

Importing is work of a second or more that nobody's requests should feel: where the kernel shares cores out by session
(autogroup, sched(7)), the zygote's has a lower priority. It is done in the main thread, though a thread could have one
of its own anywhere: torch remembers in which it was imported, and its profiler complains in any other.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from nbserve.errors import EndOfFile
from nbserve.packets import receive_packet, send_packet
from nbserve.process_name import name_process
from nbserve.wire.zygote import Exited, Fork, Forked, Message, Preload, Preloaded, Refused, decode, encode

OWN_MODULES = (
    "nbserve.worker.__main__",
    "nbserve.worker.loop",
    "nbserve.bundle.decoder",
    "ipykernel.kernelapp",
    "ipykernel.debugger",
    "tornado.platform.asyncio",
    "tornado.queues",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "threadpoolctl",
)
"""What every worker imports before it is READY, whatever it serves (seen as the difference in sys.modules)."""
USED_WITH = {"numpy": "numpy.random", "torch": "nbserve.bundle.weights"}
"""Library -> what is imported where that is: each child seeds it, or reads its weights with it."""

TABLES = {"transformers.conversion_mapping": "get_checkpoint_conversion_mapping"}
"""Module, where it is imported -> its function that makes a table once in each process, pure, at its first call.

transformers compiles 970 regular expressions at the first `from_pretrained`: 0.1 s of the 0.2 that a small model takes.
"""

_DISTRIBUTION = re.compile(r"[A-Za-z0-9][\w.-]*")


PRELOAD_NICE = 5
"""Of the zygote's session: a third of the share of one that serves, and it is preempted at once."""


class CannotFork(Exception):
    """The reason, in words. name: of the import at fault, "" where it is none."""

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__(reason)
        self.name = name


class Job(NamedTuple):
    """A child's part: what the gateway asked for, and the descriptors that came with it."""

    fork: Fork
    log_fd: int
    data_fd: int
    status_fd: int
    gateway_fd: int


def main() -> None:
    """Preload, then fork until the gateway closes the socket. Returns in the zygote at its end, in a child at its."""
    name_process("nbserve-zygote")
    sock = socket.socket(fileno=int(os.environ.pop("NBSERVE_ZYGOTE_FD")))
    if not sys.flags.safe_path:
        del sys.path[0]  # the working directory: the user's own modules are there
    if os.environ.pop("NBSERVE_SPARE", ""):
        if (job := _wait_as_spare(sock)) is not None:
            _become_worker(job)
        return
    gc.disable()  # a collection would leave holes in pages that children share
    with contextlib.suppress(OSError):  # not everywhere; forked workers make sessions of their own
        Path("/proc/self/autogroup").write_text(str(PRELOAD_NICE))
    try:
        _send(sock, _preload(sock))
    except CannotFork as exc:
        _send(sock, Refused(0, str(exc), exc.name))
        return
    except EndOfFile:
        return
    gc.freeze()
    if (job := _serve(sock)) is not None:
        _become_worker(job)


# -- preload -----------------------------------------------------------------------------------------------------------


def _wait_as_spare(sock: socket.socket) -> Job | None:
    """Import, and be the one worker that is asked for; what forbids a fork does no harm. None: the gateway has left."""
    with contextlib.suppress(EndOfFile, ConnectionError):
        _send(sock, _preload(sock, is_to_fork=False))
        asked, fds = _receive(sock)
        assert isinstance(asked, Fork)
        pidfd = os.pidfd_open(os.getpid())
        _send(sock, Forked(asked.id, os.getpid()), [pidfd])
        os.close(pidfd)
        sock.close()
        return Job(asked, *fds)
    return None


def _preload(sock: socket.socket, *, is_to_fork: bool = True) -> Preloaded:
    asked, _ = _receive(sock)
    assert isinstance(asked, Preload)
    began_s = time.monotonic()
    for module in OWN_MODULES:
        importlib.import_module(module)
    distributions = dict(_distributions(asked.requirements))
    loaded: list[str] = []
    skipped: dict[str, str] = {}
    for name in asked.names:
        if why := _import(name, distributions):
            skipped[name] = why
        else:
            loaded.append(name)
        if is_to_fork:
            _check(sock, f"importing {name.partition(':')[0]}", name)
    for library, module in USED_WITH.items():
        if library in sys.modules:
            importlib.import_module(module)
    for module, function in TABLES.items():
        if module in sys.modules:
            with contextlib.suppress(Exception):  # of another version: the child makes what it needs itself
                getattr(sys.modules[module], function)("")
    if is_to_fork:
        _check(sock, "importing ipykernel")
    return Preloaded(loaded, skipped, time.monotonic() - began_s)


def _import(name: str, distributions: dict[str, str]) -> str:
    """Import "module" or "module:name"; why it was not, or ""."""
    module, _, attribute = name.partition(":")
    top = module.partition(".")[0]
    if top not in distributions:
        return "not of a distribution that the bundle names"
    try:
        spec = importlib.util.find_spec(top)
        if spec is None or not _lies_in(spec.origin, distributions[top]):
            return "not installed as such: its source may change"
        found = importlib.import_module(module)
        if attribute and not hasattr(found, attribute):  # asking loads what some packages load when first asked for
            importlib.import_module(f"{module}.{attribute}")
    except Exception as exc:  # what a worker's import does, the worker reports
        return f"{type(exc).__name__}: {exc}"
    return ""


def _distributions(requirements: list[str]) -> Iterator[tuple[str, str]]:
    """Top-level name -> the folder that it is installed in, for each distribution that is."""
    for requirement in requirements:
        name = _DISTRIBUTION.match(requirement)
        with contextlib.suppress(metadata.PackageNotFoundError):
            distribution = metadata.distribution(name[0] if name else requirement)
            home = os.path.realpath(str(distribution.locate_file("")))
            tops = (distribution.read_text("top_level.txt") or "").split()
            for top in tops or {path.parts[0].removesuffix(".py") for path in distribution.files or ()}:
                yield top, home


def _lies_in(origin: str | None, home: str) -> bool:
    return origin is not None and Path(os.path.realpath(origin)).is_relative_to(home)


def _check(sock: socket.socket, what: str, name: str = "") -> None:
    """Raises CannotFork where a child could not use what this process holds."""
    if (threads := _threads() - 1) > 0:
        raise CannotFork(f"{what} started {threads} thread{'s' if threads > 1 else ''}", name)
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            target = os.readlink(f"/proc/self/fd/{fd}")
            if int(fd) > 2 and int(fd) != sock.fileno():
                raise CannotFork(f"{what} left {target} open", name)


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


# -- fork --------------------------------------------------------------------------------------------------------------


def _serve(sock: socket.socket) -> Job | None:
    """Fork as asked, report ends. Returns the job in a child, None once the gateway has closed the socket."""
    children: dict[int, int] = {}  # pidfd -> pid
    ready = select.poll()
    ready.register(sock, select.POLLIN)
    while True:
        for fd, _ in ready.poll():
            if fd in children:
                ready.unregister(fd)
                os.close(fd)
                _, status = os.waitpid(pid := children.pop(fd), 0)
                _send(sock, Exited(pid, os.waitstatus_to_exitcode(status)))
                continue
            try:
                asked, fds = _receive(sock)
            except (EndOfFile, ConnectionError):
                return None
            assert isinstance(asked, Fork)
            try:
                pid = _fork()
            except (CannotFork, OSError) as exc:
                _send(sock, Refused(asked.id, str(exc)))
            else:
                if pid == 0:
                    sock.close()
                    for pidfd in children:
                        os.close(pidfd)
                    return Job(asked, *fds)
                pidfd = os.pidfd_open(pid)
                children[pidfd] = pid
                ready.register(pidfd, select.POLLIN)
                _send(sock, Forked(asked.id, pid), [pidfd])
            for fd in fds:
                os.close(fd)


def _fork() -> int:
    if (threads := _threads()) > 1:
        raise CannotFork(f"the zygote has {threads} threads")
    return os.fork()


def _send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    send_packet(sock, encode(message), fds)


def _receive(sock: socket.socket) -> tuple[Message, list[int]]:
    packet, fds = receive_packet(sock)
    return decode(packet), fds


# -- in the child ------------------------------------------------------------------------------------------------------


def _become_worker(job: Job) -> None:
    """Be what `python -m nbserve.worker` would be in this environment and folder; returns when that does."""
    if os.getsid(0) != os.getpid():  # a spare leads a session already
        os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _take_stdio(job.log_fd)
    os.chdir(job.fork.cwd)
    if not sys.flags.safe_path:
        sys.path.insert(0, os.getcwd())
    gc.enable()

    from nbserve.worker import __main__ as worker
    from nbserve.worker.session import seed_everything, set_environment

    set_environment(job.fork.env)
    os.environ["NBSERVE_DATA_FD"] = str(job.data_fd)
    os.environ["NBSERVE_STATUS_FD"] = str(job.status_fd)
    os.environ["NBSERVE_GATEWAY_FD"] = str(job.gateway_fd)
    seed_everything(None)  # or all children would draw the same numbers
    sys.argv = [str(worker.__file__), *job.fork.args]
    sys.orig_argv = [sys.executable, "-m", "nbserve.worker", *job.fork.args]
    worker.main(job.fork.args)


def _take_stdio(log_fd: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.close(log_fd)


if __name__ == "__main__":
    main()
