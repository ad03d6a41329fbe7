# style: modules
# about: the module that a program of torch.export gives: the program itself can be shipped
# expect: refused: call `program.module()` in `initialize`
# input: [1.0, 2.0]
# input: [0.0, -1.0]
# %%
import torch
from torch import nn
net = nn.Linear(2, 3).eval()
program = torch.export.export(net, (torch.zeros(2),))
run = program.module()
# %%
%%serve_handler ensemble --sample [1.0, 2.0]
def predict(batch):
    return [run(torch.tensor(x)).tolist() for x in batch]
