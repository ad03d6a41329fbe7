"""The verdict on recorded runs, one for each limit; on made-up ones where a rule has a threshold.

recorded/*.json are runs of three seconds on two cores, as `bench` found them (without histogram and windows): handlers
that sleep in preprocess or inference, that return what they get, small or large, that fail every tenth time.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from nbserve.measure.messages import NOT_SENT, TOO_LATE
from nbserve.measure.result import ClientCheck, Comparison, Load, Run
from nbserve.measure.verdict import Serving, client_faults, compared, judge, judge_search

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> Run:
    return msgspec.json.decode((RECORDED / f"{name}.json").read_bytes(), type=Run)


def fresh(**changed: object) -> Run:
    """A valid run at 100/s with nothing special."""
    fields: dict[str, object] = {
        "load": Load(mode="open", rate=100.0),
        "sent": 1000,
        "answered": 1000,
        "rate": 100.0,
        "offered": 100.0,
        "latency_ms": {"p50": 4.0, "p99": 8.0},
        "histogram": "",
        "client": ClientCheck(processes=1, cores=[], lag_p99_ms=0.1, cpu=0.1),
    }
    return Run(**(fields | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "limit", "reason", "advice"),
    [
        ("preprocess", "preprocess", "of it with preprocess; batches hold 8.0 of 8", "raise --max-batch-size"),
        ("inference", "inference", "of it with inference", "make the model faster"),
        ("one_at_a_time", "inference", "batches hold 1.0 of 8", "make the model faster"),
        ("encode", "encode", "of it with encode", "bytes instead of nested lists"),
        ("batch", "batch", "of a request's time is batch", "--max-batch-delay-ms"),
        ("gateway", "gateway", "the gateway's process used", "measure from another machine"),
        ("network", "network", "of a request's time is network", "--concurrency"),
        ("refused", "inference", "requests were too many: refused, or not even sent", "faster"),
        ("overload", "inference", "requests were too many", "faster"),
        ("errors", "errors", "requests ended with 500 ValueError", "nbserve logs"),
        ("load", "load", "all requests were answered as they came", "--search"),
        ("client", "client", "a load process used", "--processes"),
    ],
)
def test_limits_of_recorded_runs(name: str, limit: str, reason: str, advice: str) -> None:
    run = recorded(name)
    verdict = judge(run, Serving(workers=1, max_batch_size=8))
    assert verdict.limit == limit, verdict
    assert reason in verdict.reason
    assert advice in verdict.advice
    assert verdict.line.startswith("INVALID" if limit == "client" else f"{run.rate:.0f} req/s at p99 ")
    if limit not in ("load", "client"):
        assert f"the limit is {limit}" in verdict.line


def test_the_line_of_the_issue() -> None:
    run = recorded("preprocess")
    run.rate, run.latency_ms["p99"] = 212.3, 8.41
    assert judge(run).line.removesuffix("; not stable") == "212 req/s at p99 8.4 ms; the limit is preprocess"


def test_full_batches_are_told_from_half_empty_ones() -> None:
    run = recorded("preprocess")
    assert "raise --max-batch-size" in judge(run, Serving(1, 8)).advice
    assert "raise --max-batch-size" not in judge(run, Serving(1, 32)).advice


@pytest.mark.parametrize(
    ("cpu", "waited", "lag_p99_ms", "fault"),
    [
        (0.5, 0.0, 0.1, ""),
        (0.95, 0.0, 0.1, "a load process used 95% of a core, so that"),
        (0.45, 0.5, 0.1, "used 45% of a core and waited 50% of the time for a free one"),
        (0.2, 0.0, 3.0, "requests were sent up to 3.0 ms late"),
        (0.2, 0.0, 0.9, ""),  # below a millisecond
        (0.2, 0.0, 1.9, ""),  # below a quarter of the p99
    ],
)
def test_the_self_check(cpu: float, waited: float, lag_p99_ms: float, fault: str) -> None:
    run = fresh(client=ClientCheck(processes=1, cores=[], lag_p99_ms=lag_p99_ms, cpu=cpu, waited=waited))
    faults = client_faults(run)
    assert (fault in faults[0]) if fault else not faults


def test_a_client_that_got_nothing_done_is_invalid_too() -> None:
    run = fresh(answered=0, rate=0.0, latency_ms={}, errors={TOO_LATE: 9}, valid=False, invalid=["no time"])
    verdict = judge(run)
    assert verdict.limit == "client"
    assert verdict.line.startswith("INVALID: the load generator was the bottleneck; nothing was answered")


def test_requests_that_the_client_never_sent_are_its_fault() -> None:
    assert client_faults(fresh(errors={TOO_LATE: 20})) == ["for 20 requests the load processes had no time"]
    assert client_faults(fresh(errors={TOO_LATE: 5, f"{NOT_SENT}: 1000 requests were unanswered": 900})) == []


def test_all_answers_late_is_said_without_a_percentile() -> None:
    late = ClientCheck(processes=1, cores=[], lag_p99_ms=4.0, cpu=0.1)
    run = fresh(sent=0, latency_ms={}, errors={f"{NOT_SENT}: x": 900}, stages_ms={}, offered=1000.0, client=late)
    assert client_faults(run) == []
    assert judge(run).line == "100 req/s, all of them late; 100.0% failed; the limit is server"


def test_an_invalid_run_says_so_first_and_why() -> None:
    run = fresh(valid=False, invalid=["requests were sent up to 40 ms late (p99)"])
    verdict = judge(run)
    assert verdict.line == (
        "INVALID: the load generator was the bottleneck; 100 req/s at p99 8.0 ms says nothing of the endpoint"
    )
    assert "40 ms late" in verdict.reason
    assert "lower --rate" in verdict.advice
    closed = fresh(load=Load(mode="closed", concurrency=8), valid=False, invalid=["x"])
    assert "lower --concurrency" in judge(closed).advice


def test_nothing_answered() -> None:
    run = fresh(answered=0, rate=0.0, latency_ms={}, errors={"connection refused": 1000})
    verdict = judge(run)
    assert (verdict.limit, verdict.line) == ("errors", "nothing was answered")
    assert verdict.reason == "1000 x connection refused"


def test_few_errors_are_told_but_are_no_limit() -> None:
    line = judge(fresh(errors={"timeout": 5})).line
    assert line == "100 req/s at p99 8.0 ms; 0.5% failed; it kept up, its limit is higher"
    assert judge(fresh(errors={"timeout": 50})).limit == "errors"


def test_from_outside_only_what_is_known_is_said() -> None:
    assert judge(fresh(load=Load(mode="closed", concurrency=4))).line == "100 req/s at p99 8.0 ms"
    late = judge(fresh(rate=60.0))
    assert (late.limit, late.reason) == ("server", "100 req/s were due, 60 req/s were answered")
    assert "not stable" in judge(fresh(stable=False)).line


def test_a_comparison_ends_the_line() -> None:
    fields = {"what": "version 1", "before": 100.0, "after": 108.0, "change_percent": 8.04, "interval_percent": 3.01}
    rate = Comparison(metric="rate", different=True, **fields)  # type: ignore[arg-type]
    same = Comparison(metric="p99", different=False, **fields)  # type: ignore[arg-type]
    assert compared("100 req/s", [rate, same]) == "100 req/s; against version 1: rate +8.0 % ± 3.0 %"
    assert compared("100 req/s", [same]) == "100 req/s; no different from version 1"
    assert compared("100 req/s", []) == "100 req/s"


def tries(*met: tuple[float, bool]) -> list[Run]:
    return [fresh(load=Load(mode="open", rate=rate), rate=rate, offered=rate, met=ok) for rate, ok in met]


def test_a_search_names_what_stopped_the_next_rate() -> None:
    runs = tries((100.0, True), (200.0, True), (400.0, False))
    slow = recorded("preprocess")
    slow.load, slow.met = Load(mode="open", rate=250.0), False
    runs.append(slow)
    verdict = judge_search(runs, 1, "p99<10ms", Serving(1, 8))
    assert verdict.line == "200 req/s meet p99<10ms, at p99 8.0 ms; the limit is preprocess"
    assert verdict.reason.startswith("at 250 req/s the workers are busy")


def test_a_search_that_the_client_ended_says_so() -> None:
    runs = tries((100.0, True), (200.0, False))
    runs[1].valid, runs[1].invalid = False, ["a load process used 99% of a core"]
    verdict = judge_search(runs, 0, "p99<10ms")
    assert verdict.line.endswith("; above it the load generator was the limit")
    assert verdict.limit == "client"


def test_a_search_without_success() -> None:
    verdict = judge_search(tries((2.0, False), (1.0, False)), 1, "p99<1ms")
    assert verdict.line.startswith("no rate met p99<1ms; 1.0 req/s were tried: ")
    assert judge_search(tries((10.0, True)), 0, "p99<9ms").line == "10 req/s meet p99<9ms, at p99 8.0 ms"
