"""The conversation with one zygote process, and the workers that it forked, as jupyter_client wants a process.

`ZygoteLink` is used by gateway/pool/zygote.py; `ForkedProcess` has what `subprocess.Popen` has and is held by the
provisioner. Signals go through a pidfd, so they never reach a stranger; the exit status is what the zygote, the
worker's parent, reports.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from nbserve.errors import EndOfFile, WireError
from nbserve.packets import receive_packet, send_packet
from nbserve.wire.zygote import Exited, Fork, Forked, Message, Preload, Preloaded, Refused, decode, encode

__all__ = ["UNKNOWN_EXIT", "CannotFork", "ForkedProcess", "ZygoteLink"]

UNKNOWN_EXIT = 1 << 16
"""Exit code of a worker whose zygote died before it: nobody else is told the status. No process can have this one."""
REPORT_WAIT_S = 1.0
"""How long the zygote may take to report an end that the pidfd shows already."""


class ForkedProcess:
    """A process that is not our child. `read_reports` takes in what the zygote has said meanwhile."""

    stdin = stdout = stderr = None  # jupyter_client closes what it finds here

    def __init__(self, pid: int, pidfd: int, read_reports: Callable[[], None]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = pidfd
        self._read_reports = read_reports
        self._is_orphan = False

    def poll(self) -> int | None:
        """Its exit code, -signal, UNKNOWN_EXIT, or None while it runs."""
        if self.returncode is None:
            self._read_reports()
        if self.returncode is None and self._is_orphan and self._has_ended(0.0):
            self.ended(UNKNOWN_EXIT)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Block until it has ended -> exit code. Raises subprocess.TimeoutExpired."""
        if self.poll() is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(f"worker {self.pid}", timeout or 0.0)
        deadline_s = time.monotonic() + REPORT_WAIT_S
        while (code := self.poll()) is None:
            if time.monotonic() > deadline_s:
                self.zygote_died()
            time.sleep(0.001)
        return code

    def send_signal(self, signum: int) -> None:
        """Nothing is sent to one that has ended, as with Popen."""
        if self.poll() is None:
            try:
                signal.pidfd_send_signal(self._pidfd, signum)
            except ProcessLookupError:
                return

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    # -- told by the zygote's owner ----------------------------------------------------------------------------------

    def ended(self, code: int) -> None:
        """It has ended with this code."""
        if self.returncode is None:
            self.returncode = code
            os.close(self._pidfd)

    def zygote_died(self) -> None:
        """Nobody will report its end any more."""
        self._is_orphan = True

    def _has_ended(self, timeout_s: float | None) -> bool:
        ready = select.poll()
        ready.register(self._pidfd, select.POLLIN)
        return bool(ready.poll(None if timeout_s is None else timeout_s * 1000))


class CannotFork(Exception):
    """The reason, in words that fit after "spawned: ". name: of the import at fault, where it is one."""

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__(reason)
        self.name = name


class ZygoteLink:
    """The socket to one zygote process. `on_end` is called once, when that process has closed it unasked.

    Made on the gateway's loop, which reads; `read` may be called at any time besides.
    """

    def __init__(self, sock: socket.socket, on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._on_end = on_end
        self.died_importing = False
        """Whether the process ended before it had said that it can fork, or why not."""
        self._preloaded: asyncio.Future[Preloaded] = self._loop.create_future()
        self._forks: dict[int, asyncio.Future[Any]] = {}
        self._workers: dict[int, ForkedProcess] = {}
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self.read)

    async def preload(self, asked: Preload) -> Preloaded:
        """Have it import; once, before any fork. Raises CannotFork."""
        self._send(asked, ())
        return await self._preloaded

    async def fork(self, asked: Fork, fds: Sequence[int]) -> ForkedProcess:
        """Have it fork; the descriptors are copied. Raises CannotFork."""
        answer = self._forks[asked.id] = self._loop.create_future()
        try:
            self._send(asked, fds)
            process: ForkedProcess = await answer
            return process
        finally:
            del self._forks[asked.id]

    def read(self) -> None:
        """Take in what it has said."""
        while self._sock.fileno() >= 0:
            try:
                packet, fds = receive_packet(self._sock)
                message = decode(packet)
            except BlockingIOError:
                return
            except (EndOfFile, WireError, OSError):
                self.died_importing = not self._preloaded.done()
                self.close()
                self._on_end()
                return
            self._take(message, fds)

    def close(self) -> None:
        """Hear no more: what was asked is not answered, how the workers end is not known."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for answer in (self._preloaded, *self._forks.values()):
            if not answer.done():
                answer.set_exception(CannotFork("the zygote died"))
        if not self._preloaded.cancelled():
            self._preloaded.exception()  # it may be that nobody waits for it
        for worker in self._workers.values():
            worker.zygote_died()

    def _send(self, message: Message, fds: Sequence[int]) -> None:
        try:
            send_packet(self._sock, encode(message), fds)
        except (OSError, WireError) as exc:
            raise CannotFork(f"the zygote cannot be asked: {exc}") from exc

    def _take(self, message: Message, fds: list[int]) -> None:
        if isinstance(message, Forked):
            process = ForkedProcess(message.pid, fds[0], self.read)
            answer = self._forks.get(message.id)
            if answer is None or answer.done():  # nobody waits any more: its stream is closed, and it leaves by itself
                process.ended(UNKNOWN_EXIT)
            else:
                self._workers[message.pid] = process
                answer.set_result(process)
        elif isinstance(message, Exited):
            if (worker := self._workers.pop(message.pid, None)) is not None:
                worker.ended(message.code)
        elif isinstance(message, Preloaded) and not self._preloaded.done():
            self._preloaded.set_result(message)
        elif isinstance(message, Refused):
            waiting = self._forks.get(message.id) if message.id else self._preloaded
            if waiting is not None and not waiting.done():
                waiting.set_exception(CannotFork(message.reason, message.name))
