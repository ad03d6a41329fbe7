"""A recording (`nbserve record`) as a load: what to send, and when. Called by the verb `bench` and by bench.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nbserve.errors import UsageError
from nbserve.measure.options import Body
from nbserve.measure.result import Load
from nbserve.wire.recording import read_recording

__all__ = ["read_replay", "replayed"]

_ALONE_S = 1.0
"""Measured time of a recording whose requests came all at once."""


def read_replay(file: Path, speed: float = 1.0) -> tuple[tuple[Body, ...], tuple[float, ...]]:
    """(bodies, seconds from the start at which each is due), the first one at 0; times divided by `speed`.

    Raises UsageError where the file is no recording, is cut off, or has no body that can be sent.
    """
    if speed <= 0:
        raise UsageError(f"--speed must be positive, not {speed:g}")
    try:
        with file.open("rb") as lines:
            _, requests = read_recording(lines, str(file))
            kept = [(one.at_s, one.content, one.content_type) for one in requests]
    except OSError as exc:
        raise UsageError(f"--replay: cannot read {file}: {exc.strerror}") from exc
    sent = [(at_s, Body(content, kind)) for at_s, content, kind in kept if content is not None]
    if not sent:
        why = "the bodies of all its requests were withheld" if kept else "no request came while it was recorded"
        raise UsageError(f"--replay: {file} has nothing to send: {why}")
    first_s = sent[0][0]
    return tuple(body for _, body in sent), tuple((at_s - first_s) / speed for at_s, _ in sent)


def replayed(offsets_s: Sequence[float]) -> Load:
    """The load that these requests are, until one mean gap after the last.

    All of it is measured: a warm-up would be requests that were not recorded.
    """
    last_s = offsets_s[-1]
    duration_s = last_s + (last_s / (len(offsets_s) - 1) if last_s > 0 else _ALONE_S)
    return Load(mode="open", arrivals="recorded", rate=len(offsets_s) / duration_s, duration_s=duration_s, warmup_s=0.0)
