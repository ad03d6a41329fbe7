# style: fine-tuning
# about: a teacher distilled into a student through hooks and a temperature; both are served and compared
# input: X[2].tolist()
# input: X[60].tolist()
# %%
import copy
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_iris
# %%
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(5)
# %%
X_np, y_np = load_iris(return_X_y=True)
X = torch.tensor(X_np, dtype=torch.float32)
y = torch.tensor(y_np)
mu, sd = X.mean(0), X.std(0)
# %%
def mlp(*sizes, act=nn.ReLU):
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])
# %%
teacher = mlp(4, 32, 32, 3).to(device)
student = mlp(4, 6, 3, act=nn.Tanh).to(device)
# %%
T = 3.0
ALPHA = 0.7
# %%
def prepare(x):
    return (x.to(device) - mu) / sd
# %%
opt = torch.optim.Adam(teacher.parameters(), 0.02)
for i in range(30):
    loss = F.cross_entropy(teacher(prepare(X)), y)
    opt.zero_grad(); loss.backward(); opt.step()
# %%
frozen = copy.deepcopy(teacher).eval().requires_grad_(False)
# %%
def distill_loss(s, t, gold):
    soft = F.kl_div(F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction="batchmean") * T * T
    return ALPHA * soft + (1 - ALPHA) * F.cross_entropy(s, gold)
# %%
taps = {}
def tap(name):
    def hook(module, args, output):
        taps[name] = output.detach().abs().mean()
    return hook
h = student[0].register_forward_hook(tap("hidden"))
# %%
opt = torch.optim.Adam(student.parameters(), 0.02)
for i in range(30):
    loss = distill_loss(student(prepare(X)), frozen(prepare(X)), y)
    opt.zero_grad(); loss.backward(); opt.step()
# %%
h.remove()
taps
# %%
agree = (student(prepare(X)).argmax(1) == frozen(prepare(X)).argmax(1)).float().mean()
agree
# %%
names = load_iris().target_names
# %%
sizes = {n: sum(p.numel() for p in m.parameters()) for n, m in [("teacher", frozen), ("student", student)]}
sizes
# %%
%%serve_handler distilled --sample X[2].tolist()
class Compare:
    def preprocess(self, rows):
        return prepare(torch.tensor([r.payload for r in rows]))

    def inference(self, x):
        return student(x), frozen(x)

    def postprocess(self, both):
        return [{"student": str(names[int(s.argmax())]), "teacher": str(names[int(t.argmax())]), "kl": float(F.kl_div(s.log_softmax(-1), t.softmax(-1), reduction="sum")), "sizes": sizes}
                for s, t in zip(*both)]
