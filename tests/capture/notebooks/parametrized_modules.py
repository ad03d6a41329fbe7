# unreached: Symmetric.right_inverse
# style: values
# about: weight norm, spectral norm and a parametrization of one's own
# input: [1.0, -1.0]
# input: [0.5, 2.0]
# %%
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm
torch.manual_seed(0)
# %%
class Symmetric(nn.Module):
    def forward(self, X):
        return X.triu() + X.triu(1).transpose(-1, -2)

    def right_inverse(self, A):
        return A.triu()
# %%
layer = nn.Linear(2, 2)
parametrize.register_parametrization(layer, "weight", Symmetric())
# %%
model = nn.Sequential(layer, weight_norm(nn.Linear(2, 3)), nn.ReLU(), spectral_norm(nn.Linear(3, 3)), orthogonal(nn.Linear(3, 3))).eval()
# %%
%%serve_handler norms --sample [1.0, -1.0]
def predict(batch):
    with torch.no_grad():
        out = model(torch.tensor(batch))
    symmetric = bool(torch.equal(layer.weight, layer.weight.T))
    return [{"y": row.tolist(), "symmetric": symmetric, "kind": parametrize.is_parametrized(layer)} for row in out]
