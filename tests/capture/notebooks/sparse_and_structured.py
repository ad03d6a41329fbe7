# style: values
# about: sparse torch and scipy matrices, structured and datetime arrays, masked arrays, numpy scalars and dtypes
# insensitive: masked, fortran
# input: 1
# input: 2
# %%
import numpy as np
import torch
from scipy import sparse

links = torch.sparse_coo_tensor(torch.tensor([[0, 1, 2], [2, 0, 1]]), torch.tensor([3.0, 4.0, 5.0]), (3, 3)).coalesce()
csr = sparse.csr_matrix(np.array([[0, 2.0, 0], [1.0, 0, 0], [0, 0, 7.0]]))
# %%
people = np.array([("ann", 31, 1.7), ("bob", 4, 0.9)], dtype=[("name", "U8"), ("age", "i4"), ("height", "f8")])
days = np.array(["2024-01-01", "2024-02-29"], dtype="datetime64[D]")
masked = np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, True, False])
ratio = np.float32(0.1)
kind = people.dtype
# %%
words = np.array(["low", "high", "low"])
fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
# %%
%%serve_handler arrays --sample 1
def predict(batch):
    return [{"links": (links.to_dense()[i]).tolist(), "csr": (csr @ np.ones(3)).tolist(), "old": str(people[people["age"] > i * 10]["name"][0]),
             "day": str(days[i % 2] + np.timedelta64(i, "D")), "mean": float(masked.mean()), "ratio": float(ratio), "names": list(kind.names),
             "words": np.unique(words).tolist(), "order": bool(fortran.flags.f_contiguous), "t": type(ratio).__name__} for i in batch]
