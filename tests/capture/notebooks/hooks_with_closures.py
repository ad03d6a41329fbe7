# style: modules
# about: forward hooks that close over a list, a handle kept, a ModuleDict, a lambda as activation, a global hook removed again
# input: [1.0, 2.0]
# input: [0.0, -3.0]
# %%
import torch
from torch import nn
torch.manual_seed(1)
seen = []
def watch(log, factor):
    def hook(module, args, output):
        log.append(round(output.sum().item(), 4))
        return output * factor
    return hook
# %%
class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleDict({"a": nn.Linear(2, 2), "b-c": nn.Linear(2, 2)})
        self.act = lambda x: x.clamp(min=0)
    def forward(self, x):
        return {k: self.act(head(x)) for k, head in self.heads.items()}
net = Heads().requires_grad_(False)
handle = net.heads["a"].register_forward_hook(watch(seen, 2.0))
# %%
%%serve_handler hooked --sample [1.0, 2.0]
def predict(batch):
    out = []
    for x in batch:
        got = net(torch.tensor(x))
        out.append([{k: v.tolist() for k, v in got.items()}, list(seen)])
    return out
