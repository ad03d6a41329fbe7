# style: modules
# about: weight_norm of both kinds, spectral_norm, pruning with masks and hooks, a plain list of tensors on a module
# input: [1.0, 2.0]
# input: [0.0, -3.0]
# undetected: _torch_nn_utils, _torch_nn_utils_parametrizations
# %%
import torch
from torch import nn
import torch.nn.utils.prune as prune
torch.manual_seed(1)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.utils.parametrizations.weight_norm(nn.Linear(2, 4))
        self.b = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
        self.c = nn.Linear(4, 2)
        self.shifts = [torch.ones(2) * i for i in range(3)]
    def forward(self, x):
        x = self.c(torch.relu(self.b(torch.relu(self.a(x)))))
        for shift in self.shifts:
            x = x + shift
        return x
net = Net().eval()
prune.l1_unstructured(net.c, "weight", amount=0.5)
# %%
%%serve_handler pruned --sample [1.0, 2.0]
def predict(batch):
    with torch.no_grad():
        return [net(torch.tensor(x)).tolist() for x in batch]
