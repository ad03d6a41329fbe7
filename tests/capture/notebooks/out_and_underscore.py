# style: exploratory
# about: Out[n], In, _ and _2 used in code that is served, a shell assignment, a magic in the middle of a cell
# input: 1
# input: 5
# %%
[1, 2, 3]
# %%
{"k": 4}
# %%
files = !printf 'a\nb\n'
%matplotlib inline
top = _1
# %%
first = Out[1]
def total(x):
    return sum(first) + _2["k"] + x
# %%
%%serve_handler outs --sample 1
def predict(batch):
    return [[total(x), len(files), files.s, Out[2]["k"], Out[1], top is first] for x in batch]
