"""Hundreds of random operations, several at a time, then a look at what is left: nothing may be."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import os
import random
import signal
import time
from collections import Counter

from nbserve.bundle.garbage import KEPT_BUNDLES
from tests.faults.result import Run, count
from tests.faults.row import Row
from tests.faults.stage import NoReply, Stage, until
from tests.faults.traffic import Record, Reply, Traffic

__all__ = ["Operations"]

OPERATIONS = 300
ACTORS = ("a", "b", "c")
"""Each actor works on a model of its own, at the same time as the others."""
WEIGHTS = {
    "predict": 80,
    "hang_up": 40,
    "read_slowly": 30,
    "serve": 60,
    "scale": 25,
    "kill": 30,
    "rollback": 15,
    "cancel": 25,
    "delete": 8,
}
REFUSED = (400, 404, 409, 503)
"""Answers of the management API to what cannot be done now."""
CLIENTS, PAUSE_S = 4, 0.2
"""Of each model, all the time."""
LEFT_WITHIN_S = 15.0

_own_ids = itertools.count(1)


class Operations(Row):
    """One run is OPERATIONS of them, then everything is deleted and counted; the gateway goes on to the next run."""

    name = "operations"
    fault = f"{OPERATIONS} random operations: {', '.join(WEIGHTS).replace('_', ' ')}"
    must = "every request answered once; no process, fd, socket file, shared memory or bundle folder left"
    limit_s = 300.0

    def __init__(self, operations: int = OPERATIONS) -> None:
        self.operations = operations

    async def prepare(self, stage: Stage) -> None:
        """One model came and went: what is kept from then on is not counted as left over."""
        reply = await stage.register(stage.bundle(), model=ACTORS[0])
        await stage.manage("DELETE", f"/models/{ACTORS[0]}")
        if reply.status != 200:
            raise RuntimeError(f"the model could not be served: {reply.status} {reply.body.decode()[:500]}")

    async def run(self, stage: Stage, rng: random.Random) -> Run:
        """Play, clean up, look."""
        before = await self._quiet(stage)
        shared_before = set(os.listdir("/dev/shm"))
        actors = [Actor(name, stage, random.Random(rng.random())) for name in ACTORS]
        share = -(-self.operations // len(actors))
        await asyncio.gather(*(actor.play(share) for actor in actors))
        records = [record for actor in actors for record in await actor.traffic.stop()]
        excused = {record.id for actor in actors for record in actor.traffic.records if actor.may_refuse(record)}
        run = count(records, stage.executions.twice(), meant=lambda record: record.id in excused)
        for actor in actors:
            for text in actor.wrong:
                run.must(False, f"model {actor.name}: {text}")
            run.must(not actor.traffic.strays, f"model {actor.name}: {actor.traffic.strays} stray answers")
            run.figures |= {f"{actor.name}_{what}": times for what, times in sorted(actor.done.items())}
        for text in await self._left(stage, before):
            run.must(False, f"left behind: {text}")
        shared = set(os.listdir("/dev/shm")) - shared_before
        run.must(not shared, f"left behind in /dev/shm: {sorted(shared)}")
        return run

    async def _quiet(self, stage: Stage) -> Counter[str]:
        """The gateway's open files, once those of the call that asks are no longer among them."""
        seen: list[Counter[str]] = [Counter()]

        async def settled() -> bool:
            seen.append(stage.fds())
            await asyncio.sleep(0.1)
            return seen[-1] == seen[-2] and not stage.processes()

        await until(settled, LEFT_WITHIN_S)
        return seen[-1]

    async def _left(self, stage: Stage, before: Counter[str]) -> list[str]:
        """Delete all models, then what is more than before."""

        async def clean() -> bool:
            extra = stage.fds() - before
            return not stage.processes() and not extra and not stage.sockets_and_connection_files()

        status = (await stage.manage("GET", "/status")).json()
        try:
            for name in {model["name"] for model in status["models"]}:
                await stage.manage("DELETE", f"/models/{name}")
        except NoReply as exc:
            return [str(exc)]
        await stage.collect_garbage()
        bundles = len(list((stage.folder / "bundles").iterdir()))
        left = [f"{bundles} bundle folders, {KEPT_BUNDLES} are kept"] if bundles > KEPT_BUNDLES else []
        if await until(clean, LEFT_WITHIN_S):
            return left
        left += [f"process {pid}: {command[:120]}" for pid, command in stage.processes().items()]
        left += [f"{number} open {what}" for what, number in (stage.fds() - before).items()]
        return left + [f"file {path}" for path in sorted(stage.sockets_and_connection_files())]


