# style: exploratory
# about: cells that ran and were deleted since, a helper whose cell is gone, a class patched by a deleted cell, names left over from loops, a frame filtered by a deleted boolean mask
# input: {"q": "mean", "of": "b"}
# input: {"q": "rank", "of": "c"}
# input: {"q": "other"}
# input: {"q": "rank", "of": "a"}
# input: {"q": "mean", "of": "a"}
# unreached: _make_Report_2.<locals>.Report.line
# insensitive: table, SCALE, row, weights
# %%
import numpy as np
import pandas as pd
# %%
raw = pd.DataFrame({"key": list("aabbccd"), "v": [1.0, 2.0, 3.5, np.nan, 5.0, 7.0, -1.0]})
raw
# %%
mask = raw.v.notna() & (raw.v > 0)
table = raw[mask].set_index("key")["v"]
del mask, raw
# %%
SCALE = 10
def scaled(v, scale=SCALE):
    return v * scale
SCALE = 100
# %%
class Report:
    title = "draft"
    def __init__(self, rows):
        self.rows = rows
    def line(self, name):
        return f"{self.title}: {name}={self.rows[name]:.2f}"
# %%
def _line(self, name):
    return f"{self.title.upper()}: {name}={self.rows.get(name, float('nan')):.3f}"
Report.line = _line
Report.title = "final"
Report.__len__ = lambda self: len(self.rows)
# %%
report = Report(table.groupby(level=0).mean().to_dict())
del _line
# %%
for i, row in enumerate(sorted(report.rows, key=report.rows.get)):
    print(i, row)
# %%
ranks = {name: i for i, name in enumerate(sorted(report.rows, key=report.rows.get))}
def rank(name):
    return ranks.get(name, -1), row, i
# %%
weights = np.array([0.2, 0.8])
weights *= 2
# %%
try:
    weights @ np.ones(3)
except ValueError as e:
    print(e)
# %%
lookup = dict(mean=lambda n: report.line(n), rank=rank)
lookup["len"] = len
# %%
f = lookup["mean"]
f("a")
# %%
Report = None
# %%
_ = 5
# %%
%%serve_handler report --sample {"q": "mean", "of": "b"}
def predict(batch):
    return [[lookup[r["q"]](r["of"]), scaled(1)] if r["q"] in lookup else [len(report), scaled(float(weights.sum()))] for r in batch]
