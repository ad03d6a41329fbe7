"""Samples become spans: whatever is sampled, the flame graph of the trace has the same paths with the same times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbserve.measure.operators import flame
from nbserve.measure.sampled import SAMPLE_US, sampled
from nbserve.measure.system_profile import part_of, summed_up

FRAMES = ["run (app.py:3)", "forward (model.py:9)", "addmm (libtorch.so)", "epoll_wait (libc.so.6)"]
stacks = st.dictionaries(
    st.lists(st.sampled_from(FRAMES), min_size=1, max_size=5).map(tuple), st.integers(1, 20), min_size=1
)


@given(stacks, stacks)
def test_the_flame_graph_is_that_of_the_samples(
    gateway: dict[tuple[str, ...], int], worker: dict[tuple[str, ...], int]
) -> None:
    processes = {"gateway": gateway, "worker 0": worker}
    system = summed_up(
        {who: {";".join(stack): count for stack, count in each.items()} for who, each in processes.items()}, 5
    )
    trace = sampled(system)
    found = {path[1:]: round(us / SAMPLE_US) for path, us in flame(trace).folded()}
    wanted = {
        (f"{who}, samples", part_of(list(stack)), *stack): count
        for who, each in processes.items()
        for stack, count in each.items()
    }
    assert found == wanted
    ends = trace.start_us + trace.duration_us
    same = trace.lane[1:] == trace.lane[:-1]
    assert (ends[:-1][same] <= trace.start_us[1:][same]).all(), "spans of a lane do not overlap"


def test_nothing_sampled_is_an_empty_trace() -> None:
    assert len(sampled(summed_up({}, 5))) == 0
