"""Clients that count: keep-alive HTTP/1.1 connections, closed-loop clients, Poisson and bursty arrivals, their records.

Used by the rows. A request never waits for another one's answer on its connection, and is never sent again: what a
client sees is what is counted. Times are of the monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Connection", "Record", "Reply", "Traffic"]

HANG_S = 30.0
"""A request without an answer for so long hangs; no row allows it."""
MAX_OPEN = 800
"""Connections of one `Traffic`; arrivals beyond them wait, and the wait counts."""
_STRAY_S = 0.2

_ids = itertools.count(1)


class Reply(NamedTuple):
    """One HTTP reply; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body; {} where it is no JSON."""
        with contextlib.suppress(ValueError):
            return json.loads(self.body)
        return {}


@dataclass(slots=True)
class Record:
    """One request: what was asked, when, and what came of it. `status` 0: nothing came."""

    id: str
    x: int
    do: str
    due_s: float
    """When it should have been sent (the arrival process) or was: waits count from here."""
    answered_s: float = 0.0
    status: int = 0
    right: bool = False
    """200 with the answer to this very payload."""
    version: int = -1
    batch: int = 0
    retry_after: str = ""
    error: str = ""

    @property
    def wait_s(self) -> float:
        """From when it was due to its answer; infinite where none came."""
        return self.answered_s - self.due_s if self.status else float("inf")


class Connection:
    """One keep-alive connection to 127.0.0.1; opens it again where it was lost. Replies with Content-Length only."""

    def __init__(self, port: int, token: str) -> None:
        self.connects = 0
        self._port = port
        self._auth = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n" if token else "Host: 127.0.0.1\r\n"
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> Reply:
        """One exchange. Raises OSError or EOFError where the connection ends before the reply does."""
        try:
            reader, writer = await self._open()
            writer.write(self.head(method, path, len(body), content_type) + body)
            await writer.drain()
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
            reply = Reply(
                int(lines[0].split(" ")[1]), headers, await reader.readexactly(int(headers["content-length"]))
            )
        except BaseException:  # cancelled in the middle, too: the rest of the reply must not answer the next request
            self.abort()
            raise
        if headers.get("connection", "").lower() == "close":
            self.abort()
        return reply

    def head(self, method: str, path: str, length: int, content_type: str = "application/json") -> bytes:
        """The head of a request."""
        fields = f"Content-Type: {content_type}\r\nContent-Length: {length}\r\n" if method != "GET" else ""
        return f"{method} {path} HTTP/1.1\r\n{self._auth}{fields}\r\n".encode()

    async def close(self) -> bytes:
        """Close from our side; returns what came that nobody asked for (a second answer, say)."""
        stray = b""
        if self._writer is not None and self._reader is not None:
            with contextlib.suppress(OSError, TimeoutError):
                self._writer.write_eof()
                async with asyncio.timeout(_STRAY_S):
                    stray = await self._reader.read(4096)
        self.abort()
        return stray

    def abort(self) -> None:
        """Close at once."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def open(self) -> None:
        """Connect, if it is not connected. Raises OSError."""
        await self._open()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self.connects += 1
        return self._reader, self._writer


