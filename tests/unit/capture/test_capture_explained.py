"""What explain says of a real capture: each name with its cell, needs and history; what was not taken; cautions; what
has changed since."""

# ruff: noqa: E501 - cells read better unbroken

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from nbserve.bundle import Bundle
from nbserve.capture import Snapshot
from nbserve.errors import UsageError
from nbserve.explanation import Explanation, bundle_explanation, of_variable

CELLS = (
    "import torch\nweights = torch.ones(300)",
    "K = 2\ndef helper(x):\n    return x * K",
    "weights = torch.arange(300.0)\nspare = 1\nimport math",
    "def predict(b):\n    return [helper(x) + weights.sum().item() for x in b]\ntried = predict([1])",
)


def explained(notebook: Any, expression: str = "predict", variable: str = "") -> Explanation:
    bundle = notebook.capture(expression).write(notebook.root / "b")
    return bundle_explanation(bundle.path, variable)


def warnings_of(notebook: Any, *cells: str) -> list[str]:
    notebook.run(*cells)
    return list(notebook.capture("predict").warnings)


def test_each_name_with_its_cell_size_needs_and_history(notebook: Any) -> None:
    notebook.run(*CELLS)
    found = explained(notebook)
    entries = {entry.name: entry for entry in found.entries}
    assert (entries["weights"].how, entries["weights"].where, entries["weights"].bytes) == ("value", "In[3]", 1200)
    assert entries["weights"].bound == [("In[1]", 2), ("In[3]", 1)]
    assert entries["K"].chain == ["predict", "helper", "K"]
    assert entries["predict"].needs == ["helper", "weights"]
    assert entries["helper"].needs == ["K"]
    text = [" ".join(line.split()) for line in repr(found).splitlines()]
    for line in (
        "predict source In[4]",
        "├─ helper source In[2]",
        "│ └─ K source In[2]",
        "└─ weights value In[3] 1.2 KB torch.Tensor",
    ):
        assert line in text


def test_what_was_seen_and_not_taken_says_why(notebook: Any) -> None:
    notebook.run(
        *CELLS,
        "import functools\n@functools.lru_cache\ndef looked_up(x):\n    return x\nlooked_up(1), looked_up(2)",
        "model = torch.nn.Linear(2, 1)\nmodel(torch.ones(2)).sum().backward()",
        "def handler(b):\n    return [looked_up(x) + undefined_name + model.bias.item() for x in b]",
    )
    skipped = {one.name: one for one in explained(notebook).skipped}
    assert skipped.keys() == {"math", "spare", "tried"}
    assert skipped["spare"].where == "In[3]"
    assert "nothing that is served uses it" in skipped["spare"].why
    skipped = {one.name: one for one in explained(notebook, "handler").skipped}
    assert skipped.keys() == {"looked_up.cache", "model.grad", "undefined_name"}
    assert "2 answers" in skipped["looked_up.cache"].why
    assert skipped["undefined_name"].why == "handler uses it, and nothing defines it"


def test_one_variable_its_chain_its_source_and_who_needs_it(notebook: Any) -> None:
    notebook.run(*CELLS)
    found = explained(notebook, variable="K")
    assert [entry.name for entry in found.entries] == ["predict", "helper", "K"]
    assert found.variable is not None
    assert (found.variable.source, found.variable.needed_by) == ("K = 2", ["helper"])
    text = repr(found)
    assert "because of: predict -> helper -> K" in text
    assert "bound in In[2], line 1 (this one is served)" in text
    assert "    return x * K" in repr(explained(notebook, variable="helper"))
    with pytest.raises(UsageError, match=r"spare was not captured \(In\[3\]\): bound in the same cell, but nothing"):
        explained(notebook, variable="spare")
    with pytest.raises(UsageError, match="never was not captured: nothing that is served uses it"):
        explained(notebook, variable="never")


def test_values_show_their_cell_where_the_notebook_is_here_and_no_cell_text_is_in_the_bundle(notebook: Any) -> None:
    notebook.run(*CELLS)
    bundle, live = served(notebook, "predict")
    whole = bundle_explanation(bundle.path)
    here, elsewhere = of_variable(whole, "weights", live), of_variable(whole, "weights", None)
    assert here.variable is not None
    assert elsewhere.variable is not None
    assert (here.variable.source, here.variable.source_where) == ("weights = torch.arange(300.0)", "In[3]")
    assert elsewhere.variable.source == ""
    assert "bound in In[1], line 2\n" in repr(elsewhere)
    assert "bound in In[3], line 1 (this one is served)" in repr(elsewhere)
    assert "arange" not in (bundle.path / "provenance.json").read_text()


# --- cautions

TABLE = "import pandas as pd, numpy as np\ntable = pd.DataFrame({'id': np.arange(400_000), 'a': np.zeros(400_000), 'b': np.zeros(400_000), 'c': np.zeros(400_000)})"


@pytest.mark.parametrize(
    "code",
    [
        "def predict(b):\n    return [int(table['id'][x]) for x in b]",
        "def predict(b):\n    return [int(table.id[x]) + table.shape[0] for x in b]",
        "class predict:\n    def initialize(self, context):\n        self.rows = table\n    def inference(self, b):\n        return [int(self.rows[['id']].iloc[x, 0]) for x in b]",
    ],
)
def test_a_large_table_of_which_one_column_is_read(notebook: Any, code: str) -> None:
    (warning,) = warnings_of(notebook, TABLE, code)
    assert warning.startswith("table (12.8 MB, In[1]) is shipped whole, and the code reads only table")
    assert "(3.2 MB): bind that to a name in a cell (`part = table" in warning


