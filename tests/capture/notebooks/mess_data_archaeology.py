# style: exploratory
# about: a frame cleaned in place over many cells, the same cell run twice, lookups built from it, the frame itself deleted
# order: 1 2 3 4 5 6 5 7 8 9 10 11 12 13 14 15
# input: {"product": "Tea ", "qty": 3}
# input: {"product": "unknown", "qty": 1}
# %%
import pandas as pd, numpy as np
from io import StringIO
pd.options.mode.copy_on_write = True
# %%
raw = """product,price,when,stock
 Tea,3.50,2024-01-05,10
coffee,4.2,2024-01-06,
Tea,3.70,2024-02-01,7
Cake,,2024-02-03,2
coffee,4.4,2024-02-10,5
"""
df = pd.read_csv(StringIO(raw))
# %%
df.columns = [c.strip().lower() for c in df.columns]
df.info()
# %%
df["product"] = df["product"].str.strip().str.lower()
# %%
df["price"] = df["price"].fillna(df["price"].median()) * 1.0
df["bump"] = df.get("bump", 0) + 1
# %%
df.loc[df.stock.isna(), "stock"] = 0
# %%
df["when"] = pd.to_datetime(df["when"])
df["month"] = df["when"].dt.to_period("M")
# %%
latest = df.sort_values("when").groupby("product").last()
latest
# %%
prices = latest["price"].to_dict()
stock = latest["stock"].astype(int)
# %%
monthly = df.pivot_table(index="month", columns="product", values="price", aggfunc="mean")
monthly
# %%
trend = {p: np.polyfit(range(len(s)), s, 1) for p, s in monthly.ffill().bfill().items()}
bumps = int(df["bump"].iloc[0])
# %%
df.to_csv("clean.csv", index=False)
del df, raw
# %%
def key(name):
    return name.strip().lower()
# %%
def quote(row):
    k = key(row["product"])
    if k not in prices:
        return {"error": f"no {k}", "known": sorted(prices)}
    slope = float(trend[k][0])
    return {"total": round(prices[k] * row["qty"], 2), "left": int(stock[k]) - row["qty"], "slope": round(slope, 4), "bumps": bumps}
# %%
%%serve_handler quotes --sample {"product": "Tea ", "qty": 3}
def predict(batch):
    return [quote(row) for row in batch]
