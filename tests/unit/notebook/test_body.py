"""The cell's body runs as the cell's own code, and what is to be served is found in it. In a real IPython shell."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from nbserve.errors import UsageError
from nbserve.handler import Handler
from nbserve.notebook.await_body import make_transformer
from nbserve.notebook.body import CellSyntaxError, pick_handler, run_body
from nbserve.notebook.history import History


@pytest.fixture
def shell() -> Iterator[Any]:
    made = InteractiveShell.instance(
        config=Config({"HistoryManager": {"hist_file": ":memory:"}, "InteractiveShell": {"colors": "nocolor"}})
    )
    try:
        yield made
    finally:
        made.restore_sys_module_state()
        made.history_manager.end_session()
        InteractiveShell.clear_instance()


@pytest.fixture
def history(shell: Any) -> Iterator[History]:
    made = History(shell)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def trees(shell: Any, history: History) -> list[Any]:
    """Registers the magic with the body's part only; what it returned."""
    seen: list[Any] = []
    shell.register_magic_function(
        lambda line, cell: seen.append(run_body(shell, history, line, cell)), "cell", "serve_handler"
    )
    return seen


def test_the_body_is_the_cells_code_with_the_magic_as_line_1(
    shell: Any, history: History, trees: list[ast.Module]
) -> None:
    cell = "\n\n%%serve_handler digits --sample x\n\nclass A:\n    def inference(self, batch):\n        return batch\n"
    shell.run_cell(cell, store_history=True)
    cls = shell.user_ns["A"]
    code = cls.inference.__code__
    assert code.co_firstlineno == 6
    assert linecache.getline(code.co_filename, 6) == "    def inference(self, batch):\n"
    assert inspect.getsource(cls.inference) == "    def inference(self, batch):\n        return batch\n"
    assert history.cells.locate(code.co_filename, 7) == "In[1], line 7"
    assert history.cells.where("A") == "In[1]"
    found = history.cells.find_class(cls)
    assert found is not None
    assert found.text.startswith("class A:")
    assert [type(node) for node in trees[0].body] == [ast.ClassDef]


def test_magics_and_future_imports_work_in_the_body(shell: Any, history: History, trees: list[ast.Module]) -> None:
    shell.run_cell("%%serve_handler x\nfrom __future__ import annotations\nvalue = %pwd\n\ndef f(a: nobody): pass\n")
    assert isinstance(shell.user_ns["value"], str)
    assert shell.user_ns["f"].__annotations__ == {"a": "nobody"}
    shell.run_cell("def g(a: nobody): pass")
    assert shell.user_ns["g"].__annotations__ == {"a": "nobody"}


def test_errors_of_the_body_stop_the_cell_and_show_its_line(
    shell: Any, trees: list[ast.Module], capsys: pytest.CaptureFixture[str]
) -> None:
    result = shell.run_cell("%%serve_handler x\nvalue = 1\nvalue / 0\nvalue = 2\n", store_history=True)
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert shell.user_ns["value"] == 1
    shown = capsys.readouterr().out
    assert "line 3" in shown
    assert "run_body" not in shown
    assert trees == []


def test_a_syntax_error_is_a_usage_error_at_the_cells_line(shell: Any, trees: list[ast.Module]) -> None:
    result = shell.run_cell("%%serve_handler x\n\nx = (\n", store_history=True)
    error = result.error_in_exec
    assert isinstance(error, CellSyntaxError)
    assert "line 3" in error.message
    assert any("line 3" in line for line in error._render_traceback_())


