"""Arrays and tensors over the same memory: a write to one is seen by the others, in workers as in the notebook."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbserve.bundle.rebuilt import check_rebuilt
from nbserve.errors import ProofError

SETUP = """
import numpy as np, torch
a = np.arange(12, dtype=np.float32).reshape(3, 4)
t = torch.from_numpy(a)
"""
SHARED = {
    "from_numpy": ("other = t", "other[1, 2] = 50.0", "float(a[1, 2])"),
    "numpy() of a tensor": ("p = torch.zeros(4)\nother = p.numpy()", "other[3] = 7.0", "float(p[3])"),
    "a reversed view": ("back = a[::-1]\nother = t[2]", "other[0] = -1.0", "float(back[0, 0])"),
    "two storages": (
        "first, other = torch.from_numpy(a[:2]), torch.from_numpy(a[1:])",
        "other[0, 0] = 9.0",
        "float(first[1, 0])",
    ),
    "a parameter": (
        "layer = torch.nn.Linear(4, 3)\nlayer.weight = torch.nn.Parameter(t)\nother = a",
        "other[0] = 3.0",
        "float(layer.weight[0].sum())",
    ),
    "in one value": ("bag = {'t': t[1:], 'a': a}", "bag['a'][2, 3] = 8.0", "float(bag['t'][1, 3])"),
    "complex, by dtype": (
        "c = np.zeros(3, dtype=np.complex64)\nother = torch.from_numpy(c)",
        "other[1] = 1 + 2j",
        "float(c[1].imag)",
    ),
    "another dtype": (
        "raw = a.view(np.uint8)\nother = torch.from_numpy(raw)[0]",
        "other[3] = 64",
        "float(a[0, 0])",
    ),
    "not aligned": (
        "buf = np.zeros(9, dtype=np.uint8)\nodd = buf[1:].view(np.float32)\nother = torch.from_numpy(odd)",
        "other[0] = 5.0",
        "int(buf[4])",
    ),
    "a bias that nothing else has": (
        "layer = torch.nn.Linear(4, 3)\nlayer.weight.data = t\nother = a",
        "other[1] = 3.0",
        "float(layer.weight.detach()[1].sum() + layer.bias.sum())",
    ),
}


@pytest.mark.parametrize("kind", SHARED)
def test_arrays_and_tensors_stay_on_the_memory_that_they_share(kind: str, notebook: Any) -> None:
    made, write, read = SHARED[kind]
    handler = f"def predict(batch):\n    with torch.no_grad():\n        {write}\n    return [{read} for _ in batch]"
    notebook.run(SETUP, made, handler)
    bundle = notebook.bundle("predict")
    for record in bundle.manifest.values.values():
        assert all((bundle.path / file).exists() for file in record.files)
    found = bundle.load()
    assert check_rebuilt(bundle.path, vars(found.module)) > 1
    assert notebook.ask(found.handler, [1]) == notebook.here("predict", 1)
    bundle.check()


def test_each_byte_is_stored_once(notebook: Any) -> None:
    notebook.run(
        "import numpy as np, torch\nbig = np.zeros((1000, 1000), dtype=np.float32)",
        "model = torch.nn.Linear(1000, 1000)",
        "model.weight.data = torch.from_numpy(big)\nviews = [torch.from_numpy(big[i:]) for i in range(5)]",
        "def predict(batch):\n    return [[big.shape, len(views), model.in_features] for _ in batch]",
    )
    bundle = notebook.bundle("predict")
    assert sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file()) < 4_100_000
    assert json.loads((bundle.path / "manifest.json").read_text())["values"]["big"]["files"] == [
        "data/big.json",
        "data/big.shared-0.bin",
    ]
    assert notebook.there("predict", 0) == notebook.here("predict", 0)


def test_tensors_alone_stay_in_the_weights_file(notebook: Any) -> None:
    notebook.run(
        "import torch\nt = torch.zeros(10)\nhead, tail = t[:6], t[4:]",
        "def predict(batch):\n    tail[0] = 3\n    return [head.tolist() for _ in batch]",
    )
    bundle = notebook.bundle("predict")
    assert not list(bundle.path.rglob("*.bin"))
    assert notebook.there("predict", 0) == notebook.here("predict", 0)


def test_memory_that_cannot_be_kept_together_is_an_error(notebook: Any) -> None:
    from nbserve.errors import ProofError

    notebook.run(
        "import numpy as np\nraw = bytearray(b'12345678')\na = np.frombuffer(raw, dtype=np.uint8)",
        "def predict(batch):\n    raw[0] += 1\n    return [int(a[0]) for _ in batch]",
    )
    bundle = notebook.bundle("predict")
    with pytest.raises(ProofError, match=r"raw: memory shared with a .* in the notebook, an object of its own"):
        check_rebuilt(bundle.path, vars(bundle.load().module))


TABLE = "import pandas as pd\ntable = pd.DataFrame(a, columns=list('wxyz'), copy={copy})\n"
USE = "def predict(batch):\n    a[0, 0] += 1\n    return [float(table.w.iloc[0]) for x in batch]"


@pytest.mark.parametrize("copy", [False, True])
def test_a_table_over_the_memory_of_an_array_is_told_of(copy: bool, notebook: Any) -> None:
    pytest.importorskip("pandas")
    notebook.run(SETUP, TABLE.format(copy=copy), USE)
    told = [text for text in notebook.capture("predict").warnings if "has the memory of" in text]
    assert [text.partition(" has")[0] for text in told] == ([] if copy else ["table"])
    notebook.run("a.flags.writeable = False", USE.replace("a[0, 0] += 1", "a.sum()"))
    assert not any("has the memory of" in text for text in notebook.capture("predict").warnings)


def test_data_of_classes_is_compared_too(notebook: Any) -> None:
    notebook.run(
        "class Net:\n    rate = 2\n    seen = []\n"
        "    def go(self, x):\n        self.seen.append(x)\n        return x * self.rate\n"
        "Net.rate = 5\nNet.seen.append(1)\nNet.extra = {'a': (1, 2)}",
        "def predict(batch):\n    return [Net().go(x) for x in batch]",
    )
    captured = notebook.capture("predict")
    assert {"Net.rate", "Net.seen", "Net.extra", "Net.extra['a']"} <= captured.watch.fingerprint.entries.keys()
    bundle = captured.write(notebook.root / "bundles")
    assert check_rebuilt(bundle.path, vars(bundle.load().module)) > 4
    handler = bundle.path / "handler.py"
    text = handler.read_text()
    assert "Net.rate = 5" in text
    handler.write_text(text.replace("Net.rate = 5", "Net.rate = 6"))
    with pytest.raises(ProofError, match=r"Net.rate: int 5 in the notebook, int 6 in the worker"):
        check_rebuilt(bundle.path, vars(bundle.load().module))


def test_what_a_class_has_is_watched(notebook: Any) -> None:
    notebook.run(
        "class Net:\n    seen = []\n",
        "def predict(batch):\n    Net.seen.append(1)\n    return batch",
    )
    captured = notebook.capture("predict")
    notebook.ns["Net"].seen.append(2)
    assert captured.watch.changed({}, []) == ["Net.seen"]
