"""Every rule of advice: what triggers it, and what lies within 20% of its threshold and must not.

The rules about a GPU have only ever seen these hand-built traces, in Kineto's format; those about the CPU are shown on
real handlers in tests/contract/test_http_advice.py, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from nbserve.config import ModelConfig
from nbserve.measure.advice import RULES, Facts, Finding, TraceFacts, WorkerFacts, advise
from nbserve.measure.advice.facts import facts_of_numbers, facts_of_profile
from nbserve.measure.advice.finding import LEVELS
from nbserve.measure.advice.reading import read_facts
from nbserve.measure.chrome import read_trace
from nbserve.wire.management import WorkerStatus
from nbserve.wire.numbers import Numbers
from nbserve.wire.profile import RequestSpan, WorkerShare
from tests.unit.measure.torch_traces import RawTrace, record

FACTS = Facts(config=ModelConfig(), requests=1000)


def said(facts: Facts) -> list[str]:
    return [finding.rule for finding in advise(facts)]


def traced(raw: RawTrace, batches: int = 1) -> Facts:
    """One batch of 1000 us after the other, as `raw` has them."""
    written = record({number: (1000.0 * number, 1000) for number in range(1, batches + 1)})
    return facts_of_profile(written, read_facts(read_trace(raw.packed, written)), Facts(config=ModelConfig()))


# --- a GPU, by hand-built traces ---


def kernels(short: int, long: int) -> RawTrace:
    """So many kernels of 3 and of 9 us; a launch takes 5."""
    raw = RawTrace()
    raw.batch(1, 0, 1000, inference=(0, 1000))
    for place in range(short + long):
        raw.launch("elementwise", place * 10.0, 3.0 if place < short else 9.0, launch_us=5.0)
    return raw


def busy(share: float, window: float = 1000) -> RawTrace:
    """A batch of 1000 us, at work for this share of the window, in two halves with a gap between."""
    raw = RawTrace()
    raw.batch(1, 0, 1000, inference=(0, 1000))
    if window > 1000:
        raw.batch(2, window - 1000, 1000, inference=(window - 1000, 1000))
    half = share * window / 2
    raw.launch("kernel", 0, half, launch_us=1, delay_us=0)
    raw.launch("kernel", window - half - 1, half, launch_us=1, delay_us=0)
    return raw


def product(kernel: str, us: float, other_us: float, **op: Any) -> RawTrace:
    raw = RawTrace()
    raw.batch(1, 0, 1000, inference=(0, 1000))
    raw.op("aten::mm", 0, 5, **({"shapes": [[8, 64], [64, 64]], "types": ["float", "float"]} | op))
    raw.launch(kernel, 1, us, launch_us=1, delay_us=0)
    raw.launch("elementwise", us + 10, other_us, launch_us=1, delay_us=0)
    return raw


def widths(odd: int, even: int, kind: str = "c10::Half") -> RawTrace:
    raw = RawTrace()
    raw.batch(1, 0, 1000, inference=(0, 1000))
    for place in range(odd + even):
        width = 1001 if place < odd else 1024
        raw.op("aten::addmm", place * 10, 5, [[width], [8, 512], [512, width], [], []], [kind] * 3 + ["Scalar"] * 2)
    raw.launch("sm80_xmma_gemm_f16f16", 1, 900, launch_us=1, delay_us=0)
    return raw


def waits(each: int) -> RawTrace:
    raw = RawTrace()
    raw.batch(1, 0, 1000, inference=(0, 1000))
    raw.launch("kernel", 0, 990, launch_us=1, delay_us=0)
    for place in range(each):
        raw.span("cuda_runtime", "cudaStreamSynchronize", 100.0 * place + 20, 50, {"pid": 4711, "tid": 4711})
    return raw


def copied(us: float, how: str = "Pageable -> Device") -> RawTrace:
    raw = RawTrace()
    raw.batch(1, 0, 1000, inference=(0, 1000))
    raw.launch("kernel", 0, 980, launch_us=1, delay_us=0)
    raw.launch(f"Memcpy HtoD ({how})", 5, us, call="cudaMemcpyAsync", cat="gpu_memcpy", stream=8, bytes=1_000_000)
    return raw


def made_on_cpu(batches: int, moved: int) -> RawTrace:
    """In so many of the batches a mask is made on the CPU, and moved; in the others on the GPU."""
    raw = RawTrace()
    for number in range(1, batches + 1):
        start = 1000.0 * number
        raw.batch(number, start, 1000, inference=(start, 1000))
        raw.launch("kernel", start, 980, launch_us=1, delay_us=0)
        raw.op("aten::ones", start + 10, 5)
        raw.op("aten::detach", start + 16, 1)
        raw.op("aten::to", start + 20, 40)
        raw.op("aten::_to_copy", start + 21, 38)
        if number <= moved:
            raw.launch(
                "Memcpy HtoD (Pinned -> Device)", start + 30, 2, call="cudaMemcpyAsync", cat="gpu_memcpy", stream=8
            )
    return raw


SINGLE = "ampere_sgemm_128x64_tn"
ON_TENSOR_CORES = (
    "sm80_xmma_gemm_f16f16_f16f32",
    "ampere_h16816gemm_128x64",
    "nvjet_hsh_128x256_64x4",
    "cutlass_80_tensorop_s1688gemm",
    "turing_fp16_s884cudnn_fp16_128x128",
    "sm90_xmma_fprop_implicit_gemm_tf32f32",
)


@pytest.mark.parametrize(
    ("rule", "triggers", "does_not"),
    [
        ("launch-bound", traced(kernels(50, 50)), traced(kernels(45, 55))),
        ("gpu-idle-gaps", traced(busy(0.58)), traced(busy(0.65))),
        ("low-utilization", traced(busy(0.45, 3000), 3), traced(busy(0.55, 3000), 3)),
        ("tensor-cores-unused", traced(product(SINGLE, 110, 890)), traced(product(SINGLE, 90, 890))),
        ("dims-unaligned", traced(widths(25, 75)), traced(widths(21, 79))),
        ("device-syncs", traced(waits(3)), traced(waits(2))),
        ("pageable-copies", traced(copied(55)), traced(copied(45))),
        ("created-then-moved", traced(made_on_cpu(5, 5), 5), traced(made_on_cpu(5, 4), 5)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_rules_about_a_gpu(rule: str, triggers: Facts, does_not: Facts) -> None:
    [finding] = [finding for finding in advise(triggers) if finding.rule == rule]
    beyond = finding.value <= finding.threshold if rule == "low-utilization" else finding.value >= finding.threshold
    assert beyond
    assert rule not in said(does_not)
    assert rule not in said(replace(triggers, trace=replace(triggers.trace or TraceFacts(), has_gpu=False)))


def test_what_is_on_tensor_cores_is_known_by_its_kernels() -> None:
    for kernel in ON_TENSOR_CORES:
        assert "tensor-cores-unused" not in said(traced(product(kernel, 900, 90)))
    for kernel in (SINGLE, "implicit_convolve_sgemm", "cutlass_80_simt_sgemm_256x128"):
        [finding] = [one for one in advise(traced(product(kernel, 900, 90))) if one.rule == "tensor-cores-unused"]
        assert "set_float32_matmul_precision" in finding.todo


def test_widths_that_matter_are_those_of_the_model_and_its_type() -> None:
    assert "dims-unaligned" not in said(traced(widths(10, 0, kind="double")))
    assert "multiple" in advise(traced(widths(10, 0)))[0].what
    assert "[8, 512] x [512, 1001]" in advise(traced(widths(10, 0)))[0].what
    odd_batch = product("sm80_xmma_gemm", 900, 90, shapes=[[7, 64], [64, 64]], types=["c10::Half"] * 2)
    assert "dims-unaligned" not in said(traced(odd_batch))
    multiple_of_four = product("sm80_xmma_gemm_tf32", 900, 90, shapes=[[8, 60], [60, 60]])
    assert "dims-unaligned" not in said(traced(multiple_of_four))
    pictures = RawTrace()
    pictures.batch(1, 0, 1000, inference=(0, 1000))
    pictures.op("aten::cudnn_convolution", 0, 5, [[8, 3, 224, 224], [64, 3, 7, 7]], ["c10::Half"] * 2)
    pictures.launch("xmma_fprop", 1, 900, launch_us=1, delay_us=0)
    assert "dims-unaligned" not in said(traced(pictures))


def test_the_longest_gap_is_one_within_a_batch() -> None:
    facts = traced(busy(0.1)).trace
    assert facts is not None
    assert facts.longest_gap_us == pytest.approx(899, abs=0.1)
    apart = traced(busy(0.1, 3000), 3).trace
    assert apart is not None
    assert apart.longest_gap_us == 0, "one span in each batch: between them nobody waits"


def test_pinned_copies_are_fine() -> None:
    assert "pageable-copies" not in said(traced(copied(500, "Pinned -> Device")))


# --- time in the worker ---


def stages(**shares: float) -> Facts:
    """Of 100 s in the worker; what is not named went to inference."""
    rest = 1 - sum(shares.values())
    return replace(FACTS, stages_s={"inference": 100 * rest} | {stage: 100 * share for stage, share in shares.items()})


def python_share(share: float) -> Facts:
    return replace(FACTS, trace=TraceFacts(batches=1, inference_us=1000, inference_op_us=1000 * (1 - share)))


def threads(count: int, cores: int = 4) -> Facts:
    return replace(
        FACTS, workers=[WorkerFacts(id=0, cores=cores, threads=count), WorkerFacts(id=1, cores=4, threads=1)]
    )


def padded(waste: float, lengths: int = 5) -> Facts:
    return replace(FACTS, body_waste=waste, trace=TraceFacts(batches=9, padded_lengths=lengths))


def delay(share: float, size: int = 1, delay_ms: float = 5.0) -> Facts:
    config = ModelConfig(max_batch_delay_ms=delay_ms)
    return replace(FACTS, config=config, batch_sizes={size: 50}, stages_s={"batch": share, "inference": 1 - share})


def filled(largest: int, most: int = 32) -> Facts:
    return replace(FACTS, config=ModelConfig(max_batch_size=most), batch_sizes={1: 100, largest: 1})


def paces(*seconds: float) -> Facts:
    workers = [WorkerFacts(id=number, batches=50, requests=100, seconds=each) for number, each in enumerate(seconds)]
    return replace(FACTS, workers=workers)


def memory(used: float) -> Facts:
    config = ModelConfig(max_rss_bytes=1_000_000_000)
    return replace(FACTS, config=config, workers=[WorkerFacts(id=0, rss_bytes=int(used * 1e9))])


def machine(available: int) -> Facts:
    return replace(FACTS, total_bytes=100, available_bytes=available)


@pytest.mark.parametrize(
    ("rule", "triggers", "does_not"),
    [
        ("preprocess-bound", stages(preprocess=0.42, decode=0.3), stages(preprocess=0.38, decode=0.35)),
        ("preprocess-bound", stages(preprocess=0.5), stages(preprocess=0.45)),
        ("python-bound", python_share(0.55), python_share(0.45)),
        ("oversubscribed-threads", threads(5), threads(4)),
        ("json-dominated", stages(decode=0.2, encode=0.12), stages(decode=0.15, encode=0.12)),
        ("padding-waste", padded(0.32), padded(0.28)),
        ("batch-delay-costs", delay(0.22), delay(0.18)),
        ("batch-never-fills", filled(14), filled(17)),
        ("slow-worker", paces(1.0, 1.1, 1.7), paces(1.0, 1.1, 1.4)),
        ("memory-near-limit", memory(0.95), memory(0.85)),
        ("memory-near-limit", machine(8), machine(12)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_rules_about_time_and_memory(rule: str, triggers: Facts, does_not: Facts) -> None:
    [finding] = [finding for finding in advise(triggers) if finding.rule == rule]
    if rule != "batch-never-fills":
        assert finding.value >= finding.threshold
    assert rule not in said(does_not)


def test_what_would_only_look_like_it() -> None:
    assert said(FACTS) == []
    assert said(replace(stages(decode=0.9), requests=5)) == [], "too few to tell"
    assert said(delay(0.5, size=3)) == ["batch-never-fills"] or said(delay(0.5, size=3)) == []
    assert "batch-delay-costs" not in said(delay(0.5, delay_ms=0.0))
    assert said(padded(0.5, lengths=1)) == [], "all batches had one length: nothing is padded to the longest of a batch"
    assert said(paces(1.0)) == []
    few = [WorkerFacts(id=0, batches=5, seconds=9.0), WorkerFacts(id=1, batches=50, seconds=1.0)]
    assert said(replace(FACTS, workers=few)) == []
    assert said(python_share(0.0)) == []
    assert said(replace(FACTS, trace=TraceFacts(batches=1, inference_us=1000))) == [], "a handler without operators"


def test_every_rule_says_its_number_its_source_and_what_to_do() -> None:
    everything = [
        traced(kernels(50, 50)), traced(busy(0.1)), traced(busy(0.1, 3000), 3), traced(product("sgemm", 900, 9)),
        traced(widths(9, 0)), traced(waits(9)), traced(copied(500)), traced(made_on_cpu(2, 2), 2),
        stages(preprocess=0.9), python_share(0.9),
        threads(64), stages(decode=0.9), padded(0.9), delay(0.9), filled(2), paces(1, 9), memory(0.99),
    ]  # fmt: skip
    found: dict[str, Finding] = {}
    for facts in everything:
        found |= {finding.rule: finding for finding in advise(facts)}
    assert len(found) == len(RULES) == 17
    for finding in found.values():
        assert any(character.isdigit() for character in finding.what), finding
        assert min(map(len, (finding.why, finding.todo, finding.source))) > 20
        assert finding.level in LEVELS
    order = [LEVELS.index(finding.level) for finding in advise(replace(filled(2), stages_s={"decode": 1.0}))]
    assert order == sorted(order) == [0, 1]


# --- where facts come from ---


def numbers(requests: int, decode_s: float, workers: list[WorkerStatus]) -> Numbers:
    return Numbers(
        name="m", version="1", state="READY", default=True, at=0.0, requests={"200": requests}, latency_bounds_s=[],
        latency_counts=[], stages_s={"decode": decode_s, "queue": 1.0}, batch_sizes={"1": requests, "4": 2},
        queue_items=0, queue_bytes=0,
        workers=workers, handler=[],
    )  # fmt: skip


def worker(pid: int, cpu_s: float, batches: int) -> WorkerStatus:
    return WorkerStatus(
        id=0,
        state="READY",
        pid=pid,
        cores=[0, 1],
        threads=2,
        cpu_s=cpu_s,
        batches=batches,
        rss_bytes=5,
        device="cuda:0",
    )


def test_counters_are_read_as_differences() -> None:
    before = numbers(10, 1.0, [worker(7, 2.0, 100)])
    now = numbers(50, 4.0, [worker(7, 3.5, 160)])
    facts = facts_of_numbers(now, before, ModelConfig(), {"available_bytes": 3, "total_bytes": 9})
    assert (facts.requests, facts.stages_s["decode"], facts.batch_sizes) == (40, 3.0, {1: 40})
    assert facts.workers == [WorkerFacts(id=0, batches=60, seconds=1.5, cores=2, threads=2, rss_bytes=5)]
    assert (facts.available_bytes, facts.total_bytes, facts.device) == (3, 9, "cuda:0")
    anew = facts_of_numbers(numbers(50, 4.0, [worker(8, 0.5, 20)]), before, ModelConfig())
    assert (anew.workers[0].batches, anew.workers[0].seconds) == (20, 0.5), "another process: its counters began anew"
    alone = facts_of_numbers(now, None, ModelConfig())
    assert (alone.requests, alone.batch_sizes, alone.workers[0].batches) == (50, {1: 50, 4: 2}, 160)


def test_a_profile_counts_without_those_who_waited_for_the_profiler() -> None:
    written = record({1: (1000, 100), 2: (2000, 100)})
    facts = facts_of_profile(written, TraceFacts(), Facts(config=ModelConfig()))
    assert facts.requests == 1, "the first request came before the first batch began"
    assert facts.stages_s["queue"] == pytest.approx(200e-6)
    assert facts.stages_s["batch"] == pytest.approx(50e-6)
    assert facts.stages_s["inference"] == pytest.approx(1e-4)
    assert facts.batch_sizes == {1: 2}
    only = record({1: (1000, 100)})
    assert facts_of_profile(only, TraceFacts(), Facts(config=ModelConfig())).requests == 1


def test_waste_is_what_bodies_leave_empty_and_workers_are_those_of_the_profile() -> None:
    clock = record({}).clock.monotonic_s
    bodies = {1: [100, 50], 2: [100, 100], 3: [70]}
    requests = [
        RequestSpan("r", number, clock, clock, clock, clock, size, 200)
        for number, sizes in bodies.items()
        for size in sizes
    ]
    written = record({}, requests=requests, shares=[WorkerShare(0, 30, 40, 1.5), WorkerShare(1, 20, 20, 1.0)])
    status = msgspec.structs.replace(written.status, worker=1)
    written = msgspec.structs.replace(written, status=status, worker=msgspec.structs.replace(written.worker, threads=9))
    around = Facts(
        config=ModelConfig(), workers=[WorkerFacts(id=0, cores=2, threads=2), WorkerFacts(id=1, cores=2, threads=2)]
    )
    facts = facts_of_profile(written, TraceFacts(), around)
    assert facts.body_waste == pytest.approx(50 / 400)
    assert [(one.id, one.requests, one.seconds, one.threads) for one in facts.workers] == [
        (0, 40, 1.5, 2),
        (1, 20, 1.0, 9),
    ]


def test_lengths_are_seen_in_the_shapes_of_the_first_input() -> None:
    raw = RawTrace()
    for number, length in enumerate((7, 12, 12), 1):
        start = 1000.0 * number
        raw.batch(number, start, 900, inference=(start + 10, 800))
        raw.op("aten::empty", start + 11, 1, [[], []])
        raw.op("aten::embedding", start + 20, 5, [[1000, 64], [4, length]])
        raw.op("aten::linear", start + 30, 5, [[4, length, 64], [64, 64]])
        raw.op("aten::mul", start + 40, 5, [[4, 1], [4, 1]])
    written = record({number: (1000.0 * number, 900) for number in (1, 2, 3)})
    assert read_facts(read_trace(raw.packed, written)).padded_lengths == 2, "an embedding's first input is its table"
    same = RawTrace()
    for number in (1, 2, 3):
        same.batch(number, 1000.0 * number, 900, inference=(1000.0 * number + 10, 800))
        same.op("aten::linear", 1000.0 * number + 30, 5, [[number, 64], [64, 64]])
    assert read_facts(read_trace(same.packed, written)).padded_lengths == 1, "batches may differ in size"
