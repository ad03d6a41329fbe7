# style: language
# about: a cell that failed in its middle: what it had bound by then is in use, the rest is from before
# input: 1
# input: 5
# %%
def first(x):
    return ("old first", x)

def second(x):
    return ("old second", x)

weights = [1, 2, 3]
# %% fails
def first(x):
    return ("new first", x + 1)

weights = [4, 5, 6]
broken = 1 / 0

def second(x):
    return ("new second", x + 2)

weights = [7, 8, 9]
# %% fails
for step in range(5):
    offset = step * 10
    if step == 3:
        raise RuntimeError("interrupted")
# %%
%%serve_handler half --sample 1
def predict(batch):
    return [[first(x), second(x), weights, offset] for x in batch]
