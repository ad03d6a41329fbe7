"""py-spy's samples as a `Trace`, so that the trace view shows their flame graph. Pure; called by profile_result.py.

Widths are time, order is not: equal stacks stand together, sorted by whose time they are. That is the outermost span of
each: "framework", "python", "native" or "idle".
"""

from __future__ import annotations

from itertools import groupby

from nbserve.measure.spans import Builder, Thread
from nbserve.measure.system_profile import RATE_HZ, SystemProfile, part_of
from nbserve.measure.trace import Trace

__all__ = ["sampled"]

SAMPLE_US = 1e6 / RATE_HZ
Stack = tuple[str, ...]


def sampled(system: SystemProfile) -> Trace:
    """Each process is a thread named "samples"; a span's detail is empty."""
    builder = Builder()
    stacks = sorted((_read(folded), count) for folded, count in system.folded.items())
    for process, counted in groupby(stacks, key=lambda each: each[0][0]):
        _add(builder, Thread(process, "samples", "cpu"), [(stack[1:], count) for stack, count in counted])
    return builder.build({"seconds": system.seconds, "samples": system.samples})


def _read(folded: str) -> Stack:
    """`process;frame;frame` -> process, part, frames."""
    process, *frames = folded.split(";")
    return process, part_of(frames), *frames


def _add(builder: Builder, thread: Thread, counted: list[tuple[Stack, int]], depth: int = 0, begin: int = 0) -> None:
    """A span for each frame that neighbours have in common at this depth, and below it what they have each."""
    deep = [(stack, count) for stack, count in counted if len(stack) > depth]
    for frame, same in groupby(deep, key=lambda each: each[0][depth]):
        inner = list(same)
        samples = sum(count for _, count in inner)
        builder.add(thread, begin * SAMPLE_US, samples * SAMPLE_US, frame, slot=depth)
        _add(builder, thread, inner, depth + 1, begin)
        begin += samples
