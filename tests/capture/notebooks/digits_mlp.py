# style: training loop
# about: a small network trained on the digits by hand
# input: X_test[0].tolist()
# input: X_test[5].tolist()
# input: [0.0] * 64
# %% [markdown]
# # Digits
# %%
import numpy as np
import torch
from torch import nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
# %%
torch.manual_seed(0)
digits = load_digits()
X = (digits.data / 16.0).astype(np.float32)
y = digits.target
# %%
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
X_train.shape, X_test.shape
# %%
class Net(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.fc1 = nn.Linear(64, hidden)
        self.fc2 = nn.Linear(hidden, 10)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        return self.fc2(self.drop(torch.relu(self.fc1(x))))
# %%
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
loss_fn = nn.CrossEntropyLoss()
# %%
xb, yb = torch.tensor(X_train), torch.tensor(y_train)
losses = []
for epoch in range(15):
    model.train()
    optimizer.zero_grad()
    loss = loss_fn(model(xb), yb)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
losses[-1]
# %%
model.eval()
with torch.no_grad():
    accuracy = (model(torch.tensor(X_test)).argmax(1).numpy() == y_test).mean()
accuracy
# %%
%%serve_handler digits --sample X_test[0].tolist()
from nbserve import Handler

class Digits(Handler):
    def initialize(self, context):
        self.model = model.eval()

    def preprocess(self, rows):
        return torch.tensor([row.payload for row in rows], dtype=torch.float32)

    def inference(self, batch):
        return self.model(batch).softmax(-1)

    def postprocess(self, probs):
        return [{"digit": int(p.argmax()), "p": float(p.max())} for p in probs]
