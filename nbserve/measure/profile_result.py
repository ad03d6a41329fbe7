"""What a profile found: plain data, with its trace at hand. Made by profiling.py, shown by profile_report.py."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from nbserve.config import ModelConfig
from nbserve.measure.advice import Facts, Finding, advise
from nbserve.measure.advice.facts import facts_of_profile
from nbserve.measure.advice.reading import read_facts
from nbserve.measure.chrome import perfetto, read_trace, system_trace
from nbserve.measure.operators import Flame, Operator, flame, operators
from nbserve.measure.system_profile import SystemProfile, Track
from nbserve.measure.trace import Trace
from nbserve.wire.profile import ProfileRecord, ProfileStatus

if TYPE_CHECKING:
    from nbserve.notebook.widgets.trace import TraceView

__all__ = ["ProfileResult", "make_result"]


class ProfileResult(msgspec.Struct, kw_only=True, dict=True):
    """One profile. `operators`: of CPU and GPU, largest own time first. `stages_ms`: of a request, on average."""

    status: ProfileStatus
    began_at: float
    """Unix time."""
    device: str
    profiler: str
    """ "torch 2.x"; empty: the handler has not loaded torch, and there are the spans of stages alone."""
    requests: int
    stages_ms: dict[str, float]
    """Without the requests that waited for the profiler to start."""
    operators: list[Operator]
    findings: list[Finding]
    system: SystemProfile | None = None
    """Of --system: where gateway and workers spent their time, framework and system included."""
    file: str = ""
    """Where the trace for Perfetto was written."""

    @functools.cached_property
    def trace(self) -> Trace:
        """The timeline of gateway, worker and GPU on one clock."""
        raw, record = self._source
        return read_trace(raw, record)

    def flame(self, interval: tuple[float, float] | None = None) -> Flame:
        """The spans folded by what they are nested in; of an interval in microseconds, or all."""
        return flame(self.trace, interval)

    def perfetto(self) -> bytes:
        """A packed Chrome JSON for ui.perfetto.dev, with the gateway's spans and those of --system."""
        return perfetto(*self._source, self.__dict__["tracks"])

    def view(self) -> TraceView:
        """The timeline as a widget to look into. Raises ImportError without anywidget (extra `widgets`)."""
        from nbserve.notebook.widgets.trace import TraceView

        status = self.status
        return TraceView(self.trace, raw=self.perfetto, filename=f"{status.name}-{status.id}.json.gz")

    @functools.cached_property
    def system_trace(self) -> Trace | None:
        """What --system saw of all processes, with requests and batches on the same clock; None without it."""
        tracks: Sequence[Track] = self.__dict__["tracks"]
        return system_trace(self._source[1], tracks) if tracks else None

    def system_view(self) -> TraceView | None:
        """The same as a widget; None without it. Raises ImportError as `view` does."""
        from nbserve.notebook.widgets.trace import TraceView

        if self.system_trace is None:
            return None
        title = f"{self.status.name}: gateway and workers, sampled by py-spy"
        return TraceView(self.system_trace, title=title, tab="Flame graph")

    @property
    def _source(self) -> tuple[bytes | None, ProfileRecord]:
        source: tuple[bytes | None, ProfileRecord] = self.__dict__["source"]
        return source

    def __repr__(self) -> str:
        from nbserve.measure.profile_report import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from nbserve.measure.profile_report import as_html

        return as_html(self)

    def _ipython_display_(self) -> None:
        """A cell shows the report, and the timeline below it where widgets can be shown."""
        from IPython.display import display, publish_display_data

        from nbserve.notebook.widgets import can_show

        publish_display_data({"text/plain": repr(self), "text/html": self._repr_html_()})  # type: ignore[no-untyped-call]
        if can_show("trace"):
            shown = [self.view(), *filter(None, [self.system_view()])]
            display(*shown)  # type: ignore[no-untyped-call]


def make_result(
    raw: bytes | None,
    record: ProfileRecord,
    around: Facts | None = None,
    system: tuple[SystemProfile, Sequence[Track]] | None = None,
) -> ProfileResult:
    """Read a profile. `raw`: its packed torch trace, or None; `around`: what else is known of the endpoint.

    system: what py-spy saw meanwhile.

    Raises MeasureError where the trace cannot be read.
    """
    trace = read_trace(raw, record)
    facts = facts_of_profile(record, read_facts(trace), around or Facts(config=ModelConfig()))
    lanes = {number for number, lane in enumerate(trace.lanes) if lane.kind != "gateway"}
    result = ProfileResult(
        status=record.status,
        began_at=record.began_at,
        device=record.worker.device,
        profiler=record.worker.profiler,
        requests=len(record.requests),
        stages_ms={stage: 1e3 * seconds / max(1, facts.requests) for stage, seconds in facts.stages_s.items()},
        operators=operators(trace, lanes=lanes),
        findings=advise(facts),
        system=system[0] if system is not None else None,
    )
    state: dict[str, Any] = result.__dict__
    state["source"] = (raw, record)
    state["trace"] = trace
    state["tracks"] = system[1] if system is not None else ()
    return result
