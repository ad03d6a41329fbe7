# style: training loop
# about: forecasting with sliding windows: a Dataset over pandas with a DatetimeIndex, scaling by the training part, a GRU with teacher forcing, an autoregressive loop, prediction intervals by residual quantiles
# input: {"history": [10, 11, 12, 13, 14, 15, 16, 17], "start": "2024-03-01", "steps": 3}
# input: {"history": [5.5, 5.0], "start": "2024-12-30", "steps": 2}
# input: {"history": [20, 22, 21, 19, 18, 17, 16, 20, 25, 30, 22], "start": "2024-07-05"}
# insensitive: WINDOW, mu, sigma, quantiles, net, FREQ, HOLIDAYS
# undetected: GRUForecaster.forward, WindowData
# unreached: WindowData.__len__, WindowData.__getitem__
# %%
import numpy as np
import pandas as pd
import torch
from torch import nn
# %%
FREQ = "D"
WINDOW = 7
rng = np.random.default_rng(11)
idx = pd.date_range("2023-01-01", periods=220, freq=FREQ)
series = pd.Series(15 + 4 * np.sin(2 * np.pi * np.arange(220) / 7) + 0.02 * np.arange(220) + rng.normal(0, 0.5, 220), index=idx, name="y")
series.head()
# %%
series.resample("W").mean().tail(3)
# %%
series = series.mask(rng.random(220) < 0.05).interpolate(method="time")
# %%
split = series.index[170]
train, valid = series[:split], series[split:]
mu, sigma = train.mean(), train.std()
# %%
HOLIDAYS = {pd.Timestamp("2024-12-31"), pd.Timestamp("2023-12-25")}
def calendar(index):
    dow = index.dayofweek.to_numpy()
    return np.stack([np.sin(2 * np.pi * dow / 7), np.cos(2 * np.pi * dow / 7), index.isin(list(HOLIDAYS)).astype(float)], axis=1)
# %%
calendar(idx[:3])
# %%
class WindowData(torch.utils.data.Dataset):
    def __init__(self, s, window):
        scaled = ((s - mu) / sigma).to_numpy(dtype=np.float32)
        feats = calendar(s.index).astype(np.float32)
        self.x = torch.from_numpy(np.concatenate([scaled[:, None], feats], axis=1))
        self.window = window

    def __len__(self):
        return len(self.x) - self.window

    def __getitem__(self, i):
        return self.x[i : i + self.window], self.x[i + self.window, 0]
# %%
data = WindowData(train, WINDOW)
len(data), data[0][0].shape
# %%
class GRUForecaster(nn.Module):
    def __init__(self, n_in=4, hidden=12):
        super().__init__()
        self.rnn = nn.GRU(n_in, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        _, h = self.rnn(x)
        return self.out(h[-1]).squeeze(-1)
# %%
torch.manual_seed(0)
net = GRUForecaster()
opt = torch.optim.Adam(net.parameters(), lr=0.02)
# %%
loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(1))
losses = []
for epoch in range(5):
    for xb, yb in loader:
        loss = nn.functional.huber_loss(net(xb), yb)
        opt.zero_grad(); loss.backward(); opt.step()
    losses.append(loss.item())
# %%
net.eval()
with torch.inference_mode():
    held = WindowData(pd.concat([train[-WINDOW:], valid]), WINDOW)
    residuals = np.array([(net(x[None]) - y).item() for x, y in (held[i] for i in range(len(held)))]) * sigma
quantiles = dict(zip((0.1, 0.9), np.quantile(residuals, [0.1, 0.9])))
# %%
def forecast(history, start, steps):
    values = list(map(float, history))
    if len(values) < WINDOW:
        values = [float(np.mean(values))] * (WINDOW - len(values)) + values
    days = pd.date_range(end=pd.Timestamp(start) - pd.Timedelta(days=1), periods=len(values), freq=FREQ)
    s = pd.Series(values, index=days)
    for _ in range(steps):
        last = s.iloc[-WINDOW:]
        x = np.concatenate([((last - mu) / sigma).to_numpy()[:, None], calendar(last.index)], axis=1)
        with torch.no_grad():
            y = net(torch.tensor(x[None], dtype=torch.float32)).item() * sigma + mu
        s.loc[s.index[-1] + pd.Timedelta(1, unit=FREQ)] = y
    return s.iloc[-steps:]
# %%
forecast(series[-8:], "2023-08-09", 2)
# %%
%%serve_handler forecast --sample {"history": [10, 11, 12, 13, 14, 15, 16, 17], "start": "2024-03-01", "steps": 3}
def predict(batch):
    answers = []
    for row in batch:
        f = forecast(row["history"], row["start"], row.get("steps", 1))
        answers.append({day.strftime("%a %d %b"): [round(v + quantiles[0.1], 4), round(v, 4), round(v + quantiles[0.9], 4)] for day, v in f.items()})
    return answers
