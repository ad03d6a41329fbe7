# style: values
# about: %nbserve serve of a module as it stands
# input: [1.0, 2.0, 3.0]
# input: [0.5, 0.5, 0.5]
# %%
import torch
from torch import nn
torch.manual_seed(0)
# %%
class Residual(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.b = nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, x):
        return x + self.b(torch.relu(self.a(x)))
# %%
net = nn.Sequential(Residual(3), nn.BatchNorm1d(3), nn.Linear(3, 2))
net(torch.randn(16, 3))
# %%
%nbserve serve net --name residual --sample [1.0, 2.0, 3.0]
