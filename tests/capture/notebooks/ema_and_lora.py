# style: fine-tuning
# expect: live only
# about: an averaged copy by torch.optim.swa_utils, low-rank wrappers around frozen layers that hold the original by reference
# input: [1.0, 2.0, 3.0]
# input: [0.0, -3.0, 1.0]
# insensitive: base
# %%
import torch, copy, math
from torch import nn
torch.manual_seed(1)
base = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
# %%
class Lora(nn.Module):
    def __init__(self, inner, rank=1):
        super().__init__()
        self.inner = inner
        self.down = nn.Parameter(torch.randn(rank, inner.in_features))
        self.up = nn.Parameter(torch.randn(inner.out_features, rank))
    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)
    def forward(self, x):
        return self.inner(x) + x @ self.down.T @ self.up.T
tuned = copy.deepcopy(base)
tuned[0] = Lora(base[0])
# %%
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
ema = AveragedModel(tuned, multi_avg_fn=get_ema_multi_avg_fn(0.9))
with torch.no_grad():
    for p in tuned.parameters():
        p += 0.1
ema.update_parameters(tuned)
# %%
%%serve_handler lora --sample [1.0, 2.0, 3.0]
def predict(batch):
    with torch.no_grad():
        return [[ema(torch.tensor(x)).tolist(), tuned(torch.tensor(x)).tolist(), tuned[0].in_features, tuned[0].inner is base[0]] for x in batch]
