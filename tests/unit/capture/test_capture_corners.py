"""Corners of the walk that notebooks really have."""

# ruff: noqa: E501 - cells read better unbroken

from __future__ import annotations

from typing import Any

import pytest

from nbserve.errors import CaptureError

CORNERS = {
    "a method set on an instance": (
        "import types, torch\nmodel = torch.nn.Linear(1, 1)\ndef forward(self, x):\n    return x + self.in_features\n"
        "model.forward = types.MethodType(forward, model)",
        "def predict(batch):\n    return [float(model(torch.tensor([x * 1.0]))) for x in batch]",
    ),
    "a singleton on its class": (
        "class Config:\n    instance = None\n    def __init__(self):\n        self.k = 3\nConfig.instance = Config()",
        "def predict(batch):\n    return [Config.instance.k + x for x in batch]",
    ),
    "named tuples and generic aliases": (
        "from collections import namedtuple\nfrom typing import Optional\nPoint = namedtuple('Point', 'x y', defaults=[2])\n"
        "Vec = list[float]\nMaybe = Optional[int]\np = Point(1)\nmany = [p] * 3",
        "def predict(batch: Vec) -> Maybe:\n    return [p.y + x + many[1].x + len(Point._fields) for x in batch]",
    ),
    "lambdas in containers": (
        "k = 2\nFNS = {'a': lambda x: x + k, 'b': [lambda x: x * k]}",
        "def predict(batch):\n    return [FNS['b'][0](FNS['a'](x)) for x in batch]",
    ),
    "decorated methods": (
        "import functools\ndef plus(n):\n    def deco(fn):\n        @functools.wraps(fn)\n        def wrapper(self, *args):\n"
        "            return fn(self, *args) + n\n        return wrapper\n    return deco\n",
        "class Tool:\n    @plus(5)\n    def one(self, x):\n        return x\n    @functools.cached_property\n    def two(self):\n        return 2\n"
        "tool = Tool()\ntool.two",
        "def predict(batch):\n    return [tool.one(x) + tool.two for x in batch]",
    ),
    "hooks on a module": (
        "import torch\nmodel = torch.nn.Identity()\ndef hook(module, args, output):\n    return output + 1\nmodel.register_forward_hook(hook)",
        "def predict(batch):\n    return [float(model(torch.tensor(float(x)))) for x in batch]",
    ),
    "inheritance over cells with super": (
        "class A:\n    def f(self, x):\n        return x + 1\n",
        "class B(A):\n    def f(self, x):\n        return super().f(x) * 2\n",
        "class C(B):\n    pass\nc = C()",
        "def predict(batch):\n    return [c.f(x) for x in batch]",
    ),
    "a metaclass of the notebook": (
        "class Meta(type):\n    def __call__(cls, *args):\n        made = super().__call__(*args)\n        made.tag = cls.factor\n        return made\n",
        "class Main(metaclass=Meta):\n    factor = 4\n    def twice(self, x):\n        return self.tag * x\nmain = Main()",
        "def predict(batch):\n    return [main.twice(x) for x in batch]",
    ),
    "imports inside bodies and star imports": (
        "from math import *\n",
        "def predict(batch):\n    import json\n    from os.path import join\n    return [[floor(x), json.dumps(x), join('a', 'b')] for x in batch]",
    ),
    "partials and bound methods as globals": (
        "import functools\nclass A:\n    n = 2\n    def f(self, x):\n        return x * self.n\na = A()\nbound = a.f\ndef add(x, y):\n    return x + y\n"
        "plus = functools.partial(add, 10)",
        "def predict(batch):\n    return [plus(bound(x)) for x in batch]",
    ),
    "class attributes that are other globals": (
        "LABELS = ['a', 'b']\nclass Main:\n    labels = LABELS\n    def of(self, x):\n        LABELS.append('c')\n        return len(self.labels) + x\nmain = Main()",
        "def predict(batch):\n    return [main.of(x) for x in batch]",
    ),
    "type variables": (
        "from typing import Generic, TypeVar\nT = TypeVar('T')\nclass Box(Generic[T]):\n    def __init__(self, v: T) -> None:\n        self.v = v\nbox = Box(3)",
        "def predict(batch):\n    return [box.v + x for x in batch]",
    ),
    "a name that is a builtin's": (
        "def len(x):\n    return 100\nopen_too = open",
        "def predict(batch):\n    return [len(x) + max([1, 2]) + callable(open) for x in batch]",
    ),
    "generators, walrus and comprehensions": (
        "N = 3\ndef gen(n):\n    yield from (y := i for i in range(n)) if False else range(n)\n".replace(
            "(y := i for i in range(n)) if False else ", ""
        ),
        "def predict(batch):\n    return [sum(j * N for j in gen(total)) for x in batch if (total := x + N)]",
    ),
}


