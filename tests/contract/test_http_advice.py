"""Every rule of advice that a CPU can trigger: a real handler that does, and one that does not by less than a fifth.

Near misses are that by measurement: the rule is silent, and would speak if its threshold were a fifth nearer. What they
measure is set by sleeps that are long beside a machine's noise, or by sizes and counts alone; a machine that was busy
elsewhere in the midst of it is given another try.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nbserve.config import ModelConfig
from nbserve.measure.advice import Facts, Finding, advise
from nbserve.measure.advice.facts import facts_of_numbers, facts_of_profile
from nbserve.measure.advice.handler import (
    inference_is_python,
    json_dominates,
    padding_is_wasted,
    preprocess_dominates,
    threads_are_too_many,
)
from nbserve.measure.advice.reading import read_facts
from nbserve.measure.advice.serving import a_worker_is_slow, batches_never_fill, delay_costs, memory_is_short
from nbserve.profiling import Wanted, advise_endpoint, make_profile
from nbserve.resolve import Served
from tests.contract.profiled import traffic
from tests.handlers import advice
from tests.unit.gateway.running import Running, make_bundle, running

pytestmark = pytest.mark.xdist_group("contract-advice")

Rule = Callable[[Facts], Finding | None]
TRIES = 3


class Endpoint:
    """One endpoint, whose handler and options each test sets anew."""

    def __init__(self, gateway: Running, folder: Path) -> None:
        self.gateway = gateway
        self.served = Served(gateway.client, "m")
        self._folder = folder

    def play(
        self,
        source: str,
        clients: int = 1,
        bodies: tuple[bytes, ...] = (b"[1]",),
        batches: int = 30,
        stride: int = 1,
        **config: Any,
    ) -> Facts:
        """What a profile of so many batches, under traffic, gives the rules to look at."""
        bundle = make_bundle(self._folder, source=source, sample=None)
        self.gateway.client.register(str(bundle), name="m", config=ModelConfig(**config))
        with traffic(self.gateway, "m", clients, bodies, stride):
            result = make_profile(self.served, Wanted(batches=batches, shapes=True), lambda text: None)
        record = self.gateway.client.profile_record("m", result.status.id)
        facts = facts_of_profile(record, read_facts(result.trace), self.counted())
        assert {found.rule for found in result.findings} == {found.rule for found in advise(facts)}
        return facts

    def counted(self) -> Facts:
        """What its counters give the rules to look at; of a machine with memory to spare."""
        client = self.gateway.client
        return facts_of_numbers(client.numbers("m"), None, client.model("m").config)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with running() as gateway:
        yield Endpoint(gateway, tmp_path_factory.mktemp("advised"))


def speaks(rule: Rule, play: Callable[[], Facts]) -> bool:
    """Whether it does, in one of a few tries."""
    return any(rule(play()) for _ in range(TRIES))


def misses(rule: Rule, threshold: str, play: Callable[[], Facts], *, by: float = 0.8) -> bool:
    """Whether it is silent in one of a few tries, and would speak if its threshold were `by` as large."""
    return any(not rule(facts) and _would(rule, threshold, by, facts) for facts in (play() for _ in range(TRIES)))


def _would(rule: Rule, threshold: str, by: float, facts: Facts) -> bool:
    module = sys.modules[rule.__module__]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, threshold, by * getattr(module, threshold))
        return rule(facts) is not None


def test_preprocess_bound(endpoint: Endpoint) -> None:
    def play(preprocess_s: float, inference_s: float, postprocess_s: float) -> Facts:
        times = {"preprocess_s": preprocess_s, "inference_s": inference_s, "postprocess_s": postprocess_s}
        return endpoint.play(advice.SLEEPS.format(**times))

    def with_a_faster_model() -> Facts:
        facts = play(0.018, 0.020, 0)
        assert preprocess_dominates(facts) is None
        return replace(facts, stages_s={**facts.stages_s, "inference": 0.8 * facts.stages_s["inference"]})

    assert speaks(preprocess_dominates, lambda: play(0.022, 0.018, 0.010))
    assert misses(preprocess_dominates, "PREPROCESS_SHARE", lambda: play(0.018, 0.016, 0.016))
    assert speaks(preprocess_dominates, with_a_faster_model), "as much as the model, too"


def test_python_bound(endpoint: Endpoint) -> None:
    assert speaks(inference_is_python, lambda: endpoint.play(advice.LOOPS))
    more, less = (advice.RANGES.format(python_s=python, operator_s=0.05 - python) for python in (0.028, 0.0225))
    assert speaks(inference_is_python, lambda: endpoint.play(more))
    assert misses(inference_is_python, "PYTHON_SHARE", lambda: endpoint.play(less))


def test_oversubscribed_threads(endpoint: Endpoint) -> None:
    endpoint.play(advice.THREADS.format(threads=1), batches=1)
    [worker] = endpoint.gateway.client.model("m").workers
    cores = len(worker.cores)
    assert speaks(threads_are_too_many, lambda: endpoint.play(advice.THREADS.format(threads=cores + 1)))
    as_many = advice.THREADS.format(threads=cores)
    assert misses(threads_are_too_many, "THREADS_PER_CORE", lambda: endpoint.play(as_many))


def test_json_dominated(endpoint: Endpoint) -> None:
    """The model decodes and encodes as the worker does, in a set proportion: however fast this machine is at it."""
    body = json.dumps([number / 7 for number in range(20_000)]).encode()
    less, more = (advice.AGAIN.format(tenths=tenths) for tenths in (19, 26))
    assert speaks(json_dominates, lambda: endpoint.play(less, bodies=(body,)))
    assert misses(json_dominates, "JSON_SHARE", lambda: endpoint.play(more, bodies=(body,)))


def test_padding_waste(endpoint: Endpoint) -> None:
    """Every batch is one request of each of two clients, and a fifth more or less than the threshold is empty."""

    def play(empty: float) -> Facts:
        longer = 400, 200
        pairs = [(length, round(length * (1 - 2 * empty))) for length in longer]
        bodies = tuple(json.dumps("a" * (length - 2)).encode() for pair in pairs for length in pair)
        facts = endpoint.play(advice.PADS, 2, bodies, stride=2, max_batch_size=2, max_batch_delay_ms=1000)
        assert facts.batch_sizes == {2: 30}
        assert facts.body_waste == pytest.approx(empty, abs=0.01)
        return facts

    assert speaks(padding_is_wasted, lambda: play(0.33))
    assert misses(padding_is_wasted, "PADDING_WASTE", lambda: play(0.27))


def test_batch_delay_costs(endpoint: Endpoint) -> None:
    def play(inference_s: float, clients: int = 1) -> Facts:
        source = advice.SLEEPS.format(preprocess_s=0, inference_s=inference_s, postprocess_s=0)
        return endpoint.play(source, clients, max_batch_size=8, max_batch_delay_ms=20)

    assert speaks(delay_costs, lambda: play(0.060))
    assert misses(delay_costs, "DELAY_SHARE", lambda: play(0.092))
    assert misses(delay_costs, "SMALL_BATCH", lambda: play(0.020, clients=2), by=1.2), "a second request came"


def test_a_slow_worker(endpoint: Endpoint) -> None:
    def play(slow_s: float) -> Facts:
        return endpoint.play(advice.ONE_IS_SLOW.format(slow_s=slow_s), 2, batches=60, workers=2, threads=1)

    assert speaks(a_worker_is_slow, lambda: play(0.033))
    assert misses(a_worker_is_slow, "SLOW_FACTOR", lambda: play(0.027))


def test_batches_that_never_fill_by_counters_alone(endpoint: Endpoint) -> None:
    """Two clients' requests are a batch, the whole of one that may be of two; never of one that may be of five."""

    def play(most: int) -> Facts:
        endpoint.play(advice.ECHO, 2, batches=110, max_batch_size=most, max_batch_delay_ms=5)
        return endpoint.counted()

    assert speaks(batches_never_fill, lambda: play(5))
    found = advise_endpoint(endpoint.served, 0.0)
    assert "batch-never-fills" in [finding.rule for finding in found.findings]
    assert found.requests >= 110
    assert misses(batches_never_fill, "FULL_SHARE", lambda: play(4), by=1.2)
    assert "batch-never-fills" not in [finding.rule for finding in advise_endpoint(endpoint.served, 0.0).findings]
    quiet = advise_endpoint(endpoint.served, 0.2)
    assert (quiet.requests, quiet.seconds) == (0, 0.2)


def test_memory_near_its_limit(endpoint: Endpoint) -> None:
    endpoint.play(advice.LARGE, batches=1)
    [worker] = endpoint.gateway.client.model("m").workers
    assert worker.rss_bytes is not None
    rss_bytes = worker.rss_bytes

    def play(share: float) -> Facts:
        endpoint.play(advice.LARGE, batches=1, max_rss_bytes=int(rss_bytes / share))
        return endpoint.counted()

    assert speaks(memory_is_short, lambda: play(0.95))
    assert "memory-near-limit" in [finding.rule for finding in advise_endpoint(endpoint.served, 0.0).findings]
    assert misses(memory_is_short, "MEMORY_SHARE", lambda: play(0.8))
