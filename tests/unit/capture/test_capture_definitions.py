"""Functions and classes of cells -> handler.py: what is served is what is live."""

# ruff: noqa: E501 - cells read better unbroken

from __future__ import annotations

from typing import Any

import pytest

from nbserve.errors import CaptureError, UsageError


def test_a_function_with_what_it_needs(notebook: Any) -> None:
    notebook.run(
        "import math\nfrom math import sqrt as root\nSCALE = 3\nNAMES = {'a': [1, (2,)], 'b': {4}}",
        "def helper(x):\n    return root(x) * SCALE\n",
        "def predict(batch):\n    return [helper(x) + math.floor(0.5) + len(NAMES['a']) for x in batch]",
    )
    captured = notebook.capture("predict")
    assert captured.kind == "function"
    assert captured.warnings == []
    how = {entry.name: (entry.how, entry.where, entry.chain) for entry in captured.entries}
    assert how == {
        "math": ("import", "In[1]", ("predict", "math")),
        "root": ("import", "In[1]", ("predict", "helper", "root")),
        "SCALE": ("source", "In[1]", ("predict", "helper", "SCALE")),
        "NAMES": ("source", "In[1]", ("predict", "NAMES")),
        "helper": ("source", "In[2]", ("predict", "helper")),
        "predict": ("source", "In[3]", ("predict",)),
    }
    assert "from math import sqrt as root" in captured.handler_source
    assert notebook.there("predict", 4, 9) == notebook.here("predict", 4, 9) == [8, 11]
    assert notebook.elsewhere("predict", 4, 9) == [8, 11]


def test_module_level_statements_are_not_copied(notebook: Any) -> None:
    notebook.run("print('training')\nN = 2\nN += 1\ndef predict(batch):\n    return [N for _ in batch]\npredict([1])\n")
    captured = notebook.capture("predict")
    assert "print" not in captured.handler_source
    assert "predict([1])" not in captured.handler_source
    assert notebook.there("predict", 0) == [3], "the live value, not the text of the first assignment"


def test_the_definition_that_is_live_is_taken(notebook: Any) -> None:
    notebook.run(
        "def f(x):\n    return x + 1\n",
        "def predict(batch):\n    return [f(x) for x in batch]\n",
        "kept = f\ndef f(x):\n    return x + 100\n",
        "f = kept",
    )
    assert notebook.there("predict", 1) == [2]
    notebook.run("def f(x):\n    return x + 100\n")
    assert notebook.there("predict", 1) == [101]


def test_recursion_and_cycles(notebook: Any) -> None:
    notebook.run(
        "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)\n"
        "def predict(batch):\n    return [even(n) for n in batch]"
    )
    assert notebook.there("predict", 4, 5) == [True, False]


def test_closures_become_factories(notebook: Any) -> None:
    notebook.run(
        "def make(scale, table):\n"
        "    def inner(x):\n"
        "        if x > 100:\n"
        "            return inner(x - 100)\n"
        "        return scale * x + table['k']\n"
        "    return inner\n",
        "f = make(3, {'k': 1})",
        "def predict(batch):\n    return [f(x) for x in batch]",
    )
    source = notebook.capture("predict").handler_source
    assert "f = _make_f(scale=3, table=f_table)" in source
    assert notebook.there("predict", 2, 102) == [7, 7]


def test_lambdas_and_their_places(notebook: Any) -> None:
    notebook.run(
        "k = 10\nfirst, second = lambda x: x + k, lambda x: x * k\n"
        "third = (lambda y:\n    lambda x: x - y)(3)\n"
        "def predict(batch, *, key=lambda x: -x):\n    return [key(third(second(first(x)))) for x in batch]"
    )
    assert notebook.there("predict", 1) == notebook.here("predict", 1) == [-107]


