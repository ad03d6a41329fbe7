# style: values
# about: programs of torch.export, one with a free batch size and buffers, one of a function in a module; rebuilt from their archives
# input: [1.0, 2.0]
# input: [0.5, -1.0]
# %%
import torch
from torch import nn
torch.manual_seed(0)
class Scaler(nn.Module):
    def __init__(self, low, high):
        super().__init__()
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("span", torch.tensor(high) - torch.tensor(low))
    def forward(self, x):
        return (x - self.low) / self.span
# %%
net = nn.Sequential(Scaler([0.0, 0.0], [2.0, 4.0]), nn.Linear(2, 3), nn.BatchNorm1d(3), nn.GELU()).eval()
# %%
batch = torch.export.Dim("batch", min=1, max=64)
program = torch.export.export(net, (torch.ones(2, 2),), dynamic_shapes=({0: batch},))
# %%
class Norm(nn.Module):
    def forward(self, x):
        return torch.linalg.vector_norm(x, dim=-1)
norm = torch.export.export(Norm(), (torch.ones(2, 2),), dynamic_shapes=({0: batch},))
# %%
%%serve_handler exported --sample [1.0, 2.0]
class Exported:
    def initialize(self, context):
        self.net, self.norm = program.module(), norm.module()
    def preprocess(self, rows):
        return torch.tensor([row.payload for row in rows])
    def inference(self, x):
        return torch.cat([self.net(x), self.norm(x)[:, None]], dim=1)
    def postprocess(self, y):
        return y.tolist()
