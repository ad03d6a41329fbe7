# style: modules
# about: a module whose file was edited after it was imported
# expect: refused: rates.py is not what is loaded: rate was changed
# %%
%%writefile rates.py
def rate(x):
    return x * 2
# %%
import rates
# %%
%%writefile rates.py
def rate(x):
    return x * 3
# %%
%%serve_handler rates --sample 2
def predict(batch):
    return [rates.rate(x) for x in batch]
