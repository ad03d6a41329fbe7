# style: values
# about: itertools in mid-stream: count, cycle and chain, of which next() was taken in the notebook
# expect: live only
# input: 1
# input: 2
# %%
import itertools
ids = itertools.count(10, 5)
next(ids), next(ids)
# %%
colours = itertools.cycle("rgb")
next(colours)
# %%
%%serve_handler streams --sample 1
def predict(batch):
    return [[next(ids), next(colours)] for _ in batch]
