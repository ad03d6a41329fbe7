# style: fine-tuning
# about: a model loaded from a checkpoint with missing keys, half of it in bfloat16, a scaler kept in the state dict, EMA by deepcopy
# input: [0.1, 0.2, 0.3]
# input: [-1.0, 0.0, 1.0]
# unreached: Task.get_extra_state, Task.set_extra_state
# %%
import copy
import torch
from torch import nn
# %%
torch.manual_seed(9)
# %%
class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1, self.l2 = nn.Linear(3, 8), nn.Linear(8, 8)

    def forward(self, x):
        return torch.relu(self.l2(torch.relu(self.l1(x))))
# %%
class Task(nn.Module):
    def __init__(self, backbone, n):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(8, n)
        self.temperature = nn.Parameter(torch.tensor(1.0))

    def get_extra_state(self):
        return {"version": 3}

    def set_extra_state(self, state):
        self.version = state["version"]

    def forward(self, x):
        return self.head(self.backbone(x).to(self.head.weight.dtype)) / self.temperature
# %%
pretrained = Backbone()
torch.save({"model": pretrained.state_dict(), "epoch": 4}, "ckpt.pt")
# %%
ckpt = torch.load("ckpt.pt")
# %%
backbone = Backbone()
ckpt["model"].pop("l2.bias")
report = backbone.load_state_dict(ckpt["model"], strict=False)
report
# %%
task = Task(backbone.to(torch.bfloat16), 2)
# %%
task.load_state_dict(task.state_dict())
task.version
# %%
ema = copy.deepcopy(task)
# %%
with torch.no_grad():
    for a, b in zip(ema.parameters(), task.parameters()):
        a.lerp_(b * 1.1, 0.5)
# %%
missing = report.missing_keys
# %%
def count(m):
    return {str(p.dtype): sum(q.numel() for q in m.parameters() if q.dtype == p.dtype) for p in m.parameters()}
# %%
count(task)
# %%
with torch.no_grad():
    task.temperature.fill_(2.0)
# %%
epoch = ckpt["epoch"]
del ckpt, pretrained
# %%
%%serve_handler task --sample [0.1, 0.2, 0.3]
class Both:
    def inference(self, batch):
        x = torch.tensor(batch, dtype=torch.bfloat16)
        return [{"task": a.tolist(), "ema": b.tolist(), "v": task.version, "missing": missing, "epoch": epoch, "n": count(ema)} for a, b in zip(task(x), ema(x))]
