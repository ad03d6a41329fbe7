# style: training loop
# about: anomaly scores from an autoencoder: a threshold from the training errors, running statistics as buffers
# insensitive: history
# input: normal[0].tolist()
# unreached: RunningNorm.forward
# input: [9.0, -9.0, 9.0, -9.0, 9.0, 0.0]
# %%
import torch
import numpy as np
from torch import nn
# %%
torch.manual_seed(0)
np.random.seed(0)
# %%
basis = np.random.randn(2, 6)
normal = (np.random.randn(120, 2) @ basis + 0.05 * np.random.randn(120, 6)).astype("float32")
# %%
class RunningNorm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("var", torch.ones(n))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x):
        if self.training:
            self.count += len(x)
            self.mean.lerp_(x.mean(0), 0.3)
            self.var.lerp_(x.var(0), 0.3)
        return (x - self.mean) / (self.var + 1e-5).sqrt()
# %%
class AutoEncoder(nn.Module):
    def __init__(self, n, code):
        super().__init__()
        self.norm = RunningNorm(n)
        self.encoder = nn.Sequential(nn.Linear(n, 8), nn.ELU(), nn.Linear(8, code))
        self.decoder = nn.Sequential(nn.Linear(code, 8), nn.ELU(), nn.Linear(8, n))

    def forward(self, x):
        x = self.norm(x)
        return self.decoder(self.encoder(x)), x
# %%
ae = AutoEncoder(6, 2)
opt = torch.optim.RMSprop(ae.parameters(), 1e-2)
sched = torch.optim.lr_scheduler.StepLR(opt, 10, 0.5)
# %%
data = torch.from_numpy(normal)
losses = []
# %%
for epoch in range(25):
    for chunk in data.split(40):
        out, x = ae(chunk)
        loss = (out - x).square().mean()
        opt.zero_grad(); loss.backward(); opt.step()
    sched.step()
    losses.append(float(loss))
# %%
losses[::8]
# %%
ae.eval()
ae.norm.count
# %%
@torch.inference_mode()
def errors(x):
    out, x = ae(x)
    return (out - x).square().mean(1)
# %%
train_errors = errors(data).numpy()
# %%
QUANTILE = 0.95
threshold = np.quantile(train_errors, QUANTILE)
threshold
# %%
history = {"loss": losses, "threshold": threshold}
# %%
def severity(e):
    for name, factor in SEVERITY:
        if e > factor * history["threshold"]:
            return name
    return "fine"
# %%
SEVERITY = [("critical", 10), ("warning", 1)]
# %%
%%serve_handler anomalies --sample normal[0].tolist()
class Anomalies:
    def preprocess(self, rows):
        return torch.tensor([r.payload for r in rows])

    def inference(self, x):
        return errors(x)

    def postprocess(self, e):
        return [{"error": float(v), "severity": severity(float(v)), "seen": int(ae.norm.count)} for v in e]
