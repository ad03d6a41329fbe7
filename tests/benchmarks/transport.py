"""What the way of a large batch costs: from the gateway's hands into a worker's and back, without HTTP, without JSON.

    python -m tests.benchmarks.transport                 eight bodies of 600 KB; a few seconds

The two ends are those of the product (wire/arena.py, worker/stream.py), in two processes: through the shared memory,
over the stream, and with a copy to `bytes` at the receiver, as a handler makes that wants to keep one. CPU time of both
processes for each body; medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.table import Table

from nbserve.wire.arena import Arena, ArenaView
from nbserve.wire.frames import Flag, Frame, Kind
from nbserve.wire.statuspage import StatusPage
from nbserve.worker.stream import DataStream
from tests.benchmarks.endpoints import machine
from tests.benchmarks.run import pinning

BAR_US = 120.0
WAYS = {
    "shared memory": (True, False),
    "shared memory, copied by the receiver": (True, True),
    "stream": (False, False),
    "stream, copied by the receiver": (False, True),
}
"""-> (through the arena, the receiver copies)."""
WARM_UP = 20


def main() -> None:
    """Measure all ways, interleaved; print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kilobytes", type=int, default=600, help="of one body (600)")
    parser.add_argument("--items", type=int, default=8, help="bodies in a batch (8)")
    parser.add_argument("--batches", type=int, default=200, help="in each round (200)")
    parser.add_argument("--rounds", type=int, default=5, help="of all ways (5)")
    options = parser.parse_args()
    bodies = [os.urandom(options.kilobytes * 1000) for _ in range(options.items)]
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, (shared, copies) in WAYS.items():
            found[way].append(measure(bodies, options.batches, shared=shared, copies=copies))
    title = f"CPU of one body of {options.kilobytes} KB, batches of {options.items} (bar: {BAR_US:g} us)"
    table = Table(title=title, title_justify="left")
    for column in ("way", "gateway us", "worker us", "both us", "spread"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, figures in found.items():
        both = sorted(sum(one) for one in figures)
        sides = (f"{median(one[side] for one in figures):.0f}" for side in (0, 1))
        table.add_row(way, *sides, f"{median(both):.0f}", f"{both[0]:.0f} to {both[-1]:.0f}")
    console = Console(width=120)
    console.print(machine(pinning()))
    console.print(table)


def measure(bodies: Sequence[bytes], batches: int, *, shared: bool, copies: bool) -> tuple[float, float]:
    """Microseconds of CPU for one body: the gateway's, the worker's."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    page = StatusPage.create()
    command = [sys.executable, "-m", "tests.benchmarks.transport_end", str(theirs.fileno()), str(page.fd), str(copies)]
    with (
        ours,
        subprocess.Popen(command, pass_fds=(theirs.fileno(), page.fd), stdout=subprocess.PIPE, text=True) as child,
    ):
        theirs.close()
        stream, arena = DataStream(ours), Arena(page.fd)
        for number in range(1, WARM_UP):
            _one_batch(stream, arena if shared else None, number, bodies)
        stream.write(Frame(Kind.PAUSED))  # from here on it counts
        began_s = time.process_time()
        for number in range(WARM_UP, WARM_UP + batches):
            _one_batch(stream, arena if shared else None, number, bodies)
        own_s = time.process_time() - began_s
        stream.write(Frame(Kind.DRAIN))
        said, _ = child.communicate()
    items = batches * len(bodies)
    return own_s / items * 1e6, float(said) / items * 1e6


def _one_batch(stream: DataStream, arena: Arena | None, number: int, bodies: Sequence[bytes]) -> None:
    placed = arena.lay(number, bodies) if arena is not None else None
    if arena is None or placed is None:
        stream.write(Frame(Kind.BATCH, Flag.NONE, number, b"", bodies))
        stream.read()
        return
    stream.write(Frame(Kind.BATCH, Flag.MEMFD, number, b"", bodies, placed))
    for _ in range(2):  # the answer, and the room is free
        frame = stream.read()
        if frame.kind == Kind.RELEASE:
            arena.release(frame.batch_id)


def receive(fd: int, page_fd: int, *, copies: bool) -> float:
    """The worker's end, until DRAIN: seconds of CPU since PAUSED."""
    view = ArenaView(StatusPage(page_fd).fd)
    stream = DataStream(socket.socket(fileno=fd), view)
    began_s = 0.0
    while True:
        frame = stream.read()
        if frame.kind == Kind.DRAIN:
            return time.process_time() - began_s
        if frame.kind == Kind.PAUSED:
            began_s = time.process_time()
            continue
        number = frame.batch_id
        if copies:
            _ = [bytes(body) for body in frame.bodies]
        stream.write(Frame(Kind.ANSWER, batch_id=number))
        del frame
        while view.released:
            stream.write(Frame(Kind.RELEASE, batch_id=view.released.popleft()))


if __name__ == "__main__":
    main()