@pytest.mark.parametrize(
    "code",
    [
        "def predict(b):\n    return [float(table.loc[x, 'id']) for x in b]",
        "def predict(b):\n    return [int(table[b[0]].iloc[0]) for x in b]",
        "def helper(t):\n    return t['id']\ndef predict(b):\n    return [int(table['id'][x]) + len(helper(table)) for x in b]",
        "def predict(b):\n    return [int((table['id'] + table['a'] + table['b'])[x]) for x in b]",
        "class predict:\n    def initialize(self, context):\n        self.rows = table\n    def inference(self, b):\n        return [int(self.rows['id'][x]) + self.rows.size for x in self.pick(self.rows)]\n    def pick(self, t):\n        return [0]",
    ],
)
def test_no_caution_where_more_of_it_may_be_read(notebook: Any, code: str) -> None:
    assert warnings_of(notebook, TABLE, code) == []


def test_parts_of_modules_dicts_and_arrays(notebook: Any) -> None:
    notebook.run(
        "import torch, numpy as np\n"
        "net = torch.nn.ModuleDict({'encoder': torch.nn.Linear(1000, 2000), 'head': torch.nn.Linear(1000, 8000)})\n"
        "class Two(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.encoder = torch.nn.Linear(1000, 500)\n        self.decoder = torch.nn.Linear(1000, 4000)\n"
        "two = Two()\nlookup = {'small': [1, 2], 'large': np.zeros(2_000_000)}\nrows = np.zeros((4, 1_000_000))",
        "def predict(b):\n    return [two.encoder(torch.ones(1000)).sum().item() + lookup['small'][0] + rows[0].sum() for _ in b]",
    )
    warnings = notebook.capture("predict").warnings
    assert [text.split(" ")[0] for text in warnings] == ["lookup", "rows", "two"] or {
        text.split(" ")[0] for text in warnings
    } == {"lookup", "rows", "two"}
    assert any("only two.encoder (2.0 MB)" in text for text in warnings)
    assert any("only rows[0] (8.0 MB)" in text for text in warnings)


def test_secrets_are_warned_of_and_never_shown(notebook: Any) -> None:
    token = "hf_" + "aB3dE5" * 6
    warnings = warnings_of(
        notebook,
        f"settings = {{'url': 'x', 'retries': [1], 'api_key': 'qR7-tZ9mK2_vW4xL8'}}\nimport collections\nextra = collections.OrderedDict(token='{token}')",
        f"def predict(b):\n    key = '{token}'\n    return [len(key) + len(settings) + len(extra) for _ in b]",
    )
    assert sum("looks like a secret" in text for text in warnings) == 3
    assert any("(In[2], line 2) looks like a secret (Hugging Face token)" in text for text in warnings)
    assert token not in "".join(warnings)


def test_absolute_paths_of_this_machine(notebook: Any, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a")
    warnings = warnings_of(
        notebook,
        f"import pathlib\nfolder = pathlib.Path({str(tmp_path)!r})\nconfig = {{'labels': {str(tmp_path / 'labels.txt')!r}, 'route': '/predict/all', 'null': '/dev/null'}}",
        f"def predict(b):\n    '{tmp_path}'\n    return [len({str(tmp_path / 'labels.txt')!r}) + len(str(folder)) + len(config) for _ in b]",
    )
    paths = [text for text in warnings if "is of this machine" in text]
    assert len(paths) == 2, warnings
    assert any(f"names {tmp_path / 'labels.txt'}, " in text for text in paths)
    assert any(f"the value folder, In[1] names {tmp_path}, " in text for text in paths)


# --- what has changed since


def served(notebook: Any, name: str) -> tuple[Bundle, Snapshot]:
    bundle = notebook.capture(name).write(notebook.root / "b")
    live = Snapshot(bundle.path, time.time(), lambda: notebook.ns[name], notebook.ns, notebook.cells)
    return bundle, live


@pytest.mark.parametrize(
    ("cell", "changed"),
    [
        ("weights.data[7] += 1", ["weights has changed since (In[3])"]),
        ("weights = weights.clone()", []),
        ("weights = weights.double()", ["weights has changed since (In[5])"]),
        ("K = 3", ["K has changed since (In[5])"]),
        ("def helper(x):\n    return x * K   # the same", []),
        ("def predict(b):\n    return [helper(x) for x in b]", ["predict has changed since (In[5])", "weights is no longer needed"]),
        ("import math\ndef helper(x):\n    return x * K * NEW\nNEW = 1", ["NEW is needed now (In[5])", "helper has changed since (In[5])"]),
    ],
)  # fmt: skip
def test_what_has_changed_since(notebook: Any, cell: str, changed: list[str]) -> None:
    notebook.run(*CELLS)
    _, live = served(notebook, "predict")
    assert live.changes() == []
    notebook.run(cell)
    since = f"snapshot of {time.strftime('%H:%M', time.localtime(live.created_at))}; "
    assert live.changes() == [f"{since}{line}" for line in changed]


def test_a_snapshot_that_can_no_longer_be_captured_says_so(notebook: Any) -> None:
    notebook.run(*CELLS)
    _, live = served(notebook, "predict")
    notebook.run("import threading\nK = threading.Lock()\nK.acquire()")
    (line,) = live.changes()
    assert "it can no longer be captured: K cannot be shipped" in line
