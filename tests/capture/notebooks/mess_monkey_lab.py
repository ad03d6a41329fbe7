# style: exploratory
# about: a research notebook: methods patched on with @patch, layers wrapped by decorators, partials of partials, magics and shell between
# undetected: Model.add, shift.__doc__, shift.__qualname__, shift.__name__, shift.__wrapped__
# insensitive: shift.n
# input: [1.0, 0.0, -1.0]
# input: [2.0, 2.0, 2.0]
# unreached: add
# %%
%load_ext autoreload
%autoreload 2
# %%
!mkdir -p runs && echo 0.25 > runs/lr.txt
lr = !cat runs/lr.txt
lr = float(lr[0])
# %%
import functools, torch
from torch import nn
from functools import partial
# %%
def patch(cls):
    def decorate(f):
        setattr(cls, f.__name__, f)
        return f
    return decorate
# %%
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList()
# %%
@patch(Model)
def add(self, layer):
    self.layers.append(layer)
    return self
# %%
@patch(Model)
def forward(self, x):
    for layer in self.layers:
        x = layer(x)
    return x
# %%
class Lambda(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)
# %%
scaled = partial(torch.mul, other=lr)
leaky = partial(nn.functional.leaky_relu, negative_slope=0.3)
def shift(x, by):
    return x + by
shift_two = partial(partial(shift), by=2.0)
# %%
torch.manual_seed(0)
m = Model().add(nn.Linear(3, 3)).add(Lambda(lambda x: torch.mul(x, lr))).add(Lambda(leaky)).add(Lambda(shift_two))
# %%
def traced(f):
    @functools.wraps(f)
    def inner(*a, **k):
        inner.n += 1
        return f(*a, **k)
    inner.n = 0
    return inner
# %%
shift = traced(shift)
m.layers[3].f = partial(shift, by=2.0)
# %%
%%time
m(torch.ones(1, 3))
# %%
@patch(Model)
def forward(self, x):
    for i, layer in enumerate(self.layers):
        x = layer(x) + (0.5 if i == 2 else 0)
    return x
# %%
m.eval()
before = shift.n
# %%
who = get_ipython().__class__.__name__
# %%
%%serve_handler lab --sample [1.0, 0.0, -1.0]
def predict(batch):
    y = m(torch.tensor(batch))
    return [{"y": r.tolist(), "before": before, "lr": lr} for r in y]
