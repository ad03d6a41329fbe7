"""What a run means: whether it is valid, what the limit was, what to do next. Pure. Used by `measured.py`, `bench.py`.

The limit is read from who had no idle time: the load generator, the gateway's process, the workers; where all had, from
where the time of a request went. Of busy workers it is their longest stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nbserve.measure.messages import NOT_SENT, TOO_LATE
from nbserve.measure.result import Comparison, Run
from nbserve.measure.search import keeps_up

__all__ = ["Serving", "Verdict", "client_faults", "compared", "judge", "judge_search", "milliseconds", "per_second"]

CLIENT_BUSY = 0.9
"""A load process that ran, or waited for a CPU, for more than this share of the time hardly ever waited for answers."""
LAG_SHARE, LAG_MS = 0.25, 1.0
"""Requests sent later than this share of the reported p99 (and than a millisecond) make that p99 the client's own."""
GATEWAY_BUSY = 0.85
WORKERS_BUSY = 0.7
FULL_BATCH = 0.9
"""Mean batch over the largest allowed: more would come if more were allowed."""
FEW_ERRORS = 0.01

_TOO_MUCH = ("503", "429", NOT_SENT)
"""Errors that say that more was sent than can be answered."""
_WORK = ("decode", "preprocess", "inference", "postprocess", "encode")
_NEXT = {
    "decode": "send less, or bytes instead of JSON (--content-type application/octet-stream), or add workers",
    "preprocess": "preprocess the batch as a whole instead of row by row, or add workers",
    "inference": "make the model faster (fewer threads a worker, compile, a smaller dtype) or add workers",
    "postprocess": "postprocess the batch as a whole, with one transfer from the device, or add workers",
    "encode": "return less, or bytes instead of nested lists",
    "batch": "lower --max-batch-delay-ms: requests wait for a batch to fill",
    "queue": "requests wait although the workers have time: look at `nbserve status` and `nbserve logs`",
    "transport": "answers are large or many for the time that the handler takes: let a request carry more rows",
    "network": "most of the time is HTTP: let a request carry more rows, or raise --concurrency",
}


class Serving(NamedTuple):
    """How an endpoint of ours is served."""

    workers: int
    max_batch_size: int


class Verdict(NamedTuple):
    """`line`: "212 req/s at p99 8.4 ms; the limit is preprocess". reason, advice: a sentence each; empty if unknown."""

    limit: str
    line: str
    reason: str = ""
    advice: str = ""


def client_faults(run: Run) -> list[str]:
    """Why the load generator was the bottleneck; [] where it was not."""
    client, faults = run.client, []
    if client.cpu + client.waited >= CLIENT_BUSY:
        why = f"a load process used {client.cpu:.0%} of a core"
        if client.waited >= 0.1:
            why += f" and waited {client.waited:.0%} of the time for a free one"
        faults.append(f"{why}, so that it hardly ever waited for the endpoint")
    p99_ms = run.latency_ms.get("p99")
    if run.load.mode == "open" and p99_ms is not None and client.lag_p99_ms > max(LAG_MS, LAG_SHARE * p99_ms):
        faults.append(f"requests were sent up to {milliseconds(client.lag_p99_ms)} late (p99)")
    if (unsent := run.errors.get(TOO_LATE, 0)) > FEW_ERRORS * run.sent:
        faults.append(f"for {unsent} requests the load processes had no time")
    return faults


def judge(run: Run, serving: Serving | None = None) -> Verdict:
    """The verdict on one run. `serving` None: the endpoint is not ours, or its gateway did not say."""
    figures = _figures(run)
    if run.invalid:
        line = f"INVALID: the load generator was the bottleneck; {figures} says nothing of the endpoint"
        return Verdict("client", line, "; ".join(run.invalid), _client_advice(run))
    if not run.answered:
        errors = ", ".join(f"{count} x {what}" for what, count in list(run.errors.items())[:3])
        return Verdict("errors", figures, errors or "no answer came", "see the endpoint's log")
    limit, reason, advice = _limit(run, serving)
    line = figures + _failures(run)
    if limit == "load":
        line += "; it kept up, its limit is higher"
    elif limit:
        line += f"; the limit is {limit}"
    if not run.stable:
        line += "; not stable"
    return Verdict(limit, line, reason, advice)


