"""One load on one running server: closed loops by wrk, open loops by the load processes of `nbserve bench`."""

from __future__ import annotations

import time

from nbserve.measure.crew import Crew
from nbserve.measure.measured import measure, summary
from nbserve.measure.messages import TOO_LATE
from nbserve.measure.options import Body
from nbserve.measure.result import Load
from nbserve.measure.target import foreign
from tests.benchmarks.peers.contestants import Running
from tests.benchmarks.wrk import load as wrk

__all__ = ["Figures", "closed", "drained", "opened"]

Figures = dict[str, float]


def closed(one: Running, bodies: tuple[bytes, ...], connections: int, seconds: float) -> Figures:
    """So many connections that ask again when they are answered. Nobody is pinned: the same for all servers.

    Raises RuntimeError where nothing is answered.
    """
    before_s = one.cpu_s()
    seen = wrk(one.url, one.token, bodies, connections=connections, seconds=seconds)
    cpu_s = one.cpu_s() - before_s
    if not seen.requests:
        raise RuntimeError(f"{one.url} answered nothing in {seconds:g} s")
    return {
        "cpu_s_per_1000": 1000 * cpu_s / seen.requests,
        "requests_per_s": seen.requests_per_s,
        "p50_ms": seen.p50_ms,
        "p99_ms": seen.p99_ms,
        "errors": seen.errors,
    }


def opened(one: Running, bodies: tuple[bytes, ...], rate: float, seconds: float, crew: Crew, seed: int) -> Figures:
    """Poisson arrivals, `rate` a second; latencies from when a request was due."""
    return _measured(one, bodies, Load(mode="open", rate=rate, duration_s=seconds, warmup_s=0.0, seed=seed), crew)


def drained(one: Running, bodies: tuple[bytes, ...], connections: int, seconds: float, crew: Crew) -> Figures:
    """As `closed`, until the last request is answered: what was begun counts, too, where a run has few requests."""
    return _measured(one, bodies, Load(mode="closed", concurrency=connections, duration_s=seconds, warmup_s=0.0), crew)


def _measured(one: Running, bodies: tuple[bytes, ...], load: Load, crew: Crew) -> Figures:
    headers = {"Authorization": f"Bearer {one.token}"} if one.token else {}
    target = foreign(one.url, "POST", [Body(body, "application/json") for body in bodies], headers)
    before_s, began_s = one.cpu_s(), time.monotonic()
    run = summary([measure(crew, target, load, [], 30.0, lambda *_: None)])
    took_s, cpu_s = time.monotonic() - began_s, one.cpu_s() - before_s
    if not run.sent:
        raise RuntimeError(f"nothing could be sent to {one.url}")
    return {
        "cpu_s_per_1000": 1000 * cpu_s / run.sent,
        "requests_per_s": run.rate if load.mode == "open" else run.sent / took_s,
        "p50_ms": run.latency_ms["p50"],
        "p99_ms": run.latency_ms["p99"],
        "errors": sum(count for kind, count in run.errors.items() if kind != TOO_LATE),  # that one is the client's
    }
