"""The sample run in the notebook."""

# ruff: noqa: E501 - cells read better unbroken

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest
import torch

from nbserve.bundle import compare
from nbserve.errors import HandlerError
from nbserve.handler import Context
from nbserve.pipeline import Item, Pipeline

MODEL = """
import os, random
import numpy as np
import torch
from torch import nn
model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
table = np.arange(3.0)
"""


def test_the_worker_answers_as_the_notebook_did(notebook: Any) -> None:
    notebook.run(
        MODEL,
        "class Noisy:\n    def initialize(self, context):\n        self.model = model.eval()\n        self.bias = random.random()\n"
        "    def inference(self, batch):\n        noise = np.random.rand() + random.random() + float(torch.rand(1))\n"
        "        return self.model(torch.tensor(batch)) + noise\n",
    )
    captured, sample, warnings = notebook.sample("Noisy", torch.ones(3))
    assert warnings == []
    assert sample.body == b"[1.0,1.0,1.0]"
    bundle = captured.write(notebook.root / "b", sample)
    loaded = bundle.load()
    pipeline = Pipeline(loaded.handler, Context(name="x"))
    pipeline.initialize()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    (answer,) = pipeline.run([Item(bundle.sample.body, bundle.sample.content_type)]).answers
    difference = compare(bundle.sample, answer.content_type, answer.body)
    assert difference.equal, difference.text


def test_files_that_the_handler_opens_are_told(notebook: Any) -> None:
    notebook.run(
        "import json\nwith open('labels.json', 'w') as out:\n    out.write('[1, 2]')\n",
        "import os\nos.makedirs('pack', exist_ok=True)\nopen('pack/__init__.py', 'w').close()\n"
        "with open('pack/data.txt', 'w') as out:\n    out.write('x')\n",
        "async def predict(batch):\n    with open('labels.json') as file, open('pack/data.txt') as other, open('new.txt', 'w'):\n"
        "        return [json.load(file)[0] for _ in batch]\n",
    )
    _, _, warnings = notebook.sample("predict", 1)
    assert len(warnings) == 1
    assert "opened labels.json (6 bytes), which is not part of the bundle" in warnings[0]


def test_files_that_nbserve_opens_meanwhile_are_not_the_handlers(notebook: Any) -> None:
    """A dashboard reads the manifest and the like of what is served, in a thread; here the handler waits for one."""
    notebook.run(
        "import threading, json, numpy\nfrom functools import partial\nfrom pathlib import Path\n"
        "from nbserve.bundle.values import read_manifest\n"
        "folder = Path('served')\nfolder.mkdir()\n(folder / 'manifest.json').write_text('{}')\n"
        "numpy.save('mine.npy', numpy.ones(2))\n",
        "def look():\n    try:\n        read_manifest(folder)\n    except Exception:\n        pass\n",
        "load = partial(numpy.load, 'mine.npy')\n",
        "class Waits:\n    def initialize(self, context):\n        self.first = load()\n"
        "    def inference(self, batch):\n        reader = threading.Thread(target=look)\n        reader.start()\n"
        "        reader.join()\n        return batch\n",
    )
    _, _, warnings = notebook.sample("Waits", 1)
    assert [text for text in warnings if "manifest.json" in text] == []
    assert len([text for text in warnings if "opened mine.npy" in text]) == 1


def test_the_notebook_is_as_it_was(notebook: Any, tmp_path: Any) -> None:
    notebook.run(
        MODEL,
        "class Rude:\n    def initialize(self, context):\n        self.model = model.eval()\n        os.chdir('/')\n"
        "        torch.set_grad_enabled(False)\n        random.random(), np.random.rand(), torch.rand(1)\n"
        "    def inference(self, batch):\n        return self.model(torch.tensor(batch))\n",
    )
    model = notebook.ns["model"]
    model[2].eval()
    flags = [module.training for module in model.modules()]
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    notebook.sample("Rude", [1.0, 2.0, 3.0])
    assert [module.training for module in model.modules()] == flags
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    assert torch.is_grad_enabled()
    assert os.getcwd() == str(tmp_path)


def test_it_is_as_it_was_after_a_failure_too(notebook: Any) -> None:
    notebook.run(
        MODEL,
        "class Bad:\n    def initialize(self, context):\n        self.model = model.eval()\n    def inference(self, batch):\n        return 1 / 0\n",
    )
    with pytest.raises(HandlerError, match="ZeroDivisionError") as caught:
        notebook.sample("Bad", 1)
    assert notebook.ns["model"].training
    assert caught.value.info is not None
    assert (caught.value.info.where, caught.value.info.stage) == ("In[2], line 5", "inference")
    assert "    return 1 / 0" in caught.value.info.traceback


def test_a_failing_initialize_is_said_with_its_place(notebook: Any) -> None:
    notebook.run(
        "class Bad:\n    def initialize(self, context):\n        raise KeyError('weights')\n    def inference(self, b):\n        return b"
    )
    with pytest.raises(HandlerError, match="failed to initialize: KeyError: 'weights'") as caught:
        notebook.sample("Bad", 1)
    assert caught.value.info is not None
    assert (caught.value.info.where, caught.value.info.stage) == ("In[1], line 3", "initialize")


def test_what_the_sample_run_changes_is_reported_and_served_as_it_was_before(notebook: Any) -> None:
    notebook.run(
        MODEL,
        "seen = {'n': [0]}\nlarge = torch.zeros(1000, 1000)\n"
        "class Changing:\n    def inference(self, batch):\n        table[0] += 1\n        seen['n'].append(1)\n"
        "        model[0].weight.data.add_(1)\n        large[0, 1] = 7\n"
        "        return [[float(table[0]), len(seen['n']), float(large.sum())] for _ in batch]\n",
    )
    _, sample, warnings = notebook.sample("Changing", 1)
    assert sample.expected_body == b"[1.0,2,7.0]"
    assert {text.split()[0] for text in warnings} == {"model[0].weight", "seen['n']", "table", "large"}
    assert "workers start from what it was before" in warnings[0]
    handler = notebook.written.load().handler
    assert notebook.ask(handler, [1]) == [[1.0, 2, 7.0]]


def test_a_coroutine_handler(notebook: Any) -> None:
    notebook.run(
        "import asyncio\nclass Slow:\n    async def initialize(self, context):\n        await asyncio.sleep(0)\n        self.k = 2\n"
        "    async def inference(self, batch):\n        await asyncio.sleep(0)\n        return [self.k * x for x in batch]\n"
    )
    _, sample, _ = notebook.sample("Slow", 4)
    assert sample.expected_body == b"8"


def test_a_function_and_a_module(notebook: Any) -> None:
    notebook.run("import torch\nmodel = torch.nn.Linear(2, 1)\ndef predict(batch):\n    return [len(x) for x in batch]")
    _, sample, _ = notebook.sample("predict", "four")
    assert (sample.body, sample.expected_body) == (b'"four"', b"4")
    _, sample, _ = notebook.sample("model", torch.tensor([1.0, 2.0]))
    with torch.no_grad():
        expected = float(notebook.ns["model"](torch.tensor([1.0, 2.0])))
    (given,) = __import__("json").loads(sample.expected_body)
    assert given == pytest.approx(expected)
    assert notebook.ns["model"].training
