# style: training loop
# about: a character GRU for made-up names, sampling with temperature under a fixed generator, vocabulary maps
# insensitive: stoi
# input: {"start": "ma", "n": 4}
# input: {"start": "", "n": 3, "temperature": 0.5}
# %%
import string, random, math
import torch
from torch import nn
# %%
names = ["maria", "marco", "anna", "hanna", "tomas", "tamara", "ramon", "nora"]
# %%
EOS = "."
alphabet = sorted(set("".join(names)) | {EOS})
stoi = {c: i for i, c in enumerate(alphabet)}
itos = dict(enumerate(alphabet))
# %%
encode = lambda s: [stoi[c] for c in s if c in stoi]
decode = lambda ids: "".join(itos[i] for i in ids)
# %%
assert decode(encode("anna")) == "anna"
# %%
class CharGRU(nn.Module):
    def __init__(self, vocab, hidden=16):
        super().__init__()
        self.hidden = hidden
        self.embed = nn.Embedding(vocab + 1, 8)
        self.gru = nn.GRUCell(8, hidden)
        self.out = nn.Linear(hidden, vocab)

    def forward(self, i, h):
        h = self.gru(self.embed(i), h)
        return self.out(h), h

    def init_hidden(self, n=1):
        return torch.zeros(n, self.hidden)
# %%
torch.manual_seed(8)
net = CharGRU(len(alphabet))
START = len(alphabet)
# %%
def pairs(name):
    ids = encode(name)
    return [START, *ids], [*ids, stoi[EOS]]
# %%
opt = torch.optim.Adam(net.parameters(), 0.02)
criterion = nn.CrossEntropyLoss(reduction="sum")
# %%
def step(name):
    xs, ys = pairs(name)
    h = net.init_hidden()
    loss = 0
    for x, y in zip(xs, ys):
        logits, h = net(torch.tensor([x]), h)
        loss = loss + criterion(logits, torch.tensor([y]))
    opt.zero_grad(); loss.backward(); opt.step()
    return loss.item() / len(xs)
# %%
random.seed(0)
curve = []
for it in range(40):
    curve.append(step(random.choice(names)))
# %%
smooth = [sum(curve[i : i + 8]) / 8 for i in range(0, len(curve), 8)]
smooth
# %%
@torch.no_grad()
def sample(start, n, temperature=1.0, seed=0):
    gen = torch.Generator().manual_seed(seed)
    h = net.init_hidden()
    text = ""
    for i in [START, *encode(start)]:
        logits, h = net(torch.tensor([i]), h)
    for _ in range(n):
        p = (logits / temperature).softmax(-1)
        i = int(torch.multinomial(p[0], 1, generator=gen))
        if itos[i] == EOS:
            text += EOS
            i = START
        else:
            text += itos[i]
        logits, h = net(torch.tensor([i]), h)
    return start + text
# %%
sample("ma", 4)
# %%
perplexity = math.exp(sum(curve[-8:]) / 8)
# %%
%%serve_handler names --sample {"start": "ma", "n": 4}
def predict(batch):
    return [{"name": sample(row["start"], row["n"] * 6, row.get("temperature", 1.0)), "perplexity": round(perplexity, 3)} for row in batch]
