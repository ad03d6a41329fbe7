# style: values
# about: a memmap over a file, structured records, masked arrays, a poly1d, a vectorize, datetime64, object arrays of arrays, a Generator in mid-stream
# input: 1
# input: 2
# insensitive: rec, rng, vec
# %%
import numpy as np
np.arange(6, dtype=np.float32).tofile("raw.bin")
mm = np.memmap("raw.bin", dtype=np.float32, mode="r", shape=(2, 3))
rec = np.rec.array([(1, 2.5, "x"), (3, 4.5, "y")], dtype=[("i", "i4"), ("f", "f8"), ("s", "U1")])
# %%
masked = np.ma.masked_array([1.0, 2.0, 3.0], mask=[0, 1, 0], fill_value=-1)
poly = np.poly1d([1, -2, 3])
days = np.array(["2024-02-28", "2024-03-01"], dtype="datetime64[D]")
ragged = np.array([np.arange(2), np.arange(3)], dtype=object)
# %%
rng = np.random.default_rng(3)
rng.random(5)
old = np.random.RandomState(2)
old.rand(3)
vec = np.vectorize(lambda x, k=3: x * k)
# %%
%%serve_handler arrays --sample 1
def predict(batch):
    return [[mm.sum(0).tolist(), rec.i.tolist(), rec.f.tolist(), rec[1].s, masked.filled().tolist(), float(masked.mean()), float(poly(x)), int((days[1] - days[0]).astype(int)), [r.sum().item() for r in ragged], rng.random(), old.rand(), vec(x).item()] for x in batch]
