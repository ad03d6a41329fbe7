# style: homework
# about: a decision tree and k-means by hand, recursion with dataclass nodes, printed by a visitor
# undetected: Counter
# insensitive: centres
# input: X[0].tolist()
# input: X[149].tolist()
# unreached: Leaf.of, majority
# %%
from collections import Counter
from dataclasses import dataclass
from typing import Optional, Union
# %%
import numpy as np
from sklearn.datasets import load_iris
X, y = load_iris(return_X_y=True)
names = [str(n) for n in load_iris().target_names]
# %%
def gini(labels):
    _, counts = np.unique(labels, return_counts=True)
    p = counts / counts.sum()
    return 1 - (p**2).sum()
# %%
gini(y)
# %%
@dataclass
class Leaf:
    label: int
    n: int

    @classmethod
    def of(cls, labels):
        return cls(majority(labels), len(labels))

@dataclass
class Split:
    feature: int
    at: float
    left: "Tree"
    right: "Tree"

Tree = Union[Leaf, Split]
# %%
def majority(labels):
    return int(Counter(labels.tolist()).most_common(1)[0][0])
# %%
def best_split(X, y):
    best = (gini(y), None, None)
    for f in range(X.shape[1]):
        for at in np.unique(X[:, f])[:-1]:
            left = X[:, f] <= at
            score = left.mean() * gini(y[left]) + (~left).mean() * gini(y[~left])
            if score < best[0] - 1e-9:
                best = (score, f, float(at))
    return best
# %%
best_split(X, y)
# %%
def grow(X, y, depth=3) -> Tree:
    _, f, at = best_split(X, y)
    if depth == 0 or f is None:
        return Leaf.of(y)
    left = X[:, f] <= at
    return Split(f, at, grow(X[left], y[left], depth - 1), grow(X[~left], y[~left], depth - 1))
# %%
tree = grow(X, y)
# %%
def classify(tree: Tree, x, trail: Optional[list] = None) -> Leaf:
    while isinstance(tree, Split):
        went_left = x[tree.feature] <= tree.at
        if trail is not None:
            trail.append(f"x{tree.feature} {'<=' if went_left else '>'} {tree.at}")
        tree = tree.left if went_left else tree.right
    return tree
# %%
np.mean([classify(tree, x).label == t for x, t in zip(X, y)])
# %%
def depth(tree):
    return 0 if isinstance(tree, Leaf) else 1 + max(depth(tree.left), depth(tree.right))
# %%
def kmeans(X, k, steps=10, seed=0):
    centres = X[np.random.default_rng(seed).choice(len(X), k, replace=False)]
    for _ in range(steps):
        nearest = ((X[:, None] - centres) ** 2).sum(-1).argmin(1)
        centres = np.array([X[nearest == j].mean(0) for j in range(k)])
    return centres, nearest
# %%
centres, nearest = kmeans(X, 3)
# %%
cluster_names = {j: names[majority(y[nearest == j])] for j in range(3)}
cluster_names
# %%
def cluster(x):
    return cluster_names[int(((centres - x) ** 2).sum(1).argmin())]
# %%
%%serve_handler tree --sample X[0].tolist()
def predict(batch):
    answers = []
    for x in batch:
        trail = []
        leaf = classify(tree, x, trail)
        answers.append({"name": names[leaf.label], "n": leaf.n, "because": trail, "depth": depth(tree), "cluster": cluster(np.array(x))})
    return answers
