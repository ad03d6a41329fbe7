# style: values
# about: a TorchScript module and a traced function
# input: [1.0, 2.0]
# input: [-3.0, 0.5]
# %%
import warnings

warnings.filterwarnings("ignore")
import torch
from torch import nn
torch.manual_seed(2)
# %%
class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        if bool(x.sum() > 0):
            return self.fc(x)
        return -self.fc(x)
# %%
scripted = torch.jit.script(Gate().eval())
traced = torch.jit.trace(nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()), torch.zeros(1, 2))
# %%
%%serve_handler gate --sample [1.0, 2.0]
def predict(batch):
    return [{"gate": scripted(torch.tensor(x)).tolist(), "traced": traced(torch.tensor(x)).tolist()} for x in batch]
