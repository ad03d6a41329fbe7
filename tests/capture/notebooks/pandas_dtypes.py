# style: kaggle
# about: categoricals with an order, a MultiIndex, tz-aware stamps, nullable and string dtypes, intervals, sparse columns, attrs
# input: ["a", 1]
# input: ["b", 2]
# insensitive: spans
# %%
import pandas as pd, numpy as np
idx = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["k", "n"])
df = pd.DataFrame({
    "cat": pd.Categorical(["lo", "hi", "lo", "hi"], categories=["lo", "hi"], ordered=True),
    "when": pd.date_range("2024-03-30", periods=4, freq="D", tz="Europe/Berlin"),
    "int": pd.array([1, None, 3, 4], dtype="Int64"),
    "text": pd.array(["x", None, "z", "w"], dtype="string"),
    "flag": pd.array([True, None, False, True], dtype="boolean"),
}, index=idx)
df.attrs["unit"] = "mm"
# %%
bins = pd.IntervalIndex.from_breaks([0, 1.5, 3])
sparse = pd.arrays.SparseArray([0, 0, 1, 0])
spans = pd.Series(pd.to_timedelta(["1h", "2h"]))
periods = pd.period_range("2024-01", periods=3, freq="M")
roll = df["int"].astype("float").rolling(2)
# %%
%%serve_handler frames --sample ["a", 1]
def predict(batch):
    out = []
    for k, n in batch:
        row = df.loc[(k, n)]
        out.append([str(row["cat"]), str(row["when"]), str(row["int"]), str(row["text"]), str(df["cat"].max()), df.attrs, int(bins.get_indexer([n])[0]), int(np.asarray(sparse).sum()), str(spans.sum()), str(periods[n])])
    return out
