"""What is asked of every server: workloads, loads, settings to choose from."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.benchmarks.peers.contestants import Setup
from tests.benchmarks.scenarios import SCENARIOS, Scenario

__all__ = ["WORKLOADS", "Workload"]

_MODELS = Path(__file__).parent / "servers" / "models.py"
_draw = random.Random(0)

ENCODER = Scenario(
    name="encoder",
    what="transformer encoder, 6 layers of 384, 64 token ids in, 8 numbers out",
    setup=f"{_MODELS.read_text()}\nmodel = encoder()\nids = list(range(64))\n",
    serve="""\
%%serve_handler encoder --sample ids
import torch
from nbserve import Handler

class Encode(Handler):
    def initialize(self, context):
        self.model = model
    def preprocess(self, rows):
        return torch.tensor([row.payload for row in rows])
    def inference(self, batch):
        return self.model(batch)
""",
    bodies=tuple(json.dumps([_draw.randrange(8000) for _ in range(64)]).encode() for _ in range(4)),
    is_right=lambda answer: len(answer) == 8,
)


@dataclass(frozen=True)
class Workload:
    """One workload and its contestants.

    connections: closed loops of so many. shares: open loops, Poisson, of the capacity. setups: by the name shown;
    where there are several for a name, the one with the least CPU at the most connections is taken.
    """

    scenario: Scenario
    what: str
    connections: tuple[int, ...]
    shares: tuple[float, ...]
    setups: dict[str, list[Setup]]
    only_at: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = field(default_factory=dict)
    """Contestants that take part in some of the loads: connections, shares."""
    waits_as: dict[str, str] = field(default_factory=dict)
    """Contestants that wait as long as another one, once its wait is chosen."""
    is_slow: bool = False
    """Few requests in a run: it is twice as long, and goes on until the last one is answered."""


def _setups(workload: str) -> dict[str, list[Setup]]:
    """Waits that were worth a try: 0 = what is there goes. nbserve has none to choose from: 0 is its default."""
    waits_ms = {"mosec": (0, 1, 2, 5), "FastAPI": (0, 5), "LitServe": (0, 5)}
    setups = {"nbserve": [Setup("nbserve", workload)]}
    return setups | {name: [Setup(name.lower(), workload, wait) for wait in waits] for name, waits in waits_ms.items()}


_OFF = "nbserve, batching off"
_WAITS = "nbserve, mosec's wait"
"""Like with like: whichever mosec's cheapest is."""
_ENCODER = Setup("mosec", "encoder", wait_ms=5, max_batch_size=16, workers=2)

WORKLOADS = {
    "noop": Workload(
        SCENARIOS["noop"],
        "20 bytes of JSON, answered as they came; batches up to 32",
        connections=(64, 16, 4, 1),
        shares=(0.3, 0.6),
        setups=_setups("noop")
        | {_OFF: [Setup("nbserve", "noop", max_batch_size=1)], _WAITS: [Setup("nbserve", "noop")]},
        only_at={_OFF: ((1,), ()), _WAITS: ((4,), (0.3, 0.6))},
        waits_as={_WAITS: "mosec"},
    ),
    "mlp": Workload(
        SCENARIOS["mlp"],
        "784-512-512-10 in float32, 5.4 KB of JSON; batches up to 32, 1 thread",
        connections=(64,),
        shares=(),
        setups=_setups("mlp"),
    ),
    "encoder": Workload(
        ENCODER,
        f"{ENCODER.what}; 2 workers, batches up to 16, 1 thread a worker",
        connections=(32,),
        shares=(),
        setups={
            "nbserve": [replace(_ENCODER, server="nbserve", wait_ms=0)],
            "mosec": [_ENCODER],
            "mosec, torch's threads": [replace(_ENCODER, threads=0)],
        },
        is_slow=True,
    ),
}
