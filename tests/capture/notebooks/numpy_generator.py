# style: values
# about: a numpy Generator and a RandomState in mid-stream, a torch.Generator, a random.Random
# insensitive: rng, noise
# input: 3
# input: 1
# %%
import random

import numpy as np
import torch

rng = np.random.default_rng(42)
rng.normal(size=10)
old = np.random.RandomState(7)
old.rand(3)
dice = random.Random(5)
dice.random()
noise = torch.Generator().manual_seed(9)
torch.rand(4, generator=noise)
# %%
%%serve_handler noise --sample 3
def predict(batch):
    return [{"rng": rng.normal(size=n).tolist(), "old": old.rand(n).tolist(), "dice": dice.random(), "torch": torch.rand(n, generator=noise).tolist()} for n in batch]
