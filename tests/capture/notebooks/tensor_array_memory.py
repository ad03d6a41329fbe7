# style: values
# about: tensors made from arrays and arrays of tensors, over the same memory, written to on either side
# input: [0, 1.5]
# input: [2, -4.0]
# insensitive: layer
# %%
import numpy as np
import torch
table = np.arange(12, dtype=np.float32).reshape(3, 4)
weights = torch.from_numpy(table)
# %%
counts = torch.zeros(3, dtype=torch.int64)
seen = counts.numpy()
window = torch.from_numpy(table[1:])
# %%
layer = torch.nn.Linear(4, 3, bias=False).requires_grad_(False)
layer.weight = torch.nn.Parameter(weights, requires_grad=False)
# %%
def put(row, value):
    table[row, 1] = value
    seen[row] += 1
# %%
%%serve_handler memory --sample [0, 1.5]
def predict(batch):
    out = []
    for row, value in batch:
        put(row, value)
        window[0, 0] = value * 2
        out.append([layer(torch.ones(4)).tolist(), counts.tolist(), weights[1, 0].item(), table.sum().item()])
    return out
