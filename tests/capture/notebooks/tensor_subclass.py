# style: values
# about: a subclass of Tensor with behaviour of its own, and parameters lists and dicts
# input: [1.0, 2.0]
# input: [3.0, 4.0]
# %%
import torch
from torch import nn

class Labelled(torch.Tensor):
    label = "plain"

    def doubled(self):
        return self * 2
# %%
weights = torch.tensor([2.0, 3.0]).as_subclass(Labelled)
weights.label = "weights"
# %%
banks = nn.ParameterDict({"a": nn.Parameter(torch.ones(2)), "b": nn.Parameter(torch.zeros(2))})
stack = nn.ParameterList([torch.arange(2.0), torch.ones(2)])
# %%
%%serve_handler labelled --sample [1.0, 2.0]
def predict(batch):
    return [{"y": (weights.doubled() * torch.tensor(x)).tolist(), "label": weights.label, "kind": type(weights).__name__,
             "bank": (banks["a"] + stack[0]).tolist()} for x in batch]
