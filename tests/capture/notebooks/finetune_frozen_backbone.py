# style: fine-tuning
# about: a convolutional backbone trained on one task, its head replaced for another, transforms composed of own classes
# input: images[0].tolist()
# input: images[30].tolist()
# %%
import torch, torch.nn as nn, torch.nn.functional as F
import numpy as np
from sklearn.datasets import load_digits
# %%
torch.manual_seed(11)
data = load_digits()
images, target = data.images, data.target
# %%
class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, x):
        return (x - self.mean) / self.std

    def __repr__(self):
        return f"Normalize({self.mean:.2f})"

class ToTensor:
    def __call__(self, x):
        return torch.as_tensor(np.asarray(x), dtype=torch.float32).unsqueeze(0)
# %%
class Compose:
    def __init__(self, *steps):
        self.steps = steps

    def __call__(self, x):
        for step in self.steps:
            x = step(x)
        return x

transform = Compose(ToTensor(), Normalize(images.mean(), images.std()))
# %%
class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.down = nn.Conv2d(cin, cout, 1, stride, bias=False) if stride != 1 or cin != cout else None

    def forward(self, x):
        identity = x if self.down is None else self.down(x)
        return F.relu(self.bn1(self.conv1(x)) + identity)
# %%
class Backbone(nn.Module):
    def __init__(self, block, widths, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 3, padding=1)
        self.layers = nn.Sequential(*[block(a, b, stride=2) for a, b in zip(widths, widths[1:])], block(widths[-1], widths[-1]))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward_features(self, x):
        return self.pool(self.layers(F.relu(self.stem(x)))).flatten(1)

    def forward(self, x):
        return self.fc(self.forward_features(x))
# %%
def backbone(pretrained=False, **kwargs):
    model = Backbone(BasicBlock, [4, 8], **kwargs)
    return model
# %%
X = torch.stack([transform(i) for i in images[:200]])
y = torch.tensor(target[:200])
# %%
def fit(model, X, y, epochs, lr=0.05):
    opt = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    for _ in range(epochs):
        opt.zero_grad()
        loss = F.cross_entropy(model(X), y)
        loss.backward()
        opt.step()
    return loss.item()
# %%
model = backbone(num_classes=10)
fit(model, X, y, 4)
# %%
for name, p in model.named_parameters():
    p.requires_grad = name.startswith("fc")
# %%
model.fc = nn.Sequential(nn.Dropout(0.3), nn.Linear(model.fc.in_features, 8), nn.ReLU(), nn.Linear(8, 2))
# %%
parity = y % 2
fit(model, X, parity, 4)
# %%
model.eval()
acc = (model(X).argmax(1) == parity).float().mean().item()
# %%
state = {k: v.clone() for k, v in model.state_dict().items()}
model.load_state_dict(state)
# %%
classes = ["even", "odd"]
# %%
%%serve_handler parity --sample images[0].tolist()
class Parity:
    def initialize(self, context):
        self.net = model.to(context.device).eval()

    def preprocess(self, rows):
        return torch.stack([transform(row.payload) for row in rows])

    def inference(self, x):
        return self.net(x).softmax(1)

    def postprocess(self, p):
        return [{"class": classes[int(r.argmax())], "p": r.tolist(), "t": repr(transform.steps[1])} for r in p]
