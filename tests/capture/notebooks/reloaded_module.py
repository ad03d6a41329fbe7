# style: modules
# about: a module changed and reloaded: what is in the file is what is loaded
# input: 2
# input: 3
# %%
%%writefile rates.py
RATE = 1

def rate(x):
    return x * RATE
# %%
import importlib
import rates
rates.rate(2)
# %%
%%writefile rates.py
RATE = 30

def rate(x):
    return x * RATE + 1
# %%
importlib.reload(rates)
# %%
%%serve_handler rates --sample 2
def predict(batch):
    return [rates.rate(x) for x in batch]
