"""Runs -> rows, and whether the bars of the comparison hold. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

__all__ = ["Bar", "Row", "bars", "row_of"]

Row = dict[str, Any]
_CPU, _RATE, _P50 = "cpu_s_per_1000", "requests_per_s", "p50_ms"


class Bar(NamedTuple):
    """One bar. `value` and `limit` in the unit that `what` names; `least`: the value must not be below the limit."""

    what: str
    value: float
    limit: float
    least: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is met."""
        return self.value >= self.limit if self.least else self.value <= self.limit


def row_of(workload: str, load: str, server: str, runs: Sequence[Mapping[str, float]]) -> Row:
    """Medians; `spread` is (max - min) / median of the CPU seconds; errors are added up."""
    row: Row = {"workload": workload, "load": load, "server": server}
    row |= {key: median(run[key] for run in runs) for key in runs[0]}
    cpu = [run[_CPU] for run in runs]
    row["spread"] = (max(cpu) - min(cpu)) / row[_CPU] if row[_CPU] else 0.0
    return row | {"errors": int(sum(run["errors"] for run in runs)), "runs": len(runs)}


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Those whose rows are there."""
    found = {(row["workload"], row["load"], row["server"]): row for row in rows}
    result = [bar for bar in _all(_Figures(found)) if bar is not None]
    return [*result, Bar("errors in all runs of all servers", sum(row["errors"] for row in rows), 0)]


class _Figures:
    """Figures by workload, load and server; None where one of them was not measured."""

    def __init__(self, rows: Mapping[tuple[str, str, str], Row]) -> None:
        self._rows = rows

    def of(self, workload: str, load: str, server: str, key: str) -> float | None:
        row = self._rows.get((workload, load, server))
        return None if row is None else float(row[key])

    def most(self, what: str, place: tuple[str, str], key: str, limit: float) -> Bar | None:
        """nbserve's figure, at most the limit."""
        value = self.of(*place, "nbserve", key)
        return None if value is None else Bar(what, value, limit)

    def ratio(
        self, what: str, place: tuple[str, str], key: str, other: str, limit: float, *, least: bool = False
    ) -> Bar | None:
        """nbserve's figure over another's; `least`: at least the limit."""
        ours, theirs = self.of(*place, "nbserve", key), self.of(*place, other, key)
        return Bar(what, ours / theirs, limit, least) if ours is not None and theirs else None

    def first(self, place: tuple[str, str], ours_as: str = "nbserve") -> Bar | None:
        """nbserve's CPU seconds over the least of the others."""
        ours = self.of(*place, ours_as, _CPU)
        others = [row[_CPU] for key, row in self._rows.items() if key[:2] == place and not key[2].startswith("nbserve")]
        if ours is None or not others:
            return None
        how = ours_as.removeprefix("nbserve")
        return Bar(f"no-op, {place[1]}{how}: CPU / the cheapest other's", ours / min(others), 1.0)


def _all(figures: _Figures) -> Iterator[Bar | None]:
    full = ("noop", "c=64")
    yield figures.most("no-op, c=64: CPU s / 1000", full, _CPU, 0.030)
    yield figures.ratio("no-op, c=64: CPU / mosec's", full, _CPU, "mosec", 0.75)
    yield figures.ratio("no-op, c=64: CPU / FastAPI's", full, _CPU, "FastAPI", 0.25)
    for load, limit in (("c=16", 0.040), ("c=4", 0.080)):
        yield figures.most(f"no-op, {load}: CPU s / 1000", ("noop", load), _CPU, limit)
    for load in ("c=16", "c=4", "30 %", "60 %"):
        yield figures.first(("noop", load))
    for load in ("c=4", "30 %", "60 %"):
        yield figures.first(("noop", load), "nbserve, mosec's wait")
    alone = ("noop", "c=1")
    yield figures.most("no-op, c=1: p50 ms", alone, _P50, 0.5)
    yield figures.ratio("no-op, c=1: p50 / batching off", alone, _P50, "nbserve, batching off", 1.2)
    yield figures.ratio("MLP, c=64: CPU / mosec's", ("mlp", "c=64"), _CPU, "mosec", 0.8)
    whole = ("encoder", "c=32")
    yield figures.ratio("encoder, c=32: requests/s / mosec's", whole, _RATE, "mosec", 1.0, least=True)
    spared = figures.ratio("", whole, _CPU, "mosec, torch's threads", 1.0)
    yield None if spared is None else Bar("encoder: CPU of torch's default threads / ours", 1 / spared.value, 1.7, True)
