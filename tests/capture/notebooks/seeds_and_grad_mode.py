# style: ambient
# about: seeds set once at the top, gradients switched off for all, a handler that draws random numbers
# undetected: _numpy_random
# input: [1.0, 2.0]
# input: [2.0, 2.0]
# %%
import random
import numpy as np
import torch

random.seed(1); np.random.seed(2); torch.manual_seed(3)
torch.set_grad_enabled(False)
# %%
weight = torch.randn(2)
# %%
%%serve_handler seeds --sample [1.0, 2.0]
def predict(batch):
    return [{"y": float(torch.tensor(x) @ weight), "t": float(torch.rand(1)), "n": float(np.random.rand()), "r": random.random()} for x in batch]
