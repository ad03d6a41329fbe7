# style: values
# about: modules whose structure was changed after construction: layers swapped, tied, appended, frozen, attributes added
# input: [1.0, 2.0, 3.0]
# input: [0.0, 0.0, 0.0]
# unreached: Encoder.__init__.<locals>.<listcomp>
# %%
import torch
from torch import nn
torch.manual_seed(3)
# %%
class Encoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed = nn.Linear(3, width)
        self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.heads = nn.ModuleDict({"a": nn.Linear(width, 2), "b": nn.Linear(width, 2)})
        self.register_buffer("mean", torch.tensor([0.5, 0.5, 0.5]))
        self.register_buffer("scratch", torch.tensor([2.0]), persistent=False)
        self.history = []

    def forward(self, x):
        x = self.embed(x - self.mean)
        for block in self.blocks:
            x = torch.tanh(block(x))
        return {name: head(x) * self.scratch for name, head in self.heads.items()}
# %%
model = Encoder(4)
# %%
model.blocks.append(nn.Sequential(nn.Linear(4, 4), nn.GELU()))
model.heads["b"] = model.heads["a"]
model.blocks[1] = nn.Identity()
model.extra = torch.full((4,), 0.25)
for parameter in model.embed.parameters():
    parameter.requires_grad = False
# %%
model.blocks[0].weight = nn.Parameter(torch.eye(4))
model.mean += 0.25
model.history.append({"epoch": 1})
model.train()
model.blocks.eval()
# %%
%%serve_handler encoder --sample [1.0, 2.0, 3.0]
class Encode:
    def initialize(self, context):
        self.model = model

    def inference(self, batch):
        out = self.model(torch.tensor(batch))
        shared = self.model.heads["a"].weight is self.model.heads["b"].weight
        frozen = [name for name, p in self.model.named_parameters() if not p.requires_grad]
        return [{"a": a.tolist(), "b": b.tolist(), "shared": shared, "frozen": frozen, "extra": self.model.extra.tolist(),
                 "modes": [m.training for m in self.model.modules()], "n": len(self.model.history)} for a, b in zip(out["a"], out["b"])]
