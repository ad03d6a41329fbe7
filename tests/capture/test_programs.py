"""Programs of interdependent cells, made by Hypothesis: the captured handler answers as the live one does."""

# ruff: noqa: E501 - cells read better unbroken

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.capture.corpus import Cell, Notebook
from tests.capture.outcome import Processes, play

EXAMPLES = 10
INPUTS = ("3", "-2", "11")


class Program:
    """Cells that define numbered things, each only by things of lower numbers: whatever runs, ends."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.cells: list[str] = []
        self._kinds: dict[int, str] = {}

    def grow(self) -> None:
        """One more cell."""
        moves = ["constant", "numbers", "function", "closure", "class", "table", "default", "wrapped", "partial"]
        if self._kinds:
            moves += ["again", "rerun", "append", "patch", "alias", "delete"]
        getattr(self, "_" + self._draw(st.sampled_from(moves)))()

    def _new(self, kind: str) -> int:
        self._kinds[len(self._kinds)] = kind
        return len(self._kinds) - 1

    def _some(self, below: int, *kinds: str) -> int | None:
        able = [number for number, kind in self._kinds.items() if number < below and kind in kinds]
        return self._draw(st.sampled_from(able)) if able else None

    def _term(self, below: int) -> str:
        number = self._some(below, *_USES)
        return _USES[self._kinds[number]].format(n=number) if number is not None else "x + 1"

    def _expression(self, below: int) -> str:
        terms = [self._term(below) for _ in range(self._draw(st.integers(1, 3)))]
        return f"({' + '.join(terms)}) % 1009"

    def _constant(self) -> None:
        self.cells.append(f"v{self._new('constant')} = {self._draw(st.integers(-9, 99))}")

    def _numbers(self) -> None:
        values = self._draw(st.lists(st.integers(-5, 5), max_size=3))
        inner = self._some(len(self._kinds), "numbers")
        both = f"{values!r}" if inner is None else f"[*{values!r}, len(v{inner})]"
        self.cells.append(f"v{self._new('numbers')} = {both}")

    def _function(self, number: int | None = None) -> None:
        n = self._new("function") if number is None else number
        self.cells.append(f"def v{n}(x):\n    return {self._expression(n)}")

    def _default(self) -> None:
        n = self._new("function")
        self.cells.append(f"def v{n}(x, d={self._term(n).replace('x', '2')}, *, e=[1]):\n    return x + d + len(e)")

    def _closure(self) -> None:
        n = self._new("function")
        held = self._term(n).replace("x", "4")
        self.cells.append(
            f"def make_{n}(held):\n    def inner(x):\n        return (held * x + {self._term(n)}) % 1009\n    return inner\n"
            f"v{n} = make_{n}({held})"
        )

    def _wrapped(self) -> None:
        n = self._new("function")
        self.cells.append(
            f"import functools\ndef deco_{n}(f):\n    seen = []\n    @functools.wraps(f)\n    def inner(x):\n"
            f"        seen.append(x)\n        return f(x) + len(seen)\n    return inner\n"
            f"@deco_{n}\ndef v{n}(x):\n    return {self._expression(n)}\nv{n}(1)"
        )

    def _partial(self) -> None:
        inner = self._some(len(self._kinds), "function")
        if inner is not None:
            n = self._new("thunk")
            self.cells.append(
                f"from functools import partial\nv{n} = partial(v{inner}, {self._draw(st.integers(0, 9))})"
            )

    def _class(self) -> None:
        base = self._some(len(self._kinds), "class")
        n = self._new("class")
        above = f"(v{base})" if base is not None else ""
        other = " + super().go(x)" if base is not None else ""
        self.cells.append(
            f"class v{n}{above}:\n    k = {self._draw(st.integers(0, 9))}\n    def go(self, x):\n"
            f"        return ({self._expression(n)} + self.k{other}) % 1009"
        )

    def _table(self) -> None:
        inner = self._some(len(self._kinds), "function")
        if inner is not None:
            n = self._new("table")
            self.cells.append(f"v{n} = {{'f': v{inner}, 'n': [{self._term(n).replace('x', '1')}]}}")

    def _again(self) -> None:
        """A name bound anew: what was built with the old one keeps it."""
        number = self._some(len(self._kinds), "function")
        if number is not None:
            self._function(number)

    def _rerun(self) -> None:
        if self.cells:
            self.cells.append(self._draw(st.sampled_from(self.cells)))

    def _append(self) -> None:
        number = self._some(len(self._kinds), "numbers")
        if number is not None:
            self.cells.append(f"v{number}.append({self._draw(st.integers(0, 9))})")

    def _patch(self) -> None:
        number = self._some(len(self._kinds), "class")
        function = self._some(number, "function") if number is not None else None
        if function is not None:
            self.cells.append(f"v{number}.go = lambda self, x, f=v{function}: f(x) + self.k\nv{number}.k = 7")

    def _alias(self) -> None:
        number = self._some(len(self._kinds), "function", "numbers", "class")
        if number is not None:
            self.cells.append(f"v{self._new(self._kinds[number])} = v{number}")

    def _delete(self) -> None:
        """Used by name elsewhere, it is a NameError in both; kept in a table or a closure it lives on."""
        number = self._some(len(self._kinds), "function")
        table = self._some(len(self._kinds), "table")
        if number is not None and table is not None:
            self.cells.append(f"v{table}['kept'] = v{number}\ndel v{number}")
            self._kinds[number] = "gone"

    def handler(self) -> str:
        """The last cell."""
        terms = [use.format(n=number) for number, kind in self._kinds.items() if (use := _USES.get(kind))]
        shown = ", ".join(terms[-8:]) or "x"
        return f"%%serve_handler program --sample 3\ndef predict(batch):\n    return [[{shown}] for x in batch]\n"


_USES = {
    "constant": "v{n}",
    "numbers": "sum(v{n})",
    "function": "v{n}(x)",
    "class": "v{n}().go(x)",
    "thunk": "v{n}()",
    "table": "v{n}['f'](x)",
}


@st.composite
def programs(draw: st.DrawFn) -> list[str]:
    """Cells, the handler's last."""
    program = Program(draw)
    for _ in range(draw(st.integers(2, 14))):
        program.grow()
    return [*program.cells, program.handler()]


def test_captured_and_live_answers_are_equal(processes: Processes, tmp_path_factory: object) -> None:
    import tempfile

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(cells=programs())
    def check(cells: list[str]) -> None:
        made = tuple(Cell(each) for each in cells)
        notebook = Notebook("program", "language", "made", made, tuple(range(1, len(made) + 1)), INPUTS)
        with tempfile.TemporaryDirectory(prefix="nbs-program-") as folder:
            outcome = play(notebook, processes, Path(folder))
        broken = "the handler failed on the sample: NameError" in outcome.text  # in the notebook: a name was deleted
        assert outcome.verdict == "served" or broken, "\n# %%\n".join([outcome.text, *cells])

    check()