def test_defaults_are_those_of_the_live_function(notebook: Any) -> None:
    notebook.run("SCALE = 2\ndef f(x, scale=SCALE, *, seen=[], where='é'):\n    return [x * scale, len(seen), where]\n")
    notebook.run("SCALE = 50\nf.__defaults__[0]\nf.__kwdefaults__['seen'].append(1)")
    notebook.run("def predict(batch):\n    return [f(x) for x in batch]")
    assert notebook.there("predict", 3) == notebook.here("predict", 3) == [[6, 1, "é"]]


def test_defaults_over_many_lines_keep_their_lines(notebook: Any) -> None:
    notebook.run(
        "def shape():\n    return {'é': 1}\n",
        "def predict(batch, a=dict(\n    x=1,\n    y=shape(),\n), b='é', c=shape()):\n    # comment\n    return [1 / 0]\n",
    )
    bundle = notebook.bundle("predict")
    loaded = bundle.load()
    with pytest.raises(ZeroDivisionError) as caught:
        loaded.handler([1])
    frame = caught.traceback[-1]
    assert loaded.locate(str(frame.path), frame.lineno + 1) == "In[2], line 6"
    assert loaded.handler.__defaults__ == ({"x": 1, "y": {"é": 1}}, "é", {"é": 1})


def test_changed_defaults_are_refused(notebook: Any) -> None:
    notebook.run("def predict(batch, a=1):\n    return batch\npredict.__defaults__ = (1, 2)")
    with pytest.raises(CaptureError, match="defaults of predict"):
        notebook.capture("predict")


DECORATED = {
    "wraps": (
        "import functools\ndef twice(fn):\n    @functools.wraps(fn)\n    def wrapper(*args):\n"
        "        return [2 * each for each in fn(*args)]\n    return wrapper\n",
        "@twice\ndef predict(batch):\n    return batch\n",
    ),
    "bare": (
        "def twice(fn):\n    def wrapper(*args):\n        return [2 * each for each in fn(*args)]\n    return wrapper\n",
        "@twice\ndef predict(batch):\n    return batch\n",
    ),
    "with arguments": (
        "def times(n):\n    def deco(fn):\n        def wrapper(batch):\n            return [n * each for each in fn(batch)]\n"
        "        return wrapper\n    return deco\n",
        "@times(2)\ndef predict(batch):\n    return batch\n",
    ),
    "cache inside": (
        "from functools import lru_cache, cache\n@lru_cache(maxsize=3)\ndef slow(x):\n    return 2 * x\n@cache\ndef slower(x):\n    return slow(x)\n",
        "def predict(batch):\n    return [slower(x) for x in batch]\n",
    ),
    "no_grad": (
        "import torch\n@torch.no_grad()\ndef double(x):\n    assert not torch.is_grad_enabled()\n    return x * 2\n",
        "@torch.inference_mode()\ndef predict(batch):\n    return double(torch.tensor(batch)).tolist()\n",
    ),
    "stacked": (
        "import functools, torch\ndef twice(fn):\n    @functools.wraps(fn)\n    def wrapper(*args):\n"
        "        return [2 * each for each in fn(*args)]\n    return wrapper\n",
        "@torch.no_grad()\n@twice\ndef predict(batch):\n    return batch\n",
    ),
    "registry": (
        "STEPS = {}\ndef register(name):\n    def deco(fn):\n        STEPS[name] = fn\n        return fn\n    return deco\n",
        "@register('double')\ndef double(x):\n    return 2 * x\n",
        "def predict(batch):\n    return [STEPS['double'](x) for x in batch]\n",
    ),
    "attributes": (
        "def mark(fn):\n    fn.factor = 2\n    return fn\n",
        "@mark\ndef predict(batch):\n    return [predict.factor * x for x in batch]\n",
    ),
    "set later": ("def predict(batch):\n    return [predict.factor * x for x in batch]\n", "predict.factor = 2"),
    "context manager": (
        "from contextlib import contextmanager\n@contextmanager\ndef factor():\n    yield 2\n",
        "def predict(batch):\n    with factor() as f:\n        return [f * x for x in batch]\n",
    ),
    "singledispatch": (
        "import functools\n@functools.wraps(len)\ndef double(x):\n    return 2 * x\n",
        "def predict(batch):\n    return [double(x) for x in batch]\n",
    ),
}


