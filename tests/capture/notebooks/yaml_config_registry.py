# style: exploratory
# about: an experiment driven by a YAML text: overrides by dotted keys, a registry of builders, pydantic models with validators, a model built from the configuration
# input: {"x": [1.0, 2.0, 3.0]}
# input: {"x": [1.0, 2.0]}
# input: {"x": [0.0, 0.0, 0.0], "top": 2}
# input: {"x": "no"}
# insensitive: config, REGISTRY, model, Request
# unreached: register, register.<locals>.add, relu_net, ModelConfig.positive, ModelConfig.positive.<locals>.<genexpr>
# undetected: ModelConfig, field_validator
# %%
import copy

import torch
import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator
from torch import nn
# %%
text = """
model: {kind: relu_net, sizes: [3, 5, 4]}
train:
  lr: 1.0e-2
  steps: 5
labels: [a, b, c, d]
"""
raw = yaml.safe_load(text)
# %%
def override(config, *changes):
    config = copy.deepcopy(config)
    for change in changes:
        key, value = change.split("=", 1)
        *path, last = key.split(".")
        at = config
        for step in path:
            at = at[step]
        at[last] = yaml.safe_load(value)
    return config

raw = override(raw, "train.steps=8", "model.sizes=[3, 6, 4]")
# %%
class ModelConfig(BaseModel):
    kind: str
    sizes: list[int]

    @field_validator("sizes")
    @classmethod
    def positive(cls, v):
        assert all(s > 0 for s in v)
        return v

config = ModelConfig(**raw["model"])
# %%
REGISTRY = {}
def register(f):
    REGISTRY[f.__name__] = f
    return f

@register
def relu_net(sizes):
    layers = []
    for i, o in zip(sizes, sizes[1:]):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
# %%
torch.manual_seed(0)
model = REGISTRY[config.kind](config.sizes)
opt = torch.optim.Adam(model.parameters(), lr=raw["train"]["lr"])
for step in range(raw["train"]["steps"]):
    loss = (model(torch.randn(8, 3)).softmax(-1)[:, 0] - 0.5).pow(2).mean()
    opt.zero_grad(); loss.backward(); opt.step()
# %%
class Request(BaseModel):
    x: list[float] = Field(min_length=3, max_length=3)
    top: int = 1
# %%
labels = raw["labels"]
def check(row):
    try:
        return Request(**row)
    except ValidationError as exc:
        return exc.errors()[0]["type"]
# %%
%%serve_handler configured --sample {"x": [1.0, 2.0, 3.0]}
@torch.no_grad()
def predict(batch):
    out = []
    for row in batch:
        request = check(dict(row))
        if isinstance(request, str):
            out.append({"error": request})
            continue
        p = model(torch.tensor(request.x)).softmax(-1).topk(request.top)
        out.append({"best": [labels[i] for i in p.indices.tolist()], "p": [round(v, 5) for v in p.values.tolist()], "kind": config.kind})
    return out
