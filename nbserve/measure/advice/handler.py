"""Rules about what a handler does with its time, on any device. Pure."""

from __future__ import annotations

from nbserve.measure.advice.facts import Facts
from nbserve.measure.advice.finding import Finding

__all__ = ["inference_is_python", "json_dominates", "padding_is_wasted", "preprocess_dominates", "threads_are_too_many"]

FEW_REQUESTS = 20
"""Fewer tell nothing of shares."""

PREPROCESS_SHARE = 0.4


def preprocess_dominates(facts: Facts) -> Finding | None:
    """Preprocessing takes two fifths of the worker's time or more, and as much as the model itself."""
    share = _share(facts, "preprocess")
    if share < PREPROCESS_SHARE or facts.stages_s.get("preprocess", 0.0) < facts.stages_s.get("inference", 0.0):
        return None
    return Finding(
        rule="preprocess-bound",
        level="warning",
        what=f"preprocess takes {share:.0%} of the worker's time, inference {_share(facts, 'inference'):.0%}",
        why="a faster model or device would not make it faster",
        todo="work on the whole batch at once instead of row by row (one torch.stack, one call of a fast tokenizer for "
        "all rows), or use more workers (--workers)",
        value=share,
        threshold=PREPROCESS_SHARE,
        source="Amdahl's law: at two fifths, no improvement of the model makes the worker 2.5 times as fast",
    )


PYTHON_SHARE = 0.5


def inference_is_python(facts: Facts) -> Finding | None:
    """Half of inference passes outside of any operator. Needs a profile with torch."""
    trace = facts.trace
    if trace is None or not trace.inference_us or not trace.inference_op_us:
        return None
    share = 1 - trace.inference_op_us / trace.inference_us
    if share < PYTHON_SHARE:
        return None
    return Finding(
        rule="python-bound",
        level="warning",
        what=f"{share:.0%} of inference passes in Python, between operators",
        why="more threads or a faster device do not help: Python runs one line after the other",
        todo="replace loops over rows by operators on the batch; torch.compile(model) takes Python out of the rest; "
        "more workers use more cores (--workers)",
        value=share,
        threshold=PYTHON_SHARE,
        source="Amdahl's law: infinitely fast operators would make it at most twice as fast",
    )


THREADS_PER_CORE = 1.0


def threads_are_too_many(facts: Facts) -> Finding | None:
    """A worker computes with more threads than it has cores."""
    over = [worker for worker in facts.workers if worker.cores and worker.threads > worker.cores * THREADS_PER_CORE]
    if not over:
        return None
    worst = max(over, key=lambda worker: worker.threads / worker.cores)
    return Finding(
        rule="oversubscribed-threads",
        level="warning",
        what=f"worker {worst.id} computes with {worst.threads} threads on {worst.cores} cores",
        why="threads that wait for each other at the end of each operator wait for one that is not running",
        todo="leave torch.set_num_threads to nbserve (--threads), or give it no more than the worker has cores",
        value=worst.threads / worst.cores,
        threshold=THREADS_PER_CORE,
        source="PyTorch, 'CPU threading and TorchScript inference', on oversubscription: no more threads than cores",
    )


JSON_SHARE = 0.3


def json_dominates(facts: Facts) -> Finding | None:
    """Decoding bodies and encoding answers take three tenths of the worker's time."""
    share = _share(facts, "decode") + _share(facts, "encode")
    if share < JSON_SHARE:
        return None
    return Finding(
        rule="json-dominated",
        level="warning",
        what=f"decoding requests and encoding answers take {share:.0%} of the worker's time",
        why="numbers as text are many times as long as their bytes, and are read digit by digit",
        todo="send bytes: application/octet-stream with a handler that takes numpy arrays (docs/handlers.md), or an "
        "image as its file; answer with less: the best class instead of all probabilities",
        value=share,
        threshold=JSON_SHARE,
        source="Amdahl's law: above it, free decoding would make the worker 1.4 times as fast",
    )


PADDING_WASTE = 0.3


def padding_is_wasted(facts: Facts) -> Finding | None:
    """Batches are padded to their longest request, and three tenths of them are padding. Needs --shapes.

    How long requests are is told by their bodies; that batches are padded each on its own, by the shapes of inputs.
    """
    trace = facts.trace
    if trace is None or trace.padded_lengths < 2 or facts.body_waste < PADDING_WASTE:
        return None
    return Finding(
        rule="padding-waste",
        level="warning",
        what=f"about {facts.body_waste:.0%} of what the model computes is padding: requests of different length share "
        f"batches ({trace.padded_lengths} lengths were seen)",
        why="each row of a batch costs as much as the longest one",
        todo="sort long and short requests to different endpoints, bound the length in preprocess, or use a model that "
        "takes nested tensors or packed sequences",
        value=facts.body_waste,
        threshold=PADDING_WASTE,
        source="our choice; Krell et al. 2021 (arXiv:2107.02027) found up to half of a BERT batch to be padding",
    )


def _share(facts: Facts, stage: str) -> float:
    """Of the worker's time; 0 where there were too few requests to tell."""
    if facts.requests < FEW_REQUESTS or not facts.worker_s:
        return 0.0
    return facts.stages_s.get(stage, 0.0) / facts.worker_s
