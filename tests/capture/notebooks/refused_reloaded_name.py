# style: ambient
# expect: refused: since the module was loaded again
# about: %%writefile of a module, import, written again, importlib.reload, a name imported before the reload
# input: 2
# input: 3
# %%
%%writefile helper_w.py
K = 2
def go(x):
    return x * K
# %%
import helper_w
from helper_w import go
# %%
%%writefile helper_w.py
K = 5
def go(x):
    return x * K + 1
# %%
import importlib
importlib.reload(helper_w)
# %%
%%serve_handler reloaded --sample 2
def predict(batch):
    return [[helper_w.go(x), go(x)] for x in batch]
