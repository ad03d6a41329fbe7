"""`profiler_args`, by which TorchServe's handlers say how they are profiled -> arguments of torch.profiler.profile.

Called by worker/profiler when a profile begins. Pure; nothing of torch is imported, so that a handler that has not
loaded it is none the wiser.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from nbserve.errors import MeasureError
from nbserve.wire.profile import Profile

__all__ = ["Arguments", "arguments_of"]

_SWITCHES = ("record_shapes", "profile_memory", "with_stack", "with_flops", "with_modules")
_OTHERS = {
    "schedule": "nbserve begins and ends a profile (--batches, --seconds)",
    "acc_events": "each profile stands for itself",
    "use_cuda": "torch has replaced it by activities",
    "execution_trace_observer": "it writes a file of its own, without a bound",
    "experimental_config": "the trace must stay one that nbserve can read",
    "custom_trace_id_callback": "nbserve names its profiles",
    "post_processing_timeout_s": "a trace that is cut off cannot be read; --batches bounds it",
}
"""Arguments of torch.profiler.profile that are not taken, and why."""


class Arguments(NamedTuple):
    """`keywords` for torch.profiler.profile. `given`: names that came from the handler."""

    keywords: dict[str, Any]
    on_trace_ready: Callable[[Any], object] | None = None
    given: tuple[str, ...] = ()


def arguments_of(asked: Profile, handler: Any, activities: Collection[Any], cpu: Any) -> Arguments:
    """What was asked for, and what the handler says of itself; what either switches on is on.

    As in TorchServe, a handler that says anything is not profiled with the defaults of ENABLE_TORCH_PROFILER.
    `activities`: those that this process can record, `cpu` among them. Raises MeasureError.
    """
    given = getattr(handler, "profiler_args", None) or {}
    who = f"{type(handler).__name__}.profiler_args"
    if not isinstance(given, Mapping):
        raise MeasureError(f"{who} is a {type(given).__name__}, and must be a dict")
    for name, value in given.items():
        if name in _SWITCHES:
            if not isinstance(value, bool):
                raise MeasureError(f"{who}: {name} must be True or False, not {value!r:.80}")
        elif name not in ("activities", "on_trace_ready"):
            why = _OTHERS.get(name, "torch.profiler.profile has no such argument")
            raise MeasureError(f"{who}: {name!s:.80} cannot be used: {why}")
    on_trace_ready = given.get("on_trace_ready")
    if on_trace_ready is not None and not callable(on_trace_ready):
        raise MeasureError(f"{who}: on_trace_ready must be a function of the profiler, not {on_trace_ready!r:.80}")
    flags = {"record_shapes": asked.shapes, "profile_memory": asked.memory, "with_stack": asked.stacks}
    if given and asked.log_table:
        flags = {}
    keywords = {name: given.get(name, False) or flags.get(name, False) for name in _SWITCHES}
    keywords["activities"] = _activities(who, given.get("activities"), activities, cpu)
    return Arguments(keywords, on_trace_ready, tuple(map(str, given)))


def _activities(who: str, given: Any, there: Collection[Any], cpu: Any) -> list[Any]:
    """Those of the handler that this process can record; all, where it names none."""
    if given is None:
        return list(there)
    if not isinstance(given, (list, tuple, set)) or not all(isinstance(each, type(cpu)) for each in given):
        raise MeasureError(f"{who}: activities must be a list of torch.profiler.ProfilerActivity, not {given!r:.80}")
    if cpu not in given:
        raise MeasureError(f"{who}: activities must have ProfilerActivity.CPU, by which batches are told apart")
    return [each for each in there if each in given]