def test_cells_from_before_are_taken_in_and_nested_cells_are_not_the_current_one(shell: Any) -> None:
    shell.run_cell("def early(): return 1", store_history=True)
    late = History(shell)
    late.start()
    try:
        found = late.cells.find(shell.user_ns["early"].__code__)
        assert found is not None
        assert found.cell.number == 1
        shell.user_ns["seen"] = seen = []
        shell.user_ns["current"] = lambda: seen.append(late.current)
        shell.run_cell("get_ipython().run_cell('inner = 1'); current()", store_history=True)
        assert seen[0] is not None
        assert seen[0].number == 2
        assert "current()" in seen[0].raw
        assert late.current is None
        assert late.cells.where("inner") == "In[2]"  # the cell that the user sees
    finally:
        late.stop()


class _Served(Handler):
    pass


class _Other:
    def inference(self, batch: Any) -> Any:
        return batch


class _Child(_Other):
    pass


class _Bare:
    pass


def _predict(batch: Any) -> Any:
    return batch


NAMESPACE = {
    "Served": _Served,
    "Other": _Other,
    "Child": _Child,
    "Bare": _Bare,
    "predict": _predict,
    "helper": _predict,
    "made": _Other(),
}


def defining(*names: str) -> ast.Module:
    """The tree of a cell that defines these."""
    kinds = {name: "class" if inspect.isclass(NAMESPACE[name]) else "def" for name in names}
    return ast.parse("\n".join(f"{kind} {name}{'()' * (kind == 'def')}: pass" for name, kind in kinds.items()))


@pytest.mark.parametrize(
    ("names", "wanted", "picked"),
    [
        (["Other"], None, "Other"),
        (["Bare", "Other"], None, "Other"),
        (["Other", "Served"], None, "Served"),
        (["Other", "Child"], None, "Child"),
        (["helper", "predict"], None, "predict"),
        (["predict", "Served"], None, "Served"),
        (["Other", "Served"], "Other", "Other"),
        ([], "made", "made"),
    ],
)
def test_what_is_picked(names: list[str], wanted: str | None, picked: str) -> None:
    assert pick_handler(defining(*names), NAMESPACE, wanted) == (picked, NAMESPACE[picked])


def test_definitions_under_conditions_count_and_those_in_functions_do_not() -> None:
    tree = ast.parse("if True:\n    class Other: pass\ntry:\n    pass\nexcept E:\n    def helper(): pass\n")
    assert pick_handler(tree, NAMESPACE)[0] == "Other"
    hidden = ast.parse("def helper():\n    class Other: pass\n")
    with pytest.raises(UsageError, match="found function helper"):
        pick_handler(hidden, NAMESPACE)


def test_a_module_class_is_told_how_it_is_served() -> None:
    class Net:
        def forward(self, x: Any) -> Any:
            return x

    with pytest.raises(UsageError) as caught:
        pick_handler(ast.parse("class Net: pass"), {"Net": Net})
    assert "%nbserve serve model" in caught.value.hint


def test_a_body_awaits_as_a_plain_cell_does(shell: Any, history: History) -> None:
    shell.register_magic_function(lambda line, cell: run_body(shell, history, line, cell), "cell", "serve_handler")
    shell.input_transformers_post.append(make_transformer(shell))
    cell = (
        "%%serve_handler waits\nimport asyncio\nresult = await asyncio.sleep(0, 5)\n"
        "def predict(batch):\n    return [result]"
    )
    assert isinstance(shell.run_cell(cell, store_history=True).result, ast.Module)
    predict = shell.user_ns["predict"]
    assert predict([1]) == [5]
    assert predict.__code__.co_firstlineno == 4
    failing = "%%serve_handler waits\nawait asyncio.sleep(0)\n1 / 0\ndef predict(batch):\n    return batch"
    failed: Any = shell.run_cell(failing, store_history=True).error_in_exec
    assert failed.__class__.__name__ == "ZeroDivisionError"
    shown = "\n".join(failed._render_traceback_())
    assert "1 / 0" in shown
    assert "_run_async" not in shown
    shell.autoawait = False  # as in a plain cell then: an error, at its line
    error = shell.run_cell(cell, store_history=True).error_in_exec
    assert isinstance(error, CellSyntaxError)
    assert "line 3" in error.message
