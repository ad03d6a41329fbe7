# style: exploratory
# about: cells run out of order and again, names reused for other things, experiments left over, the model replaced three times
# order: 1 2 4 3 5 6 7 6 8 9 11 10 12 13 12 14 15 16 17 18
# undetected: _torch_nn_init
# input: [0.2, 0.4]
# input: [3.0, -1.0]
# unreached: Net.reset
# %%
import torch, numpy as np
from torch import nn
# %%
x = torch.linspace(-2, 2, 40)[:, None]
# %%
y = f(x)
# %%
f = lambda t: t**2
# %%
model = nn.Linear(1, 1)
# %%
class Net(nn.Module):
    def __init__(self, h=4):
        super().__init__()
        self.l1 = nn.Linear(2, h); self.l2 = nn.Linear(h, 1)

    def reset(self):
        nn.init.zeros_(self.l2.weight)

    def forward(self, t):
        return self.l2(act(self.l1(t)))
# %%
act = torch.relu
torch.manual_seed(0)
model = Net()
# %%
data = torch.cat([x, x.flip(0)], 1)
out = model(data)
# %%
def train(n=5, lr=0.1):
    global model, loss
    opt = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(n):
        loss = ((model(data) - y) ** 2).mean()
        opt.zero_grad(); loss.backward(); opt.step()
    return loss.item()
# %%
act = torch.tanh
# %%
train(10)
# %%
train()
# %%
results = {}
for h in (2, 3):
    torch.manual_seed(h)
    model = Net(h)
    results[h] = train(4)
# %%
best = min(results, key=results.get)
model.name = f"net-{best}"
# %%
f = "not a function any more"
x = 5
# %%
tmp = [results, model, best]
del tmp, f
# %%
def show(t):
    return f"{float(t):.{x}f}"
# %%
%%serve_handler mess --sample [0.2, 0.4]
def predict(batch):
    with torch.no_grad():
        return [{"y": show(model(torch.tensor(t))), "name": model.name, "r": results} for t in batch]
