# style: values
# about: a method of a module wrapped and put back on the module that it belongs to: neither can be made first
# expect: refused: need each other before they are defined
# %%
import functools

import torch
from torch import nn

def traced(f):
    calls = []

    @functools.wraps(f)
    def inner(x):
        calls.append(x.shape)
        return f(x)
    return inner
# %%
model = nn.Sequential(nn.Linear(2, 1))
model[0].forward = traced(model[0].forward)
# %%
%%serve_handler cycle --sample [1.0, 2.0]
def predict(batch):
    return model(torch.tensor(batch))