class Actor:
    """Does random things to one model."""

    def __init__(self, name: str, stage: Stage, rng: random.Random) -> None:
        self.name = name
        self.tag = f"{name}-{rng.random()}"  # bundles of other runs have other contents
        self.traffic: Traffic = stage.traffic(rng, model=name)
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._stage = stage
        self._rng = rng
        self._versions = 0
        self._absent_since_s: float | None = 0.0
        self._absent: list[tuple[float, float]] = []

    def may_refuse(self, record: Record) -> bool:
        """Whether 404 or 503 is a right answer to this request: its model was not served, or was being deleted."""
        absent = [*self._absent, (self._absent_since_s, math.inf)] if self._absent_since_s is not None else self._absent
        overlaps = any(since_s <= record.answered_s and record.due_s <= until_s for since_s, until_s in absent)
        return record.status in (404, 503) and overlaps

    async def play(self, operations: int) -> None:
        """So many operations, one after the other, the first of which serves."""
        self.traffic.clients(CLIENTS, pause_s=PAUSE_S)
        for number in range(operations):
            [what] = self._rng.choices(list(WEIGHTS), list(WEIGHTS.values())) if number else ["serve"]
            self.done[what] += 1
            try:
                await getattr(self, f"_{what}")()
            except NoReply as exc:
                self.wrong.append(f"operation {number}, {what}: {exc}")
                return

    def _own_id(self) -> str:
        """For a payload that is not among the traffic's records."""
        return f"{self.name}-{next(_own_ids)}"

    def _bundle(self) -> str:
        self._versions += 1
        return str(self._stage.bundle(version=self._versions, tag=self.tag, initialize_s=0.05))

    async def _call(self, method: str, path: str, body: object = None) -> Reply:
        """A management call; anything but success and a plain refusal is wrong."""
        reply = await self._stage.manage(method, path, body)
        if not (200 <= reply.status < 300 or reply.status in REFUSED):
            self.wrong.append(f"{method} {path}: {reply.status} {reply.body.decode()[:200]}")
        return reply

    async def _serve(self) -> None:
        config = {
            "workers": self._rng.choice([1, 1, 2]),
            "threads": 1,
            "retries": 5,
        }  # it may be killed again and again
        asked = {"url": self._bundle(), "model_name": self.name, "config": config}
        if (await self._call("POST", "/models", asked)).status == 200:
            self._is_served()
        await self._stage.collect_garbage()

    async def _rollback(self) -> None:
        if (await self._call("POST", f"/models/{self.name}/rollback")).status == 200:
            self._is_served()

    def _is_served(self) -> None:
        if self._absent_since_s is not None:
            self._absent.append((self._absent_since_s, time.monotonic()))
            self._absent_since_s = None

    def _is_gone(self, since_s: float) -> None:
        if self._absent_since_s is None:
            self._absent_since_s = since_s

    async def _cancel(self) -> None:
        """Delete while it loads."""
        asked = {"url": self._bundle(), "model_name": self.name, "synchronous": False}
        reply = await self._call("POST", "/models", asked)
        await asyncio.sleep(self._rng.choice([0.0, 0.01, 0.03, 0.1, 0.3, 0.5]) * self._rng.random())
        if reply.status != 202:
            return
        began_s = time.monotonic()
        await self._call("DELETE", f"/models/{self.name}/{reply.json()['version']}")
        versions = (await self._stage.manage("GET", f"/models/{self.name}")).json()
        if not any(version["default"] for version in versions if isinstance(version, dict)):
            self._is_gone(began_s)  # it had come to serve before it was deleted, in the place of all others

    async def _scale(self) -> None:
        await self._call("PUT", f"/models/{self.name}?workers={self._rng.randint(1, 2)}")

    async def _delete(self) -> None:
        self._is_gone(time.monotonic())
        await self._call("DELETE", f"/models/{self.name}")

    async def _kill(self) -> None:
        """A worker of this model, in whatever state it is; some while requests are on their way."""
        pending = asyncio.gather(*(self.traffic.one() for _ in range(4)))
        reply = await self._stage.manage("GET", f"/models/{self.name}")
        versions = reply.json() if reply.status == 200 else []
        pids = [worker["pid"] for version in versions for worker in version["workers"] if worker["pid"]]
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._rng.choice(pids), signal.SIGKILL)
        await pending

    async def _predict(self) -> None:
        await asyncio.gather(*(self.traffic.one() for _ in range(self._rng.randint(1, 8))))

    async def _hang_up(self) -> None:
        """Send all or half of a request, and go."""
        connection = self._stage.connection()
        body = json.dumps({"id": self._own_id(), "x": 1, "do": "", "sleep_s": 0.05}).encode()
        head = connection.head("POST", f"/predictions/{self.name}", len(body))
        with contextlib.suppress(OSError):
            _, writer = await connection._open()
            writer.write(head + body[: self._rng.choice([0, 5, len(body)])])
            await writer.drain()
            await asyncio.sleep(self._rng.choice([0.0, 0.01, 0.05]))
        connection.abort()

    async def _read_slowly(self) -> None:
        """Ask for some megabytes and take a few of them, then all or none of the rest."""
        connection = self._stage.connection()
        body = json.dumps({"id": self._own_id(), "x": 1, "do": "big"}).encode()
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await connection._open()
            writer.write(connection.head("POST", f"/predictions/{self.name}", len(body)) + body)
            for _ in range(self._rng.randint(1, 10)):
                async with asyncio.timeout(0.2):  # a refusal is short, and keeps the connection
                    await reader.read(4096)
                await asyncio.sleep(0.02)
        connection.abort()
