# style: ambient
# about: torch's default dtype set to float64
# input: [1, 2]
# input: [3, 4]
# %%
import torch
torch.set_default_dtype(torch.float64)
# %%
w = torch.tensor([0.1, 0.2])
# %%
%%serve_handler doubles --sample [1, 2]
def predict(batch):
    made = torch.ones(2) / 3
    return [{"y": (w * torch.tensor([float(v) for v in x]) * made).tolist(), "dtype": str(torch.zeros(1).dtype)} for x in batch]
