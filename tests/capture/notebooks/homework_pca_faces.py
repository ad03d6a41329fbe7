# style: homework
# about: PCA by SVD, nearest neighbours in the projected space, hidden tests that monkeypatch and restore
# undetected: _numpy_linalg
# input: (digits.data[3] / 16).tolist()
# input: (digits.data[8] / 16).tolist()
# %%
# Student: A. Example
# Do not change this cell
import numpy as np
GRADE = {}
# %%
def check(name):
    def decorate(test):
        try:
            test()
            GRADE[name] = 1
        except Exception as error:
            GRADE[name] = 0
            print(name, "failed:", error)
        return test
    return decorate
# %%
from sklearn.datasets import load_digits
digits = load_digits(n_class=6)
X = digits.data[:180] / 16
y = digits.target[:180]
# %%
# TODO: centre the data
def centre(X):
    return X - X.mean(0), X.mean(0)
# %%
@check("centre")
def _():
    Z, m = centre(X)
    assert abs(Z.mean()) < 1e-9
# %%
def pca(X, k):
    Z, mean = centre(X)
    U, S, Vt = np.linalg.svd(Z, full_matrices=False)
    return mean, Vt[:k], S[:k] ** 2 / (S**2).sum()
# %%
K = 5
mean, components, explained = pca(X, K)
explained.cumsum()
# %%
project = lambda x: (x - mean) @ components.T
restore = lambda z: z @ components + mean
# %%
@check("restore")
def _():
    assert np.abs(restore(project(X)) - X).mean() < 0.2
# %%
gallery = project(X)
# %%
def neighbours(z, k=3):
    d = np.linalg.norm(gallery - z, axis=1)
    order = np.argsort(d, kind="stable")[:k]
    return order, d[order]
# %%
def vote(labels):
    values, counts = np.unique(labels, return_counts=True)
    return int(values[counts.argmax()])
# %%
@check("knn")
def _():
    order, _ = neighbours(project(X[0]))
    assert vote(y[order]) == y[0]
# %%
@check("impossible")
def _():
    raise AssertionError("this one is meant to fail")
# %%
GRADE
# %%
points = sum(GRADE.values())
# %%
%%serve_handler knn --sample (digits.data[3] / 16).tolist()
def predict(batch):
    answers = []
    for x in batch:
        z = project(np.array(x))
        order, distance = neighbours(z)
        answers.append({"label": vote(y[order]), "d": distance.tolist(), "error": float(np.abs(restore(z) - x).mean()), "points": points})
    return answers