def judge_search(runs: Sequence[Run], best: int, slo: str, serving: Serving | None = None) -> Verdict:
    """The verdict on a search. The limit is what stopped the lowest rate above the best one."""
    run = runs[best]
    if not run.met:
        found = judge(run, serving)
        tried = f"{per_second(run.load.rate)} were" if run.load.mode == "open" else "one request at a time was"
        return found._replace(line=f"no rate met {slo}; {tried} tried: {found.line}")
    line = f"{per_second(run.load.rate)} meet {slo}, at p99 {milliseconds(run.latency_ms.get('p99', 0.0))}"
    above = [one for one in runs if not one.met and one.load.rate > run.load.rate]
    if not above:
        return Verdict("load", line, "no higher rate was tried that missed it")
    missed = min(above, key=lambda one: one.load.rate)
    found = judge(missed, serving)
    at = f"at {per_second(missed.load.rate)}"
    if not missed.valid:
        line += "; above it the load generator was the limit"
        return Verdict("client", line, f"{at} {found.reason}", found.advice)
    if found.limit in ("load", ""):  # all were answered in time to keep up, but not in time for the objective
        p99 = milliseconds(missed.latency_ms.get("p99", 0.0))
        return Verdict("load", line, f"{at} the p99 was {p99}: requests come unevenly and wait for each other")
    return Verdict(found.limit, f"{line}; the limit is {found.limit}", f"{at} {found.reason}", found.advice)


def compared(line: str, comparisons: Sequence[Comparison]) -> str:
    """The line of a verdict, with what two versions measured in turns differ in."""
    if not comparisons:
        return line
    different = [one for one in comparisons if one.different]
    if not different:
        return f"{line}; no different from {comparisons[0].what}"
    changes = (f"{one.metric} {one.change_percent:+.1f} % ± {one.interval_percent:.1f} %" for one in different)
    return f"{line}; against {comparisons[0].what}: {', '.join(changes)}"


def _figures(run: Run) -> str:
    if not run.answered:
        return "nothing was answered"
    if not run.latency_ms:  # what was answered was due in the warm-up, what came after it waits still
        return f"{per_second(run.rate)}, all of them late"
    return f"{per_second(run.rate)} at p99 {milliseconds(run.latency_ms['p99'])}"


def _failures(run: Run) -> str:
    share = _error_share(run)
    return "" if not share else f"; {share:.1%} failed" if share >= 0.001 else f"; {sum(run.errors.values())} failed"


def _client_advice(run: Run) -> str:
    more = "more load processes (--processes), or load from another machine"
    if run.load.mode == "open":
        return f"lower --rate, or {more}"
    return f"lower --concurrency, or {more}"


def _limit(run: Run, serving: Serving | None) -> tuple[str, str, str]:
    """(limit, reason, advice)"""
    refused = sum(count for what, count in run.errors.items() if what.startswith(_TOO_MUCH))
    if _error_share(run) >= FEW_ERRORS and refused < sum(run.errors.values()) / 2:
        what, count = max(run.errors.items(), key=lambda item: item[1])
        reason = f"{count} of {run.sent} requests ended with {what}"
        return "errors", reason, "look at `nbserve logs`, then measure again"
    if not run.stages_ms:
        return _limit_from_outside(run)
    if _kept_up(run) and (run.workers_busy or 0.0) < WORKERS_BUSY and _gateway_busy(run) < GATEWAY_BUSY:
        busy = f": the workers were busy {run.workers_busy:.0%} of the time" if run.workers_busy is not None else ""
        reason = f"all requests were answered as they came{busy}"
        return "load", reason, "find its limit with --search --slo 'p99<...ms', or raise --rate"
    if _workers_limit(run):
        return _limit_of_workers(run, serving, refused)
    if _gateway_busy(run) >= GATEWAY_BUSY:
        return _limit_of_gateway(run)
    return _limit_of_one_request(run)


def _limit_from_outside(run: Run) -> tuple[str, str, str]:
    """Without Server-Timing there is little to say."""
    if run.load.mode == "open" and not _kept_up(run):
        return "server", f"{per_second(run.offered)} were due, {per_second(run.rate)} were answered", "lower --rate"
    if run.load.mode == "open":
        return "load", "all requests were answered as they came", "find its limit with --search --slo 'p99<...ms'"
    return "", "the endpoint sends no Server-Timing header: its stages are unknown", ""


