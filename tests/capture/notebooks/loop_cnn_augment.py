# unreached: conv
# style: training loop
# about: a Dataset class, augmentation, a Trainer with callbacks, best weights kept by early stopping
# undetected: OrderedDict
# input: digits.images[7].tolist()
# input: digits.images[100].tolist()
# %%
import time
from collections import OrderedDict, defaultdict
from pathlib import Path
# %%
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split
from sklearn.datasets import load_digits
# %%
digits = load_digits()
g = torch.Generator().manual_seed(0)
# %%
class DigitSet(Dataset):
    def __init__(self, images, labels, train=True):
        self.images, self.labels, self.train = images, labels, train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        x = torch.tensor(self.images[i] / 16.0, dtype=torch.float32)[None]
        if self.train and torch.rand((), generator=g) < 0.5:
            x = torch.roll(x, 1, -1)
        return x, int(self.labels[i])
# %%
full = DigitSet(digits.images[:300], digits.target[:300])
train_set, valid_set = random_split(full, [240, 60], generator=g)
# %%
loaders = {"train": DataLoader(train_set, 32, shuffle=True, generator=g), "valid": DataLoader(valid_set, 60)}
# %%
def conv(cin, cout):
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(cin, cout, 3, padding=1), norm=nn.BatchNorm2d(cout), act=nn.SiLU()))
# %%
class SmallCNN(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.body = nn.Sequential(conv(1, width), nn.MaxPool2d(2), conv(width, width * 2), nn.AdaptiveMaxPool2d(2))
        self.head = nn.Linear(width * 8, 10)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))
# %%
class Callback:
    def on_epoch_end(self, trainer, metrics): ...

class EarlyStopping(Callback):
    def __init__(self, patience=2):
        self.patience, self.best, self.bad, self.weights = patience, -1.0, 0, None

    def on_epoch_end(self, trainer, metrics):
        if metrics["acc"] > self.best:
            self.best, self.bad = metrics["acc"], 0
            self.weights = {k: v.clone() for k, v in trainer.model.state_dict().items()}
        else:
            self.bad += 1
            trainer.stop = self.bad >= self.patience
# %%
class Trainer:
    def __init__(self, model, callbacks, lr):
        self.model, self.callbacks, self.stop = model, callbacks, False
        self.opt = torch.optim.AdamW(model.parameters(), lr)
        self.log = defaultdict(list)

    def epoch(self, loader, train):
        self.model.train(train)
        hits = n = 0
        with torch.set_grad_enabled(train):
            for x, y in loader:
                out = self.model(x)
                loss = nn.functional.cross_entropy(out, y)
                if train:
                    self.opt.zero_grad(); loss.backward(); self.opt.step()
                hits += (out.argmax(1) == y).sum().item()
                n += len(y)
        return hits / n

    def fit(self, epochs):
        for e in range(epochs):
            self.epoch(loaders["train"], True)
            metrics = {"acc": self.epoch(loaders["valid"], False)}
            self.log["acc"].append(metrics["acc"])
            for c in self.callbacks:
                c.on_epoch_end(self, metrics)
            if self.stop:
                break
# %%
torch.manual_seed(1)
model = SmallCNN()
stopper = EarlyStopping()
trainer = Trainer(model, [stopper], lr=0.01)
# %%
%%time
trainer.fit(3)
# %%
trainer.log["acc"]
# %%
model.load_state_dict(stopper.weights)
best = round(stopper.best, 4)
# %%
torch.save(model.state_dict(), "best.pt")
size = Path("best.pt").stat().st_size > 0
# %%
again = SmallCNN()
again.load_state_dict(torch.load("best.pt"))
# %%
%%serve_handler cnn --sample digits.images[7].tolist()
from nbserve import Handler

class Digits(Handler):
    def initialize(self, context):
        self.model = again.eval()

    def preprocess(self, rows):
        return torch.tensor([r.payload for r in rows], dtype=torch.float32)[:, None] / 16.0

    def inference(self, x):
        return self.model(x).softmax(1)

    def postprocess(self, p):
        top = p.topk(2)
        return [{"top": i.tolist(), "p": v.tolist(), "best": best, "size": size} for v, i in zip(top.values, top.indices)]
