# style: values
# about: the sample run changes what was captured: a list, running statistics of a module in training, a counter; served from before it
# input: [1.0, 2.0]
# input: [3.0, -1.0]
# %%
import numpy as np
import torch
from torch import nn
torch.manual_seed(1)
norm = nn.BatchNorm1d(2, momentum=0.5)
# %%
history = []
totals = np.zeros(2)
# %%
class Seen:
    count = 0
    def __init__(self):
        self.last = None
    def note(self, x):
        Seen.count += 1
        before, self.last = self.last, x
        return before
seen = Seen()
# %%
%%serve_handler running --sample [1.0, 2.0]
def predict(batch):
    out = []
    for x in batch:
        history.append(x[0])
        totals[:] += x
        norm(torch.tensor([x, [0.0, 1.0]]))
        out.append([seen.note(x), Seen.count, list(history), totals.tolist(), norm.running_mean.tolist()])
    return out
