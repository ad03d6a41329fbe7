# style: ambient
# input: [1.0, 2.0]
# about: a method of a library class replaced by the notebook's own
# expect: refused: was replaced by the notebook
# %%
import torch
def forward(self, x):
    return x * 0 + 7
torch.nn.ReLU.forward = forward
net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()).requires_grad_(False)
# %%
%%serve_handler patched --sample [1.0, 2.0]
def predict(batch):
    return [net(torch.tensor(x)).tolist() for x in batch]
