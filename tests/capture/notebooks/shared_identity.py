# insensitive: shared, decoder, table
# style: values
# about: one object under several names and inside several containers stays one object
# input: 5
# input: 6
# %%
import torch
from torch import nn

torch.manual_seed(0)
shared = [1, 2]
left, right = {"items": shared}, {"items": shared}
also = shared
# %%
class Holder:
    def __init__(self, items, owner=None):
        self.items, self.owner = items, owner

holder = Holder(shared)
holder.owner = holder
pair = (holder, {"h": holder})
# %%
table = nn.Embedding(3, 2)
decoder = nn.Linear(2, 3, bias=False)
decoder.weight = table.weight
both = nn.ModuleList([table, decoder])
cache = {"w": table.weight}
sentinel = object()
default = sentinel
# %%
%%serve_handler identity --sample 5
def predict(batch):
    answers = []
    for x in batch:
        shared.append(x)
        answers.append([left["items"] is right["items"], len(also), len(holder.items), holder.owner is holder, pair[1]["h"] is pair[0],
                        decoder.weight is table.weight, cache["w"] is both[0].weight, default is sentinel])
        shared.pop()
    return answers