@pytest.mark.parametrize("cells", DECORATED.values(), ids=DECORATED.keys())
def test_decorators(cells: tuple[str, ...], notebook: Any) -> None:
    notebook.run(*cells)
    assert notebook.there("predict", 1, 2) == notebook.here("predict", 1, 2) == [2, 4]
    assert notebook.capture("predict").live_only is False


def test_wrapping_after_the_definition_is_refused(notebook: Any) -> None:
    notebook.run(
        "import functools\ndef slow(x):\n    return x\nfast = functools.lru_cache(slow)",
        "def predict(batch):\n    return [fast(x) for x in batch]",
    )
    with pytest.raises(CaptureError, match=r"predict -> fast, In\[1\]"):
        notebook.capture("predict")


def test_classes_with_their_bases_and_attributes(notebook: Any) -> None:
    notebook.run(
        "from nbserve import Handler\nfrom abc import ABC, abstractmethod\nfrom dataclasses import dataclass, field\n"
        "from enum import Enum\nfrom typing import NamedTuple, Optional",
        "class Base(Handler, ABC):\n    factor: int = 2\n    @abstractmethod\n    def one(self, x): ...\n",
        "class Mode(Enum):\n    UP = 1\n    DOWN = -1\n",
        "@dataclass(slots=True)\nclass Config:\n    mode: Mode = Mode.UP\n    names: list[str] = field(default_factory=list)\n",
        "class Pair(NamedTuple):\n    a: int\n    b: Optional[int] = 5\n",
        "config = Config(names=['x'])\npair = Pair(1)",
        "class Main(Base):\n    offset = len('abc')\n    @property\n    def total(self):\n        return self.offset + pair.b\n"
        "    @staticmethod\n    def sign():\n        return config.mode.value\n    @classmethod\n    def twice(cls, x):\n"
        "        return cls.factor * x\n    def one(self, x):\n        return self.sign() * (self.twice(x) + self.total)\n"
        "    def inference(self, batch):\n        return [self.one(x) for x in batch]\n",
    )
    assert notebook.there("Main", 1, 2) == notebook.here("Main", 1, 2) == [10, 12]
    assert notebook.elsewhere("Main", 1, 2) == [10, 12]
    bundle = notebook.bundle("Main")
    assert type(bundle.load().module.config).__name__ == "Config"


def test_attributes_and_methods_set_after_the_class(notebook: Any) -> None:
    notebook.run(
        "class Main:\n    factor = 1\n    def inference(self, batch):\n        return [self.of(x) for x in batch]\n"
        "    def of(self, x):\n        return x * self.factor\n",
        "def better(self, x):\n    return x * self.factor + self.extra\nMain.of = better\nMain.factor = 7\nMain.extra = 1",
    )
    assert notebook.there("Main", 2) == notebook.here("Main", 2) == [15]


def test_data_made_in_a_class_body_is_a_value(notebook: Any) -> None:
    notebook.run(
        "import torch\ndef train():\n    return torch.nn.Linear(1, 1)\n",
        "class Main:\n    model = train()\n    size = torch.tensor([3.0])\n    def inference(self, batch):\n"
        "        return [float(self.model(torch.tensor([float(x)])) + self.size) for x in batch]\n",
    )
    captured = notebook.capture("Main")
    assert "train()" not in captured.handler_source
    assert captured.values.keys() == {"Main_model", "Main_size"}
    assert notebook.there("Main", 2) == notebook.here("Main", 2)


