# style: values
# about: DataFrames and Series with all kinds of indexes and columns, used as lookup tables
# insensitive: cut
# input: {"city": "Bergen", "day": "2024-01-02"}
# input: {"city": "Nowhere", "day": "2024-01-05"}
# %%
import numpy as np
import pandas as pd

cities = pd.DataFrame({"people": [285_000, 700_000], "share": [0.05, 0.13], "kind": pd.Categorical(["b", "a"], categories=["a", "b"], ordered=True)},
                      index=pd.Index(["Bergen", "Oslo"], name="city"))
# %%
days = pd.Series([1.0, np.nan, 3.0, 4.5], index=pd.date_range("2024-01-01", periods=4, freq="D"), name="rain")
filled = days.interpolate().rolling(2).mean()
# %%
by_pair = pd.DataFrame({"a": [1, 1, 2], "b": ["x", "y", "x"], "v": [10, 20, 30]}).set_index(["a", "b"])
strings = pd.Series(["p", None, "q"], dtype="string")
nullable = pd.array([1, None, 3], dtype="Int64")
cut = pd.Timestamp("2024-01-03")
# %%
%%serve_handler weather --sample {"city": "Bergen", "day": "2024-01-02"}
def predict(batch):
    answers = []
    for row in batch:
        known = row["city"] in cities.index
        day = pd.Timestamp(row["day"])
        answers.append({"people": int(cities.loc[row["city"], "people"]) if known else None, "kinds": cities["kind"].cat.codes.tolist(),
                        "rain": None if day not in filled.index else round(float(filled[day]), 3), "late": bool(day > cut), "pair": int(by_pair.loc[(1, "y"), "v"]),
                        "missing": strings.isna().tolist(), "sum": int(pd.Series(nullable).sum()), "freq": filled.index.freqstr, "dtypes": [str(d) for d in cities.dtypes]})
    return answers
