"""Finding the bad rows of a batch that failed: which subsets to run again, and in what order.

Pure but for the runs themselves, which the caller (pipeline.py) performs. Two strategies:

each    every row alone: n runs of 1. For n rows exactly twice the work of the batch in items.
bisect  binary search for one bad row at a time; halves not needed for the search are put off and run together at the
        end. About log2(n) + 2 runs for one bad row, at most 3n items.

With s(b) = a + c*b, `each` is cheaper where c dominates (CPU models), `bisect` where a does (GPU models).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

__all__ = ["BatchFailed", "Pace", "isolate"]

T = TypeVar("T")
Run = Callable[[Sequence[int]], Generator[Any, Any, list[T]]]
"""Runs the rows with these indices together; raises BatchFailed where that fails."""


class BatchFailed(Exception):
    """Rows that were run together failed; `answer` is what to say where it was one row."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer


class Pace:
    """What a batch of b rows takes, from the last one seen of each size: a + c*b through the smallest and largest."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def record(self, size: int, seconds: float) -> None:
        """A batch that succeeded."""
        self._seconds[size] = seconds

    def bisect_is_cheaper(self, size: int) -> bool:
        """Whether bisecting `size` rows with one bad row is estimated to beat running each alone."""
        if len(self._seconds) < 2:
            return size > 8
        small, large = min(self._seconds), max(self._seconds)
        slope = max(0.0, (self._seconds[large] - self._seconds[small]) / (large - small))
        fixed = max(0.0, self._seconds[small] - slope * small)
        runs = math.log2(size) + 2
        # mean items of a bisection: the failing half of the searches is wasted
        return runs * fixed + 1.5 * size * slope < size * (fixed + slope)


def isolate(count: int, run: Run[T], pace: Pace) -> Generator[Any, Any, list[T]]:
    """Answers for rows 0..count-1, which failed together: good rows get theirs, each bad row its own error."""
    answers: dict[int, T] = {}
    todo = list(range(count))
    known_bad = True
    while todo:
        if not known_bad:
            try:
                found = yield from run(todo)
            except BatchFailed as failure:
                if len(todo) == 1:
                    answers[todo[0]] = failure.answer
                    break
            else:
                answers.update(zip(todo, found, strict=True))
                break
        if len(todo) > 1 and pace.bisect_is_cheaper(len(todo)):
            todo = yield from _find_one(todo, run, answers)
            known_bad = False
        else:
            for index in todo:
                answers[index] = yield from _alone(index, run)
            break
    return [answers[index] for index in range(count)]


def _find_one(suspects: list[int], run: Run[T], answers: dict[int, T]) -> Generator[Any, Any, list[int]]:
    """Binary search for one bad row among `suspects`; returns the rows that still need a run."""
    put_off: list[int] = []
    while len(suspects) > 1:
        middle = len(suspects) // 2
        left, right = suspects[:middle], suspects[middle:]
        try:
            found = yield from run(left)
        except BatchFailed as failure:
            put_off = right + put_off
            suspects = left
            if len(left) == 1:
                answers[left[0]] = failure.answer
                return sorted(put_off)
        else:
            answers.update(zip(left, found, strict=True))
            suspects = right
    answers[suspects[0]] = yield from _alone(suspects[0], run)
    return sorted(put_off)


def _alone(index: int, run: Run[T]) -> Generator[Any, Any, T]:
    try:
        (answer,) = yield from run([index])
    except BatchFailed as failure:
        found: T = failure.answer
        return found
    return answer