def test_an_instance_of_an_earlier_class_keeps_it(notebook: Any) -> None:
    notebook.run(
        "class Scale:\n    def __init__(self):\n        self.k = 2\n    def __call__(self, x):\n        return self.k * x\n",
        "scale = Scale()",
        "class Scale:\n    def __call__(self, x):\n        return 'the new one'\n",
        "new = Scale()\ndef predict(batch):\n    return [[scale(x), new(x), Scale.__name__] for x in batch]",
    )
    assert notebook.there("predict", 2) == notebook.here("predict", 2) == [[4, "the new one", "Scale"]]


def test_a_base_that_was_redefined_is_kept(notebook: Any) -> None:
    notebook.run(
        "class Base:\n    def factor(self):\n        return 2\n",
        "class Main(Base):\n    def inference(self, batch):\n        return [super(Main, self).factor() * x for x in batch]\n",
        "class Base:\n    pass\n",
    )
    assert notebook.there("Main", 2) == notebook.here("Main", 2) == [4]


def test_a_class_made_in_a_function(notebook: Any) -> None:
    notebook.run(
        "def make(factor):\n    class Main:\n        def inference(self, batch):\n            return [factor * x for x in batch]\n"
        "        def __init__(self):\n            super().__init__()\n    return Main\n",
        "Main = make(5)",
    )
    assert notebook.there("Main", 2) == [10]


def test_future_annotations_and_names_in_annotations(notebook: Any) -> None:
    notebook.run(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n",
        "class Later:\n    pass\n@dataclass\nclass Config:\n    other: Later | None = None\n    unknown: NotThere | None = None\n",
        "c = Config()\ndef predict(batch: list[int]) -> list[Later]:\n    return [c.other for _ in batch]",
    )
    captured = notebook.capture("predict")
    assert "from __future__ import annotations" in captured.handler_source
    assert "class Later" in captured.handler_source
    assert notebook.there("predict", 1) == [None]


def test_names_that_are_nowhere_are_warned_about(notebook: Any) -> None:
    notebook.run("def predict(batch):\n    if batch is None:\n        return missing(batch)\n    return batch")
    captured = notebook.capture("predict")
    assert [
        text for text in captured.warnings if "missing" in text and "predict -> missing" in text and "In[1]" in text
    ]
    assert notebook.there("predict", 3) == [3]


def test_global_statements_bring_their_value(notebook: Any) -> None:
    notebook.run("calls = 5\ndef predict(batch):\n    global calls\n    calls += 1\n    return [calls for _ in batch]")
    assert notebook.there("predict", 0) == [6]


def test_a_definition_inside_an_if_and_strings_over_lines(notebook: Any) -> None:
    notebook.run(
        "if True:\n    def predict(batch):\n        text = '''\n  kept\nas it is'''\n        return [text for _ in batch]\n",
        "class K:\n    doc = '''\n  two\n'''\n    def m(self):\n        return '''\n x\n''' + self.doc\nk = K()\nOld = K\nclass K: pass\n",
        "def second(batch):\n    return [k.m() for _ in batch]",
    )
    assert notebook.there("predict", 0) == notebook.here("predict", 0)
    assert notebook.there("second", 0) == notebook.here("second", 0)


def test_submodules_that_are_used_are_imported(notebook: Any) -> None:
    notebook.run(
        "import xml.dom.minidom\nimport concurrent.futures as cf\nimport os.path\nfrom xml import sax",
        "def predict(batch):\n    return [[xml.dom.minidom.parseString(x).documentElement.tagName, cf.thread.__name__,"
        " os.path.basename('a/b'), sax.__name__] for x in batch]",
    )
    assert notebook.elsewhere("predict", "<a/>") == [["a", "concurrent.futures.thread", "b", "xml.sax"]]


def test_containers_of_functions_and_classes(notebook: Any) -> None:
    notebook.run(
        "import math\nclass A:\n    v = 1\ndef inc(x):\n    return x + 1\nSTEPS = [inc, math.sqrt, {'c': (A, len)}]",
        "def predict(batch):\n    return [STEPS[1](STEPS[0](x)) + STEPS[2]['c'][0].v + STEPS[2]['c'][1]('ab') for x in batch]",
    )
    captured = notebook.capture("predict")
    assert captured.values == {}
    assert notebook.there("predict", 3) == [5]


