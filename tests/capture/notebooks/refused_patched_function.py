# style: ambient
# about: a function of numpy replaced by the notebook's own, used through the module
# expect: refused: was replaced by the notebook
# %%
import numpy as np
def mine(x, *a, **k):
    return 42.0
np.mean = mine
# %%
%%serve_handler patched --sample [1.0, 2.0]
def predict(batch):
    return [float(np.mean(x)) for x in batch]
