"""Advice: pure rules over what a profile and the metrics of an endpoint say.

`advise(facts)` runs every rule. A rule (device.py, handler.py, serving.py) returns a `Finding` (finding.py) with its
number, its threshold and where that comes from, or None. What rules look at is in facts.py; reading.py makes it of a
trace. Called by profiling.py, the verb `advise` and the dashboard.
"""

from nbserve.measure.advice.facts import Facts, TraceFacts, WorkerFacts
from nbserve.measure.advice.finding import Finding
from nbserve.measure.advice.rules import RULES, advise

__all__ = ["RULES", "Facts", "Finding", "TraceFacts", "WorkerFacts", "advise"]