def test_one_object_under_two_names(notebook: Any) -> None:
    notebook.run(
        "a = b = [1]\ndef f(): return 1\ng = f\ndef predict(batch):\n    b.append(g())\n    return [len(a) + f() for _ in batch]"
    )
    assert notebook.there("predict", 0) == [3]


def test_a_global_named_like_the_reader_of_values(notebook: Any) -> None:
    notebook.run(
        "import numpy as np\nvalue = 3\nweights = np.ones(2000)\ndef predict(batch):\n    return [value + float(weights.sum()) for _ in batch]"
    )
    assert notebook.there("predict", 0) == [2003.0]


def test_bodies_of_cell_magics_are_found(notebook: Any) -> None:
    notebook.run(
        "%%time\n\ndef f(x):\n    return x * 3\n",
        "%%capture out\nK = 4\ndef g(x):\n    return 1 / (x - x) if x > 10 else x + K\n",
        "def predict(batch):\n    return [g(f(x)) for x in batch]",
    )
    captured = notebook.capture("predict")
    assert {entry.name: entry.where for entry in captured.entries} == {
        "f": "In[1]", "g": "In[2]", "K": "In[2]", "predict": "In[3]",
    }  # fmt: skip
    loaded = captured.write(notebook.root / "b").load()
    assert loaded.handler([2]) == [10]
    with pytest.raises(ZeroDivisionError) as caught:
        loaded.handler([20])
    frame = caught.traceback[-1]
    assert loaded.locate(str(frame.path), frame.lineno + 1) == "In[2], line 4"


def test_cells_that_ran_before_anybody_listened_are_found(notebook: Any) -> None:
    notebook.shell.run_cell(
        "def f(x):\n    return x + 1\nclass A:\n    def m(self):\n        return 2\na = A()", store_history=True
    )
    notebook.run("def predict(batch):\n    return [f(x) + a.m() for x in batch]")
    assert notebook.there("predict", 1) == [4]


def test_async_functions_and_top_level_await(notebook: Any) -> None:
    notebook.run(
        "import asyncio\nawait asyncio.sleep(0)\nasync def f(x):\n    return x + 1\n",
        "class Main:\n    async def inference(self, batch):\n        return [await f(x) for x in batch]\n",
    )
    _, sample, _ = notebook.sample("Main", 1)
    assert sample.expected_body == b"2"
    assert "async def f" in notebook.capture("Main").handler_source


@pytest.mark.parametrize("expression", ["3", "Main()", "[1]"])
def test_other_targets_are_a_usage_error(expression: str, notebook: Any) -> None:
    notebook.run("class Main:\n    def inference(self, batch):\n        return batch\n")
    with pytest.raises(UsageError, match="cannot be served"):
        notebook.capture(expression)


def test_a_target_without_source_is_refused(notebook: Any) -> None:
    exec("def predict(batch):\n    return batch", notebook.ns)
    with pytest.raises(CaptureError, match="source was not found"):
        notebook.capture("predict")


def test_two_captures_are_equal(notebook: Any) -> None:
    notebook.run(
        "import torch\nwords = {'a', 'b', 'c', 'dd'}\nmodel = torch.nn.Linear(2, 2)\nbig = {str(i): i for i in range(1000)}",
        "def predict(batch):\n    return [sorted(words), big['1'], model]",
    )
    first = notebook.bundle("predict")
    notebook.run("1 + 1", "def predict(batch):\n    return [sorted(words), big['1'], model]")
    second = notebook.bundle("predict")
    assert (first.digest, first.path) == (second.digest, second.path)
    assert first.provenance.source_map != second.provenance.source_map
    notebook.run("with torch.no_grad():\n    model.weight[0, 0] += 1")
    third = notebook.bundle("predict")
    assert third.digest != first.digest
    assert third.path.is_dir()
    assert first.path.is_dir()
