# style: values
# about: a trainer object that holds its optimizer is used by the handler
# expect: refused: optimizer
# %%
import torch
from torch import nn

class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def predict(self, x):
        return self.model(x)

trainer = Trainer(nn.Linear(2, 1))
# %%
%%serve_handler trained --sample [1.0, 2.0]
def predict(batch):
    return trainer.predict(torch.tensor(batch))
