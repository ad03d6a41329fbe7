# style: language
# about: classes that inherit from those of libraries: a layer, a Dataset, dict, int, str, Exception, Thread-free executor, json encoder
# insensitive: pairs
# unreached: Pairs.__add__
# input: {"x": [1.0, 2.0], "tag": "Ab"}
# input: {"x": [0.5, -3.0], "tag": "zz"}
# %%
import json
import torch
from torch import nn
from torch.utils.data import Dataset
torch.manual_seed(0)
# %%
class Clipped(nn.Linear):
    def __init__(self, *args, limit=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.limit = limit
    def forward(self, x):
        return super().forward(x).clamp(-self.limit, self.limit)
layer = Clipped(2, 3, limit=0.4)
# %%
class Pairs(Dataset):
    def __init__(self, items):
        self.items = items
    def __len__(self):
        return len(self.items)
    def __getitem__(self, index):
        return self.items[index]
    def __add__(self, other):
        return Pairs([*self.items, *other.items])
pairs = Pairs([(0, "a"), (1, "b")]) + Pairs([(2, "zz")])
# %%
class Grades(dict):
    def __missing__(self, key):
        return len(key)
class Money(int):
    def __str__(self):
        return f"{int(self)} EUR"
class Slug(str):
    def __new__(cls, text):
        return super().__new__(cls, text.lower())
grades, price, slug = Grades(Ab=5), Money(7), Slug("HeLLo")
# %%
class Encoder(json.JSONEncoder):
    def default(self, obj):
        return obj.tolist()
# %%
%%serve_handler subclasses --sample {"x": [1.0, 2.0], "tag": "Ab"}
def predict(batch):
    out = []
    for row in batch:
        found = [index for index, name in (pairs[i] for i in range(len(pairs))) if name == row["tag"]]
        text = json.dumps(layer(torch.tensor(row["x"])).detach(), cls=Encoder)
        out.append([json.loads(text), found, grades[row["tag"]], str(price), slug + row["tag"]])
    return out
