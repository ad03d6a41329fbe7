# style: values
# about: an ensemble by stack_module_state, vmap and functional_call, beside a frozen script
# insensitive: template
# input: [1.0, 2.0]
# input: [0.0, -1.0]
# %%
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).eval()
# %%
from torch.func import functional_call, stack_module_state, vmap
ensemble = [nn.Linear(2, 1) for _ in range(3)]
params, buffers = stack_module_state(ensemble)
template = nn.Linear(2, 1)
# %%
def all_of(x):
    return vmap(lambda p: functional_call(template, p, (x,)))(params)
# %%
frozen = torch.jit.freeze(torch.jit.script(net))
# %%
%%serve_handler ensemble --sample [1.0, 2.0]
def predict(batch):
    return [{"all": all_of(torch.tensor(x)).flatten().tolist(), "net": frozen(torch.tensor(x)).tolist()} for x in batch]
