"""Which batches warm a new version up and seed its cost model: 1, 2, 4, ... of the sample, or only the ends. Pure.

Called by gateway/version. A cell that is run again mostly changes the handler a little, and the weights not at all: the
cost model of the version that it replaces then says what to expect, and the smallest and the largest batch are enough
to see whether it still holds. Where one of them does not fit, the sweep is a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nbserve.config import ModelConfig
from nbserve.gateway.cost import Cost

__all__ = ["Known", "Observation", "Subject", "between", "fits", "is_alike", "next_size"]

BUDGET_S = 0.25
"""Time for warm-up batches beyond the first; the sweep ends at the size that would not fit into it."""
TOLERANCE = 0.3
"""A batch may be off by this part of what was expected, and by the model's margin: single ones scatter by a quarter."""

Observation = tuple[int, float]
"""Batch size, seconds."""


class Known(NamedTuple):
    """Of the version that is replaced: its fit, the median of each batch size, the largest size of its sweep."""

    cost: Cost
    points: Sequence[Observation]
    largest: int


class Subject(NamedTuple):
    """What a version's cost depends on, as far as that is known. `files`: of its bundle, with their digests."""

    files: Mapping[str, str]
    config: ModelConfig
    threads: int


def is_alike(old: Subject, new: Subject) -> bool:
    """Whether the cost of one is worth a look for the other: the same weights on the same part of the machine."""
    weights = [{name: of for name, of in one.files.items() if name.startswith("weights/")} for one in (old, new)]
    ways = [(one.config.device, one.config.max_batch_size, one.config.env, one.threads) for one in (old, new)]
    return bool(weights[0]) and weights[0] == weights[1] and ways[0] == ways[1]


def fits(cost: Cost, size: int, seconds: float) -> bool:
    """Whether a batch took about as long as was expected."""
    expected_s = cost.predict_s(size)
    return abs(seconds - expected_s) <= cost.margin_s + TOLERANCE * expected_s


def next_size(seen: Sequence[Observation], most: int, known: Known | None) -> int | None:
    """The batch that comes after these; None = the sweep is over. `most`: `max_batch_size`."""
    seconds = dict(seen)
    if 1 not in seconds:
        return 1
    if _holds(seen, known):
        return known.largest if known is not None and known.largest not in seconds else None
    size = 1
    while size < most and min(2 * size, most) in seconds:
        size = min(2 * size, most)
    spent_s = sum(seconds.values()) - seconds[1]
    return min(2 * size, most) if size < most and spent_s + 2 * seconds[size] <= BUDGET_S else None


def between(seen: Sequence[Observation], known: Known | None) -> list[Observation]:
    """What stands for the sizes that were left out: what the old model saw, where it holds."""
    if known is None or not _holds(seen, known):
        return []
    return [(size, seconds) for size, seconds in known.points if 1 < size < known.largest]


def _holds(seen: Sequence[Observation], known: Known | None) -> bool:
    return known is not None and all(fits(known.cost, *one) for one in seen)
