# style: kaggle
# about: daily sales with lags, holidays and group statistics; the handler builds lags from the history it carries
# insensitive: HOLIDAYS, frame
# input: {"store": 1, "date": "2024-03-02"}
# input: {"store": 2, "date": "2024-03-08"}
# input: {"store": 9, "date": "2024-03-08"}
# %%
import pandas as pd
import numpy as np
from datetime import date, timedelta
# %%
START = date(2024, 1, 1)
DAYS = 60
STORES = [1, 2]
# %%
np.random.seed(0)
rows = []
for store in STORES:
    for d in range(DAYS):
        day = START + timedelta(days=d)
        rows.append((store, pd.Timestamp(day), 50 * store + 10 * (day.weekday() >= 5) + 5 * np.sin(d / 5) + np.random.randn()))
sales = pd.DataFrame(rows, columns=["store", "date", "sales"])
# %%
sales.groupby("store")["sales"].agg(["mean", "std"])
# %%
HOLIDAYS = {pd.Timestamp("2024-01-01"): "new year", pd.Timestamp("2024-03-08"): "day off"}
# %%
def calendar(ts):
    return {"dow": ts.dayofweek, "dom": ts.day, "holiday": int(ts in HOLIDAYS), "weekend": int(ts.dayofweek >= 5)}
# %%
LAGS = (1, 7, 14)
wide = sales.pivot(index="date", columns="store", values="sales")
# %%
def lag_features(history, ts):
    out = {}
    for lag in LAGS:
        at = ts - pd.Timedelta(days=lag)
        out[f"lag_{lag}"] = float(history.get(at, history.iloc[-1]))
    window = history[history.index < ts].tail(7)
    out["roll7"] = float(window.mean())
    return out
# %%
def row_of(store, ts):
    return {"store": store, **calendar(ts), **lag_features(wide[store], ts)}
# %%
train_rows, target = [], []
for store in STORES:
    for ts in wide.index[15:]:
        train_rows.append(row_of(store, ts))
        target.append(wide.loc[ts, store])
frame = pd.DataFrame(train_rows)
# %%
frame.tail(3)
# %%
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error
cut = len(frame) - 20
# %%
reg = LinearRegression().fit(frame.iloc[:cut], target[:cut])
mean_absolute_error(target[cut:], reg.predict(frame.iloc[cut:]))
# %%
residual_std = float(np.std(np.array(target) - reg.predict(frame)))
# %%
coefs = dict(zip(frame.columns, reg.coef_.round(3)))
coefs
# %%
%%serve_handler sales --sample {"store": 1, "date": "2024-03-02"}
from nbserve.errors import BadRequest

def predict(batch):
    answers = []
    for row in batch:
        if row["store"] not in wide.columns:
            raise BadRequest(f"no store {row['store']}")
        ts = pd.Timestamp(row["date"])
        y = float(reg.predict(pd.DataFrame([row_of(row["store"], ts)])[list(frame.columns)])[0])
        answers.append({"y": round(y, 3), "low": round(y - 2 * residual_std, 3), "holiday": HOLIDAYS.get(ts)})
    return answers