class Traffic:
    """Requests to one path, all recorded in `records`. `do` picks what each payload asks of the handler ("" = work)."""

    def __init__(
        self, port: int, token: str, path: str, rng: random.Random, do: Callable[[], str] = lambda: ""
    ) -> None:
        self.records: list[Record] = []
        self.strays = 0
        self._port, self._token, self._path = port, token, path
        self._rng = rng
        self._do = do
        self._free: list[Connection] = []
        self._connections: list[Connection] = []
        self._room = asyncio.Semaphore(MAX_OPEN)
        self._sources: list[asyncio.Task[None]] = []
        self._pending: set[asyncio.Task[Any]] = set()
        self._going = True

    # -- sources -----------------------------------------------------------------------------------------------------

    async def connect(self, count: int) -> None:
        """Open connections for those that come: many at once would keep this process busy, and be late for it."""
        for _ in range(count):
            connection = self._new_connection()
            await connection.open()
            self._free.append(connection)

    def clients(self, count: int, *, pause_s: float, heed_retry_after: bool = False) -> None:
        """Closed loop: so many keep-alive clients, each waiting for its answer, then `pause_s` on average.

        heed_retry_after: after a 503 it waits for as long as it was told to.
        """
        for _ in range(count):
            self._source(self._client(pause_s, heed_retry_after))

    def poisson(self, rate: float, *, burst: int = 1, seconds: float = float("inf")) -> asyncio.Task[None]:
        """Open loop: `rate` requests a second arrive in groups of `burst` at random times, answered or not."""
        return self._source(self._arrivals(rate / burst, burst, seconds))

    async def one(self, do: str = "", **extra: Any) -> Record:
        """One request now; returns when it is answered or hangs."""
        task = self._send(time.monotonic(), do, extra)
        await asyncio.wait([task])
        return task.result()

    async def stop(self) -> list[Record]:
        """Send nothing more, wait for the answers (at most HANG_S), close; returns the records."""
        self._going = False
        for task in self._sources:
            task.cancel()
        await asyncio.gather(*self._sources, return_exceptions=True)
        await asyncio.gather(*self._pending, return_exceptions=True)
        for rest in await asyncio.gather(*(connection.close() for connection in self._connections)):
            self.strays += bool(rest)
        return self.records

    @property
    def reconnects(self) -> int:
        """Connections that were lost and opened again."""
        return sum(max(0, connection.connects - 1) for connection in self._connections)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _source(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        self._sources.append(task)
        return task

    async def _client(self, pause_s: float, heed_retry_after: bool) -> None:
        await asyncio.sleep(self._rng.random() * max(pause_s, 0.05))
        connection = self._free.pop() if self._free else self._new_connection()
        while self._going:
            record, payload = self._payload(time.monotonic(), self._do(), {})
            task = self._track(self._exchange(connection, record, payload))
            await asyncio.shield(task)
            refused = heed_retry_after and record.status == 503
            await asyncio.sleep(float(record.retry_after or 1) if refused else pause_s * (0.5 + self._rng.random()))

    async def _arrivals(self, rate: float, burst: int, seconds: float) -> None:
        due_s = began_s = time.monotonic()
        while self._going:
            due_s += self._rng.expovariate(rate)
            if due_s - began_s > seconds:
                return
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            for _ in range(burst):
                self._send(due_s, self._do(), {})

    def _send(self, due_s: float, do: str, extra: dict[str, Any]) -> asyncio.Task[Record]:
        record, payload = self._payload(due_s, do, extra)
        return self._track(self._pooled(record, payload))

    def _payload(self, due_s: float, do: str, extra: dict[str, Any]) -> tuple[Record, bytes]:
        record = Record(f"r{next(_ids)}", self._rng.randrange(1_000_000), do, due_s)
        self.records.append(record)
        body = json.dumps({"id": record.id, "x": record.x, "do": do} | extra).encode()
        return record, body[:-1] if do == "decode" else body  # "decode": JSON that lacks its end

    def _track(self, coroutine: Awaitable[Record]) -> asyncio.Task[Record]:
        task = asyncio.ensure_future(coroutine)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return task

    async def _pooled(self, record: Record, body: bytes) -> Record:
        async with self._room:
            connection = self._free.pop() if self._free else self._new_connection()
            await self._exchange(connection, record, body)
            self._free.append(connection)
        return record

    def _new_connection(self) -> Connection:
        connection = Connection(self._port, self._token)
        self._connections.append(connection)
        return connection

    async def _exchange(self, connection: Connection, record: Record, body: bytes) -> Record:
        try:
            async with asyncio.timeout(HANG_S):
                reply = await connection.request("POST", self._path, body)
        except (OSError, EOFError, TimeoutError) as exc:
            record.answered_s = time.monotonic()
            record.error = f"no answer: {type(exc).__name__} {exc}".strip()
            return record
        record.answered_s, record.status = time.monotonic(), reply.status
        record.retry_after = reply.headers.get("retry-after", "")
        answer = reply.json()
        if reply.status == 200 and isinstance(answer, dict):
            record.right = answer.get("id") == record.id and answer.get("double") == 2 * record.x
            record.version, record.batch = answer.get("version", -1), answer.get("batch", 0)
            record.error = "" if record.right else f"another's answer: {reply.body[:200]!r}"
        elif isinstance(answer, dict):
            record.error = f"{reply.status} {answer.get('type', '')}: {answer.get('message', '')}"
        return record
