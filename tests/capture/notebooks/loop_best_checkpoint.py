# style: training loop
# about: a training loop with scheduler, gradient clipping, checkpoints to disk, early stopping, the best state restored; history and a config dataclass left over
# input: [0.1, 0.2, 0.3, 0.4]
# input: [-1.0, 2.0, 0.0, 0.5]
# input: [9.0, 9.0, 9.0, 9.0]
# insensitive: config, mean, std, norm
# undetected: _torch_nn_init
# unreached: Config, Config.<lambda>, Net._init
# %%
import copy
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split
# %%
@dataclass
class Config:
    hidden: tuple = (16, 8)
    lr: float = 0.01
    epochs: int = 12
    patience: int = 4
    clip: float = 1.0
    classes: list = field(default_factory=lambda: ["low", "mid", "high"])

config = Config(epochs=8)
torch.manual_seed(3)
# %%
X = torch.randn(240, 4)
y = torch.bucketize(X.sum(1), torch.tensor([-1.0, 1.0]))
mean, std = X.mean(0), X.std(0)
# %%
norm = lambda x: (x - mean) / std
train_set, valid_set = random_split(TensorDataset(norm(X), y), [200, 40], generator=torch.Generator().manual_seed(0))
train_dl = DataLoader(train_set, batch_size=32, shuffle=True)
valid_dl = DataLoader(valid_set, batch_size=40)
# %%
class Block(nn.Module):
    def __init__(self, i, o, p=0.1):
        super().__init__()
        self.fc, self.bn, self.drop = nn.Linear(i, o), nn.BatchNorm1d(o), nn.Dropout(p)
        self.skip = nn.Identity() if i == o else nn.Linear(i, o, bias=False)

    def forward(self, x):
        return self.drop(F.gelu(self.bn(self.fc(x)))) + self.skip(x)
# %%
class Net(nn.Module):
    def __init__(self, config, n_in=4):
        super().__init__()
        sizes = [n_in, *config.hidden]
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in zip(sizes, sizes[1:])))
        self.head = nn.Linear(sizes[-1], len(config.classes))
        self.apply(self._init)

    @staticmethod
    def _init(m):
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")

    def forward(self, x):
        return self.head(self.blocks(x))
# %%
net = Net(config)
sum(p.numel() for p in net.parameters())
# %%
opt = torch.optim.AdamW(net.parameters(), lr=config.lr)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=config.epochs)
# %%
@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right = total = 0
    for xb, yb in loader:
        right += (model(xb).argmax(1) == yb).sum().item()
        total += len(yb)
    return right / total
# %%
class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.best, self.bad, self.state = patience, -math.inf, 0, None

    def __call__(self, score, model):
        if score > self.best:
            self.best, self.bad, self.state = score, 0, copy.deepcopy(model.state_dict())
        else:
            self.bad += 1
        return self.bad >= self.patience
# %%
Path("checkpoints").mkdir(exist_ok=True)
history = []
stopper = EarlyStopping(config.patience)
for epoch in range(config.epochs):
    net.train()
    for xb, yb in train_dl:
        opt.zero_grad()
        loss = F.cross_entropy(net(xb), yb, label_smoothing=0.05)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), config.clip)
        opt.step()
    sched.step()
    acc = evaluate(net, valid_dl)
    history.append({"epoch": epoch, "loss": loss.item(), "acc": acc})
    torch.save({"model": net.state_dict(), "config": asdict(config), "epoch": epoch}, f"checkpoints/{epoch:02d}.pt")
    if stopper(acc, net):
        break
# %%
best = max(history, key=lambda h: h["acc"])
best
# %%
ckpt = torch.load(f"checkpoints/{best['epoch']:02d}.pt", weights_only=True)
net = Net(Config(**ckpt["config"]))
net.load_state_dict(ckpt["model"])
assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), stopper.state.values()))
# %%
temperature = nn.Parameter(torch.tensor(1.5))
# %%
%%serve_handler levels --sample [0.1, 0.2, 0.3, 0.4]
class Levels:
    def initialize(self, context):
        self.net = net.eval().to(context.device)

    def preprocess(self, rows):
        return norm(torch.tensor([row.payload for row in rows]))

    def inference(self, x):
        return (self.net(x) / temperature).softmax(-1)

    def postprocess(self, probs):
        return [{config.classes[int(p.argmax())]: round(float(p.max()), 5)} for p in probs]
