"""A snapshot judged by all rules, and how workers would be placed on it: pure. Called by the verb `doctor`."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from nbserve.doctor import hardware, surroundings
from nbserve.doctor.finding import LEVELS, Finding, Level, ok
from nbserve.doctor.machine import Machine
from nbserve.gateway.pool.floorplan import draw
from nbserve.gateway.pool.placement import Demand, plan

__all__ = ["Diagnosis", "Placed", "Placement", "diagnose"]

WORKERS: tuple[int | Literal["auto"], ...] = (1, 2, "auto")
"""Numbers of workers whose placement is shown."""


class Placed(msgspec.Struct, frozen=True):
    """One worker: its CPUs, and how many threads compute in it."""

    cpus: list[int]
    threads: int


class Placement(msgspec.Struct, frozen=True):
    """What the first endpoint here would get with `--workers` as named."""

    workers: str
    plans: list[Placed]
    drawing: str


class Diagnosis(msgspec.Struct, frozen=True):
    """Findings, the worst first; placements; and the facts that they were drawn from."""

    findings: list[Finding]
    placements: list[Placement]
    machine: Machine

    @property
    def has_problem(self) -> bool:
        """Whether anything keeps it from serving."""
        return any(finding.level == "problem" for finding in self.findings)

    def counts(self) -> dict[Level, int]:
        """How many findings of each level, the worst first."""
        counted = Counter(finding.level for finding in self.findings)
        return {level: counted[level] for level in LEVELS}


def diagnose(machine: Machine) -> Diagnosis:
    """All rules over a snapshot; an area that no rule has anything to say of is "ok", with what there is."""
    findings = []
    summaries = surroundings.SUMMARY | hardware.SUMMARY
    for area, rule in (hardware.RULES | surroundings.RULES).items():
        findings += list(rule(machine)) or [ok(area, summaries[area](machine))]
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return Diagnosis(findings, [_placement(machine, workers) for workers in WORKERS], machine)


def _placement(machine: Machine, workers: int | Literal["auto"]) -> Placement:
    plans = plan(machine.topology, [Demand("model", workers)])
    placed = [Placed(list(one.cores), one.threads) for one in plans["model"]]
    return Placement(str(workers), placed, draw(machine.topology, plans))
