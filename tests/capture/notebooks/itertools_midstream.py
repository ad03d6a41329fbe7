# style: values
# about: itertools in mid-stream: count, cycle and chain, of which next() was taken in the notebook
# input: 1
# input: 2
# insensitive: rows
# %%
import itertools
ids = itertools.count(10, 5)
next(ids), next(ids)
# %%
colours = itertools.cycle("rgb")
next(colours)
# %%
rows = enumerate(iter(["a", "b", "c", "d", "e", "f"]), start=3)
next(rows)
# %%
%%serve_handler streams --sample 1
def predict(batch):
    return [[next(ids), next(colours), next(rows, None)] for _ in batch]
