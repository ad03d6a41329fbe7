# style: exploratory
# about: everything that was ever trained kept in one dict: torch, scikit-learn, plain functions, lambdas and classes from three versions of a cell
# order: 1 2 3 4 5 4 6 7 8 9 10 11 12 13 14 15 16
# insensitive: CUT
# input: X[1].tolist()
# input: X[120].tolist()
# %%
import numpy as np
import torch
from sklearn.datasets import load_iris
X, y = load_iris(return_X_y=True)
# %%
zoo = {}
scores = {}
# %%
version = 0
# %%
version += 1
class Majority:
    made_by = version

    def __init__(self, y):
        self.answer = int(np.bincount(y).argmax()) + version

    def predict(self, rows):
        return [self.answer % 3 for _ in rows]
# %%
zoo[f"majority{version}"] = Majority(y)
# %%
zoo[f"majority{version}"] = Majority(y[60:])
# %%
def rule(rows):
    return [0 if r[2] < CUT else 1 if r[3] < 1.7 else 2 for r in rows]
CUT = 2.5
zoo["rule"] = rule
# %%
zoo["constant"] = lambda rows, c=2: [c] * len(rows)
# %%
from sklearn.linear_model import Perceptron
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis as LDA
for cls in (Perceptron, LDA):
    zoo[cls.__name__.lower()] = cls().fit(X, y)
# %%
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 3))
class Wrap:
    def __init__(self, net): self.net = net
    def predict(self, rows):
        with torch.no_grad():
            return self.net(torch.tensor(np.asarray(rows), dtype=torch.float32)).argmax(1).tolist()
zoo["torch"] = Wrap(net)
# %%
def ask(member, rows):
    return [int(v) for v in (member(rows) if callable(member) else member.predict(rows))]
# %%
for name, member in zoo.items():
    scores[name] = float(np.mean(np.array(ask(member, X)) == y))
scores
# %%
CUT = 2.6
# %%
good = {name for name, s in scores.items() if s > 0.6}
# %%
zoo.pop("majority1", None)
old, Majority = Majority, None
# %%
%%serve_handler zoo --sample X[1].tolist()
def predict(batch):
    votes = {name: ask(member, np.array(batch)) for name, member in sorted(zoo.items())}
    return [{"votes": {n: v[i] for n, v in votes.items()}, "good": sorted(good), "made": old.made_by} for i in range(len(batch))]
