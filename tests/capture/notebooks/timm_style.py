# style: values
# about: a model zoo as timm has it: entry points registered by a decorator, configurations with overrides, norm layers as partials, a head that is reset
# undetected: partial
# unreached: Net.reset_classifier
# input: [0.1, 0.2, 0.3, 0.4]
# input: [1.0, -1.0, 0.5, 2.0]
# %%
import torch
from functools import partial
from torch import nn
torch.manual_seed(3)
# %%
entry_points = {}
def register(fn):
    entry_points[fn.__name__] = fn
    return fn
def make_cfg(**overrides):
    return {"num_classes": 3, "mean": 0.5, "std": 0.25, "act": nn.GELU, **overrides}
# %%
class Block(nn.Module):
    def __init__(self, dim, norm_layer, act_layer, drop_path=0.0):
        super().__init__()
        self.norm = norm_layer(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), act_layer(), nn.Linear(2 * dim, dim))
        self.scale = nn.Parameter(torch.full((dim,), 0.1))
        self.drop_path = nn.Identity() if not drop_path else nn.Dropout(drop_path)
    def forward(self, x):
        return x + self.drop_path(self.scale * self.mlp(self.norm(x)))
# %%
class Net(nn.Module):
    def __init__(self, dim=4, depth=2, norm_layer=None, cfg=None):
        super().__init__()
        self.default_cfg = cfg
        norm_layer = norm_layer or partial(nn.LayerNorm, eps=1e-6)
        rates = [each.item() for each in torch.linspace(0, 0.1, depth)]
        self.blocks = nn.ModuleDict({f"stage{i}": Block(dim, norm_layer, cfg["act"], rate) for i, rate in enumerate(rates)})
        self.num_features, self.fc = dim, nn.Linear(dim, cfg["num_classes"])
    def reset_classifier(self, classes):
        self.fc = nn.Linear(self.num_features, classes) if classes else nn.Identity()
    def forward_features(self, x):
        for block in self.blocks.values():
            x = block(x)
        return x
    def forward(self, x):
        return self.fc(self.forward_features(x))
# %%
@register
def tiny(**kwargs):
    return Net(depth=2, cfg=make_cfg(), **kwargs)
@register
def small(**kwargs):
    return Net(depth=3, cfg=make_cfg(mean=0.0, std=1.0), **kwargs)
def create_model(name, classes=None, **kwargs):
    model = entry_points[name](**kwargs)
    if classes is not None:
        model.reset_classifier(classes)
    return model
# %%
classifier = create_model("tiny").eval()
backbone = create_model("small", classes=0, norm_layer=nn.BatchNorm1d).eval()
# %%
def transform(rows, cfg):
    return (torch.tensor(rows) - cfg["mean"]) / cfg["std"]
# %%
%%serve_handler timm --sample [0.1, 0.2, 0.3, 0.4]
class Served:
    def inference(self, rows):
        rows = list(rows)
        logits = classifier(transform(rows, classifier.default_cfg))
        features = backbone(transform(rows, backbone.default_cfg))
        return [[*map(float, a), *map(float, b)] for a, b in zip(logits, features)]
