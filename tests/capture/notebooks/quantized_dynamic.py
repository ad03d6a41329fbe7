# style: values
# about: a model quantized to int8 weights for the CPU
# input: [0.1, 0.2, 0.3, 0.4]
# input: [1.0, 0.0, -1.0, 0.5]
# %%
import warnings

import torch
from torch import nn
warnings.filterwarnings("ignore")
torch.manual_seed(0)
# %%
full = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
# %%
small = torch.ao.quantization.quantize_dynamic(full, {nn.Linear}, dtype=torch.qint8)
# %%
%%serve_handler small --sample [0.1, 0.2, 0.3, 0.4]
def predict(batch):
    return small(torch.tensor(batch))
