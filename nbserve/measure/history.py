"""Results of earlier measurements, kept as JSON under nbserve's home folder. Called by `bench.py`.

A bounded number: the oldest of an endpoint go first, then the oldest of all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nbserve.discovery import home
from nbserve.measure.result import METRICS, BenchResult, Comparison, comparison
from nbserve.measure.stats import Interval, change_between

__all__ = ["compare_with_previous", "keep", "previous"]

_KEPT_OF_ONE = 20
_KEPT_OF_ALL = 500


def keep(result: BenchResult) -> Path:
    """Write a result; its file."""
    folder = _folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{_key(result)}-{int(result.at * 1000):013d}.json"
    descriptor, temporary = tempfile.mkstemp(prefix=".bench-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(result))
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _drop_oldest(list(folder.glob(f"{_key(result)}-*.json")), _KEPT_OF_ONE)
    _drop_oldest(list(folder.glob("*.json")), _KEPT_OF_ALL)
    return path


def previous(result: BenchResult) -> BenchResult | None:
    """The last valid measurement of the same endpoint that was asked for in the same way, if there is one."""
    for earlier in _of(result):
        if earlier.at < result.at and _same(earlier, result) and earlier.runs[earlier.best].valid:
            return earlier
    return None


def compare_with_previous(result: BenchResult) -> list[Comparison]:
    """What has changed since the last measurement of the same kind; [] without one, or where this one is not valid."""
    earlier = previous(result)
    if earlier is None or not result.runs[result.best].valid:
        return []
    what = time.strftime("the run of %Y-%m-%d %H:%M", time.localtime(earlier.at))
    if earlier.version != result.version:
        what += f" (version {earlier.version})"
    found = []
    for metric in METRICS:
        before, after = _known(earlier, metric), _known(result, metric)
        if before is not None and after is not None:
            found.append(comparison(what, metric, before.mean, after.mean, change_between(before, after)))
    return found


def _known(result: BenchResult, metric: str) -> Interval | None:
    """A metric with its interval, where both are known."""
    value = result.runs[result.best].figure(metric)
    percent = result.interval_percent.get(metric)
    return Interval(value, value * percent / 100) if percent is not None and value > 0 else None


def _same(one: BenchResult, other: BenchResult) -> bool:
    """Asked in the same way: load, body, objective, versions compared."""
    return one.environment.get("asked") == other.environment.get("asked")


def _of(result: BenchResult) -> Iterator[BenchResult]:
    """Newest first. A file that cannot be read is no result."""
    for path in sorted(_folder().glob(f"{_key(result)}-*.json"), reverse=True):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            yield msgspec.json.decode(path.read_bytes(), type=BenchResult)


def _folder() -> Path:
    return home() / "bench"


def _key(result: BenchResult) -> str:
    """An endpoint's files: its name for people, a digest to tell apart what looks the same."""
    readable = re.sub(r"[^A-Za-z0-9_.]+", "-", result.name)[:60].strip("-.")
    return f"{readable}-{hashlib.sha256(result.name.encode()).hexdigest()[:8]}"


def _drop_oldest(paths: list[Path], most: int) -> None:
    for path in sorted(paths, key=lambda path: path.stem.rpartition("-")[2])[:-most]:
        path.unlink(missing_ok=True)
