# style: values
# about: forward hooks and pre-hooks that change what a model computes
# input: [1.0, 2.0]
# input: [-1.0, 0.0]
# %%
import torch
from torch import nn
torch.manual_seed(1)
model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
# %%
activations = {}

def keep(name):
    def hook(module, inputs, output):
        activations[name] = output.detach().abs().mean().item()
    return hook

def double(module, args):
    return (args[0] * 2,)
# %%
model[1].register_forward_hook(keep("relu"))
handle = model[0].register_forward_hook(keep("never"))
handle.remove()
model.register_forward_pre_hook(double)
# %%
%%serve_handler hooked --sample [1.0, 2.0]
def predict(batch):
    answers = []
    for row in batch:
        with torch.no_grad():
            y = model(torch.tensor(row))
        answers.append({"y": y.tolist(), "seen": dict(activations)})
    return answers
