# style: language
# unreached: fresh, Config.<lambda>
# about: dataclass field factories that are lambdas and functions of cells, InitVar, ClassVar, kw_only, post-init, replace, ordering
# input: 3
# input: 0
# undetected: OFFSET
# insensitive: base
# %%
from dataclasses import dataclass, field, InitVar, replace, asdict, fields
from typing import ClassVar
def fresh():
    return [OFFSET]
OFFSET = 7
# %%
@dataclass(order=True)
class Config:
    size: int
    tags: list = field(default_factory=fresh, compare=False)
    weights: dict = field(default_factory=lambda: {"w": OFFSET * 2}, compare=False)
    scale: InitVar[float] = 2.0
    total: float = field(init=False, default=0.0)
    registry: ClassVar[dict] = {}
    def __post_init__(self, scale):
        self.total = self.size * scale
        Config.registry[self.size] = self.total
# %%
@dataclass(kw_only=True)
class Wide(Config):
    name: str = "wide"
    _hidden: int = field(default=3, repr=False, metadata={"unit": "mm"})
base = Wide(size=5, scale=0.5)
# %%
%%serve_handler configs --sample 3
def predict(batch):
    out = []
    for n in batch:
        one = replace(base, size=n, scale=4.0)
        out.append([repr(one), asdict(one)["weights"], one < base, [f.metadata.get("unit") for f in fields(one)], sorted(Config.registry)])
    return out
