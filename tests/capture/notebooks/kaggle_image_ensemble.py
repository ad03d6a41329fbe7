# style: kaggle
# about: digits by an ensemble of torch and scikit-learn models, test-time augmentation, numpy preprocessing with padding and centring, temperature scaling, class names from a frame
# input: x_test[0].reshape(8, 8).tolist()
# input: x_test[1].reshape(8, 8).tolist()
# input: np.zeros((8, 8)).tolist()
# input: (x_test[2].reshape(8, 8)[1:, :6]).tolist()
# insensitive: TTA, members, T, SHIFTS, knn, names, MEAN, STD, scaler
# undetected: CFG
# %%
import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from functools import partial
# %%
class CFG:
    size = 8
    seed = 1337
    device = "cuda" if torch.cuda.is_available() else "cpu"
    epochs = 3

def set_seed(seed):
    np.random.seed(seed); torch.manual_seed(seed)
set_seed(CFG.seed)
# %%
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
digits = load_digits()
x_train, x_test, y_train, y_test = train_test_split(digits.data.astype("float32"), digits.target, train_size=400, random_state=CFG.seed, stratify=digits.target)
# %%
names = pd.DataFrame({"label": range(10), "name": "zero one two three four five six seven eight nine".split()}).set_index("label")["name"]
names
# %%
MEAN, STD = x_train.mean(), x_train.std()
# %%
def pad_to(image, size=CFG.size):
    image = np.asarray(image, dtype="float32")
    h, w = image.shape
    top, left = (size - h) // 2, (size - w) // 2
    return np.pad(image, ((top, size - h - top), (left, size - w - left)))
# %%
def centre(image):
    total = image.sum()
    if total == 0:
        return image
    rows, cols = np.indices(image.shape)
    dy, dx = (round(3.5 - float((g * image).sum() / total)) for g in (rows, cols))
    return np.roll(image, (dy, dx), axis=(0, 1))
# %%
def make_net(width):
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(width * 16, 10))
# %%
def fit(net, x, y, epochs=CFG.epochs):
    opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for i in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(net(x[i]), y[i])
            opt.zero_grad(set_to_none=True); loss.backward(); opt.step()
    return net.eval()
# %%
xt = (torch.from_numpy(np.stack([centre(im) for im in x_train.reshape(-1, 8, 8)])) - MEAN).div(STD)[:, None]
yt = torch.from_numpy(y_train)
# %%
members = {f"cnn{w}": fit(make_net(w), xt, yt) for w in (4, 8)}
# %%
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
scaler = StandardScaler().fit(x_train)
knn = KNeighborsClassifier(5, weights="distance").fit(scaler.transform(x_train), y_train)
knn.score(scaler.transform(x_test[:100]), y_test[:100])
# %%
SHIFTS = [(0, 0), (0, 1), (1, 0)]
TTA = [partial(np.roll, shift=s, axis=(0, 1)) for s in SHIFTS]
# %%
T = nn.Parameter(torch.ones(()) * 1.3)
@torch.no_grad()
def torch_probs(image):
    views = np.stack([f(image) for f in TTA])
    x = torch.from_numpy((views - MEAN) / STD).float()[:, None]
    return {k: (m(x) / T).softmax(-1).mean(0).numpy() for k, m in members.items()}
# %%
def ensemble(image):
    image = centre(pad_to(image))
    probs = torch_probs(image)
    probs["knn"] = knn.predict_proba(scaler.transform(image.reshape(1, -1)))[0]
    return pd.DataFrame(probs).mean(axis=1)
# %%
np.mean([ensemble(x.reshape(8, 8)).idxmax() == y for x, y in zip(x_test[:40], y_test[:40])])
# %%
submission = pd.DataFrame({"ImageId": range(1, 11), "Label": [ensemble(x.reshape(8, 8)).idxmax() for x in x_test[:10]]})
submission.to_csv("submission.csv", index=False)
# %%
%%serve_handler digits --sample x_test[0].reshape(8, 8).tolist()
def predict(batch):
    out = []
    for image in batch:
        p = ensemble(image)
        top = p.nlargest(2)
        out.append({"name": names[top.index[0]], "p": round(float(top.iloc[0]), 5), "second": int(top.index[1])})
    return out
