# style: kaggle
# about: out-of-fold stacking by hand: a list of fold models for each kind, a meta model on top
# insensitive: meta
# input: X[10].tolist()
# input: X[170].tolist()
# %%
import gc
import random
import numpy as np
# %%
class CFG:
    seed = 13
    folds = 3
    kinds = ["logreg", "knn", "nb"]
    debug = False
# %%
def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
seed_everything(CFG.seed)
# %%
from sklearn.datasets import load_wine
raw = load_wine()
X, y = raw.data, raw.target
# %%
from sklearn.preprocessing import StandardScaler
scaler = StandardScaler().fit(X)
Xs = scaler.transform(X)
# %%
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
# %%
def build(kind):
    if kind == "logreg":
        return LogisticRegression(max_iter=200)
    if kind == "knn":
        return KNeighborsClassifier(5)
    return GaussianNB()
# %%
from sklearn.model_selection import StratifiedKFold
skf = StratifiedKFold(CFG.folds, shuffle=True, random_state=CFG.seed)
splits = list(skf.split(Xs, y))
# %%
oof = np.zeros((len(CFG.kinds), len(X), 3))
fold_models = {kind: [] for kind in CFG.kinds}
# %%
for k, kind in enumerate(CFG.kinds):
    for fold, (trn, val) in enumerate(splits):
        model = build(kind).fit(Xs[trn], y[trn])
        oof[k, val] = model.predict_proba(Xs[val])
        fold_models[kind].append(model)
    print(kind, (oof[k].argmax(1) == y).mean())
# %%
meta_X = np.concatenate(list(oof), axis=1)
meta = LogisticRegression(C=0.5, max_iter=300).fit(meta_X, y)
# %%
(meta.predict(meta_X) == y).mean()
# %%
del oof, meta_X
gc.collect()
# %%
def predict_kind(kind, rows):
    return np.mean([m.predict_proba(rows) for m in fold_models[kind]], axis=0)
# %%
def stack(rows):
    return np.concatenate([predict_kind(kind, rows) for kind in CFG.kinds], axis=1)
# %%
names = {i: str(n) for i, n in enumerate(raw.target_names)}
# %%
%%serve_handler stacking --sample X[10].tolist()
def predict(batch):
    p = meta.predict_proba(stack(scaler.transform(np.array(batch))))
    return [{"name": names[int(row.argmax())], "p": row.round(6).tolist(), "debug": CFG.debug} for row in p]