@pytest.mark.parametrize("cells", CORNERS.values(), ids=CORNERS.keys())
def test_the_captured_handler_answers_as_the_live_one(cells: tuple[str, ...], notebook: Any) -> None:
    notebook.run(*cells)
    there = notebook.there("predict", 1, 2)
    assert there == notebook.here("predict", 1, 2)


def test_the_cell_magic_that_serves_runs_its_body_under_the_cells_name(notebook: Any) -> None:
    """As `%%serve_handler` does: one compilation under the cell's own file name, lines as in the cell."""
    body = "import torch\nfrom nbserve import Handler\nmodel = torch.nn.Linear(1, 1)\n\nclass Main(Handler):\n    def inference(self, batch):\n        return [1 / 0 for _ in batch if torch.tensor(batch).sum() > 5] or [torch.tensor(1.0) for _ in batch]\n"
    cell = "%%nothing main\n" + body
    text = notebook.shell.transform_cell(cell)
    filename = notebook.shell.compile.get_code_name(cell, text, 4)
    source = "# %%nothing main\n" + notebook.shell.transform_cell(body)
    notebook.cells.add(4, text, filename)
    notebook.cells.add(4, source, filename)
    exec(compile(source, filename, "exec"), notebook.ns)
    captured = notebook.capture("Main")
    assert {entry.where for entry in captured.entries} == {"In[4]"}
    assert notebook.there("Main", 1) == [1.0]
    loaded = captured.write(notebook.root / "b").load()
    with pytest.raises(ZeroDivisionError) as caught:
        loaded.handler().inference([9])
    place = caught.traceback[-2] if caught.traceback[-1].name == "<listcomp>" else caught.traceback[-1]
    assert loaded.locate(str(place.path), place.lineno + 1) == "In[4], line 8"
    assert notebook.cells.locate(filename, 8) == "In[4], line 8"


def test_the_latest_number_of_a_cell_that_ran_twice_is_told(notebook: Any) -> None:
    cell = "def predict(batch):\n    return batch"
    notebook.run(cell, "1 + 1", cell)
    assert notebook.capture("predict").entries[-1].where == "In[3]"


def test_a_handler_of_an_installed_package_is_imported(notebook: Any) -> None:
    notebook.run("from json import JSONDecoder")
    captured = notebook.capture("JSONDecoder")
    assert "from json import JSONDecoder" in captured.handler_source


def test_a_rebound_function_calls_the_one_that_has_its_old_name_now(notebook: Any) -> None:
    notebook.run(
        "def fact(n):\n    return 1 if n < 2 else n * fact(n - 1)\nclass Base:\n    def up(self):\n        return Base.step + 1",
        "old, Old = fact, Base\ndef fact(n):\n    return -1\nclass Base:\n    step = 10",
        "def predict(batch):\n    return [[old(n), fact(n), Old().up(), old.__name__] for n in batch]",
    )
    assert notebook.here("predict", 3) == [[-3, -1, 11, "fact"]]
    assert notebook.there("predict", 3) == notebook.here("predict", 3)


def test_a_library_s_class_with_a_method_of_the_notebook_is_refused(notebook: Any, monkeypatch: Any) -> None:
    import torch

    notebook.run(
        "import torch\nnet = torch.nn.Sequential(torch.nn.ReLU())\ndef forward(self, x):\n    return x * 0",
        "def predict(batch):\n    return [net(torch.ones(1)).item() for _ in batch]",
    )
    monkeypatch.setattr(torch.nn.ReLU, "forward", notebook.ns["forward"])
    with pytest.raises(CaptureError, match=r"ReLU.forward was replaced by the notebook.*predict -> net -> ReLU"):
        notebook.capture("predict")


def test_class_variables_of_a_dataclass_are_as_they_are_now(notebook: Any) -> None:
    notebook.run(
        "from dataclasses import dataclass, field\nfrom typing import ClassVar\n"
        "@dataclass\nclass C:\n    x: int = 1\n    tags: list = field(default_factory=list)\n"
        "    y: int = field(default=4)\n    seen: ClassVar[dict] = {}",
        "C.seen[3] = 'three'",
        "def predict(batch):\n    return [[C.seen[3], C().x, C().y, C(tags=[n]).tags, C().tags] for n in batch]",
    )
    assert notebook.there("predict", 3) == notebook.here("predict", 3) == [["three", 1, 4, [3], []]]


def test_a_question_whether_this_is_a_notebook_is_answered_no(notebook: Any) -> None:
    notebook.run(
        "def here():\n    try:\n        get_ipython\n    except NameError:\n        return False\n    return True",
        "def predict(batch):\n    return [here() for _ in batch]",
    )
    captured = notebook.capture("predict")
    assert any("get_ipython is used in here (In[1])" in text for text in captured.warnings)
    assert notebook.elsewhere("predict", 1) == [False]
