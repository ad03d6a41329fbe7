"""The table of rules, and running them. Pure."""

from __future__ import annotations

from collections.abc import Callable

from nbserve.measure.advice import device, handler, serving
from nbserve.measure.advice.facts import Facts
from nbserve.measure.advice.finding import LEVELS, Finding

__all__ = ["RULES", "advise"]

RULES: tuple[Callable[[Facts], Finding | None], ...] = (
    device.kernels_are_launch_bound,
    device.gpu_has_gaps,
    device.gpu_is_little_used,
    device.tensor_cores_are_unused,
    device.dims_are_unaligned,
    device.syncs_are_many,
    device.copies_are_pageable,
    device.tensors_are_moved,
    handler.preprocess_dominates,
    handler.inference_is_python,
    handler.threads_are_too_many,
    handler.json_dominates,
    handler.padding_is_wasted,
    serving.delay_costs,
    serving.batches_never_fill,
    serving.a_worker_is_slow,
    serving.memory_is_short,
)


def advise(facts: Facts) -> list[Finding]:
    """What all rules say, worst first; rules that lack what they look at say nothing."""
    found = [finding for rule in RULES if (finding := rule(facts)) is not None]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))
