"""Real HTTP servers on a free port, in a thread: what they do with each request is the test's."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n%s\r\n\r\n[]"


def ok(headers: str = "") -> bytes:
    """A whole answer, with more headers where given ("Server-Timing: queue;dur=1")."""
    return OK.replace(b"%s\r\n", f"{headers}\r\n".encode() if headers else b"")


def status(code: int, body: str = "") -> bytes:
    return f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@dataclass
class Server:
    """`port`, and what came: `requests` as raw bytes, how many `connections`."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@dataclass
class Reply:
    """What to do with one request. `data` empty: close without an answer. `delay_s`: before it."""

    data: bytes
    delay_s: float = 0.0
    close: bool = False


@contextmanager
def serving(reply: Callable[[int], Reply]) -> Iterator[Server]:
    """A server that does with its n-th request what `reply(n)` says; other connections go on meanwhile."""
    server = Server()
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            while head := await _head(reader):
                server.requests.append(head + await reader.readexactly(_length(head)))
                what = reply(len(server.requests))
                if what.delay_s:
                    await asyncio.sleep(what.delay_s)
                writer.write(what.data)
                if what.close or not what.data:
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(writer.wait_closed(), 2)
            writer.transport.abort()

    async def main() -> None:
        listening = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1000)
        server.port = listening.sockets[0].getsockname()[1]
        started.set()
        await stop.wait()
        listening.close()
        for _ in range(3):  # what was just accepted becomes a handler's task, which must begin before it is cancelled
            await asyncio.sleep(0.01)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # transports say goodbye

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