def _workers_limit(run: Run) -> bool:
    """Busy workers; or less busy ones, but waiting for them is what takes most of a request's time."""
    busy = WORKERS_BUSY if run.workers_busy is None else run.workers_busy
    waits = _mean_ms(run, "queue") >= max(_mean_ms(run, stage) for stage in run.stages_ms)
    return busy >= (WORKERS_BUSY / 2 if waits else WORKERS_BUSY) and (waits or run.workers_busy is not None)


def _gateway_busy(run: Run) -> float:
    """Share of the time in which the gateway ran, or wanted to."""
    return (run.gateway_cpu or 0.0) + (run.gateway_waited or 0.0)


def _limit_of_gateway(run: Run) -> tuple[str, str, str]:
    reason = f"the gateway's process used {run.gateway_cpu or 0.0:.0%} of a core"
    advice = "let a request carry more rows: the gateway's time goes by requests"
    if run.gateway_waited and run.gateway_waited >= 0.1:
        reason += f" and waited {run.gateway_waited:.0%} of the time for a free one"
        advice = "measure from another machine, or leave it more cores: load, gateway and workers share these"
    return "gateway", reason, advice


def _limit_of_workers(run: Run, serving: Serving | None, refused: int) -> tuple[str, str, str]:
    stage = max(_WORK, key=lambda name: _mean_ms(run, name))
    work_ms = sum(_mean_ms(run, name) for name in _WORK)
    share = _mean_ms(run, stage) / work_ms if work_ms else 0.0
    busy = f"busy {run.workers_busy:.0%} of the time" if run.workers_busy is not None else "always busy"
    reason = f"the workers are {busy}, {share:.0%} of it with {stage}"
    if refused:
        reason += f"; {refused} requests were too many: refused, or not even sent"
    advice = _NEXT[stage]
    mean = _mean_batch(run)
    if serving is not None and mean:
        reason += f"; batches hold {mean:.1f} of {serving.max_batch_size}"
        if mean >= FULL_BATCH * serving.max_batch_size and serving.max_batch_size > 1:
            advice = f"raise --max-batch-size, or {advice}"
    return stage, reason, advice


def _limit_of_one_request(run: Run) -> tuple[str, str, str]:
    """Nobody is busy: too few requests at a time. What one request spends its time on is what keeps the rate low."""
    stage = max(run.stages_ms, key=lambda name: _mean_ms(run, name))
    total_ms = sum(_mean_ms(run, name) for name in run.stages_ms)
    share = _mean_ms(run, stage) / total_ms if total_ms else 0.0
    reason = f"{share:.0%} of a request's time is {stage}"
    if run.workers_busy is not None:
        reason += f", and the workers are busy {run.workers_busy:.0%} of the time only"
    advice = _NEXT.get(stage, "")
    if run.load.mode == "closed" and stage != "batch":
        advice = "raise --concurrency: more requests at a time make better use of it"
    return stage, reason, advice


def _kept_up(run: Run) -> bool:
    return run.load.mode == "open" and keeps_up(run)


def _mean_ms(run: Run, stage: str) -> float:
    return run.stages_ms.get(stage, {}).get("mean", 0.0)


def _mean_batch(run: Run) -> float:
    batches = sum(run.batch_sizes.values())
    return sum(size * count for size, count in run.batch_sizes.items()) / batches if batches else 0.0


def _error_share(run: Run) -> float:
    failed = sum(run.errors.values())
    unsent = sum(count for what, count in run.errors.items() if what.startswith(NOT_SENT))
    return failed / max(run.sent + unsent, failed) if failed else 0.0


def per_second(rate: float) -> str:
    """ "212 req/s", "3.4 req/s"."""
    return f"{rate:.0f} req/s" if rate >= 10 else f"{rate:.1f} req/s"


def milliseconds(value_ms: float) -> str:
    """Two or three digits: "0.84 ms", "8.4 ms", "212 ms"."""
    if value_ms >= 100:
        return f"{value_ms:.0f} ms"
    return f"{value_ms:.1f} ms" if value_ms >= 1 else f"{value_ms:.2f} ms"
