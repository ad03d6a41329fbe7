# style: values
# about: arrays that are views of one another: columns, a reversed and a reshaped one, written to by the handler
# insensitive: columns, backwards
# input: [0, 1.5]
# input: [2, -4.0]
# input: [0, 0.25]
# %%
import numpy as np
grid = np.arange(12, dtype=np.float64).reshape(3, 4)
# %%
columns = [grid[:, index] for index in range(4)]
backwards = grid[::-1]
flat = grid.reshape(-1)
record = np.zeros(3, dtype=[("x", "<f4"), ("n", "<i2")])
names = record["n"]
# %%
bank = {"all": np.ones((600, 8)), "first": None}
bank["first"] = bank["all"][:2, ::2]
# %%
def put(row, value):
    columns[1][row] = value
    names[row] += 1
    bank["all"][0, 2] = value
# %%
%%serve_handler views --sample [0, 1.5]
def predict(batch):
    out = []
    for row, value in batch:
        put(row, value)
        out.append([grid.tolist(), backwards[0].tolist(), flat[1::4].tolist(), record["n"].tolist(), bank["first"].tolist()])
    return out
