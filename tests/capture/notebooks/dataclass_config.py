# style: language
# about: dataclasses with factories, inheritance, slots, frozen ones, and instances of them as values
# input: [1.0, 2.0, 4.0]
# input: [-3.0]
# %%
from __future__ import annotations

import math
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
# %%
@dataclass
class Scale:
    factor: float = 1.0
    offsets: list[float] = field(default_factory=lambda: [0.0, 1.0])
    _: KW_ONLY
    name: str = "plain"

    def apply(self, x: float) -> float:
        return x * self.factor + sum(self.offsets)
# %%
@dataclass(frozen=True, order=True)
class Clip:
    low: float
    high: float

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError("low > high")

    def __call__(self, x: float) -> float:
        return max(self.low, min(self.high, x))
# %%
@dataclass(slots=True)
class Named(Scale):
    tags: set[str] = field(default_factory=set)

    def title(self) -> str:
        return f"{self.name}:{','.join(sorted(self.tags))}"
# %%
scale = Named(2.0, [0.5], name="double", tags={"b", "a"})
clip = Clip(-math.inf, 9.0)
# %%
wider = replace(clip, high=100.0)
# %%
%%serve_handler scaled --sample [1.0, 2.0, 4.0]
def predict(batch):
    return [{"y": [clip(scale.apply(x)) for x in row], "wide": [wider(x * 99) for x in row], "t": scale.title(),
             "same": clip < wider, "d": sorted(asdict(scale)["tags"]), "n": Scale(name="fresh").apply(1)} for row in batch]
