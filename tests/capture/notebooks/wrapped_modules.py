# style: values
# about: DataParallel and a compiled module that never compiled, torch.func and functional transforms of a module
# input: [1.0, 2.0]
# input: [0.0, 1.0]
# %%
import torch
from torch import nn
torch.manual_seed(4)
net = nn.Sequential(nn.Linear(2, 3), nn.Tanh()).eval()
# %%
parallel = nn.DataParallel(net)
averaged = torch.optim.swa_utils.AveragedModel(net)
averaged.update_parameters(net)
# %%
parameters = dict(net.named_parameters())
jacobian = torch.func.jacrev(lambda x: torch.func.functional_call(net, parameters, (x,)))
# %%
%%serve_handler wrapped --sample [1.0, 2.0]
def predict(batch):
    x = torch.tensor(batch)
    return [{"p": p.tolist(), "a": a.tolist(), "n": int(averaged.n_averaged)} for p, a in zip(parallel(x), averaged(x))]
