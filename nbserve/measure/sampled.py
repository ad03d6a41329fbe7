"""py-spy's samples as a `Trace`, on the clock of the profile: beside the requests and batches that they were taken in.

The outermost span of each stack says whose time it is: "framework", "python", "native" or "idle". Pure; called by
chrome.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from nbserve.measure.spans import Builder, Thread
from nbserve.measure.system_profile import Track, part_of

__all__ = ["add_samples"]

GRID_US = 64
"""Times are multiples of it: as float32 lengths up to a quarter of an hour are exact then, and nested ones stay so."""


def add_samples(builder: Builder, tracks: Sequence[Track], began_s: float) -> None:
    """A span for as long as a frame stands in a thread's stack. `began_s`: where the builder's times begin."""

    def us(at_s: float) -> float:
        return GRID_US * round((at_s - began_s) * 1e6 / GRID_US)

    for process, name, stacks in tracks:
        thread = Thread(process, name, "cpu")
        open_: list[tuple[str, float]] = []  # frames with the time since when they stand there

        def close(depth: int, at_s: float, thread: Thread = thread, open_: list[tuple[str, float]] = open_) -> None:
            while len(open_) > depth:
                frame, since_s = open_.pop()
                builder.add(thread, us(since_s), us(at_s) - us(since_s), frame, slot=len(open_))

        ended_s = 0.0
        for begin_s, end_s, frames in stacks:
            if begin_s > ended_s:  # a hole
                close(0, ended_s)
            path = (part_of(frames), *frames)
            same = 0
            while same < min(len(path), len(open_)) and open_[same][0] == path[same]:
                same += 1
            close(same, begin_s)
            open_ += [(frame, begin_s) for frame in path[same:]]
            ended_s = end_s
        close(0, ended_s)
