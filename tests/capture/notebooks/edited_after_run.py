# style: language
# about: the text of a cell was changed and not run again: what is live is served, not what stands there
# input: 4
# input: 10
# %%
def rate(x):
    if x > 5:
        return x * 3
    return x * 2
# %% edited
def rate(x):
    return x * 1000
# %%
LIMIT = 20
# %%
def capped(x):
    return min(rate(x), LIMIT)
# %%
LIMIT = 25
# %%
%%serve_handler rates --sample 4
def predict(batch):
    return [capped(x) for x in batch]
