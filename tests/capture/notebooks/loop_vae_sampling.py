# style: training loop
# about: a variational autoencoder: the answers are random and equal under the same seed
# input: {"x": [0.1, 0.9, 0.4, 0.3]}
# input: {"n": 2}
# %%
import torch
import torch.nn.functional as F
from torch import nn, distributions as D
# %%
torch.manual_seed(0)
# %%
LATENT = 2
BETA = 0.5
# %%
class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(4, 2 * LATENT)
        self.dec = nn.Sequential(nn.Linear(LATENT, 8), nn.ReLU(), nn.Linear(8, 4))
        self.prior_mean = nn.Parameter(torch.zeros(LATENT), requires_grad=False)

    @property
    def prior(self):
        return D.Normal(self.prior_mean, torch.ones(LATENT))

    def posterior(self, x):
        mean, log_std = self.enc(x).chunk(2, -1)
        return D.Normal(mean, log_std.exp())

    def forward(self, x):
        q = self.posterior(x)
        z = q.rsample()
        return self.dec(z), q
# %%
vae = VAE()
# %%
X = torch.rand(64, 4)
X[:, 1] = X[:, 0] * 0.5
# %%
opt = torch.optim.Adam(vae.parameters(), 0.01)
# %%
def elbo(x):
    out, q = vae(x)
    return F.mse_loss(out, x) + BETA * 0.01 * D.kl_divergence(q, vae.prior).sum(-1).mean()
# %%
trace = []
# %%
for i in range(20):
    loss = elbo(X)
    opt.zero_grad(); loss.backward(); opt.step()
    trace.append(round(loss.item(), 4))
# %%
trace[-1]
# %%
vae.eval()
# %%
def reconstruct(x):
    out, q = vae(torch.tensor([x]))
    return out[0].tolist(), q.mean[0].tolist()
# %%
def dream(n):
    return vae.dec(vae.prior.sample((n,))).tolist()
# %%
reconstruct([0.1, 0.2, 0.3, 0.4])
# %%
dream(1)
# %%
%%serve_handler vae --sample {"x": [0.1, 0.9, 0.4, 0.3]}
def predict(batch):
    answers = []
    for row in batch:
        if "x" in row:
            out, mean = reconstruct(row["x"])
            answers.append({"out": out, "mean": mean})
        else:
            answers.append({"dream": dream(row["n"])})
    return answers
