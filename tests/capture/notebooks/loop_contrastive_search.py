# style: training loop
# about: a two-tower model trained by a contrastive loss, gradient accumulation, a learning rate by LambdaLR, an index of embeddings, search by cosine with a mask; towers share an embedding
# input: {"query": "red round fruit", "k": 2}
# input: {"query": "???", "k": 1}
# input: {"query": "fast animal", "k": 3, "not": ["horse"]}
# insensitive: towers, index, vocab, TAU, names
# unreached: Tower.__init__, Towers.__init__, Towers.forward
# undetected: Towers, math
# %%
import math
import re

import torch
from torch import nn
from torch.nn import functional as F
# %%
docs = {"apple": "a red round fruit that grows on trees", "banana": "a yellow long fruit", "horse": "a fast animal that people ride", "cheetah": "the fast wild animal", "cherry": "a small red fruit"}
pairs = [("red round fruit", "apple"), ("yellow fruit", "banana"), ("ride animal", "horse"), ("wild fast", "cheetah"), ("small red", "cherry")]
# %%
def words(text):
    return re.findall(r"[a-z]+", text.lower())
# %%
vocab = {w: i for i, w in enumerate(sorted({w for t in docs.values() for w in words(t)}), 1)}
names = list(docs)
len(vocab)
# %%
def encode(texts, length=8):
    ids = torch.zeros(len(texts), length, dtype=torch.long)
    for row, text in enumerate(texts):
        known = [vocab[w] for w in words(text) if w in vocab][:length]
        ids[row, : len(known)] = torch.tensor(known, dtype=torch.long)
    return ids
# %%
class Tower(nn.Module):
    def __init__(self, embedding, dim):
        super().__init__()
        self.embedding = embedding
        self.mix = nn.Sequential(nn.Linear(embedding.embedding_dim, dim), nn.LayerNorm(dim))

    def forward(self, ids):
        e = self.embedding(ids)
        mask = (ids > 0).unsqueeze(-1)
        return F.normalize(self.mix((e * mask).sum(1) / mask.sum(1).clamp(min=1)), dim=-1)
# %%
class Towers(nn.Module):
    def __init__(self, n, dim=8):
        super().__init__()
        shared = nn.Embedding(n + 1, 12, padding_idx=0)
        self.query, self.doc = Tower(shared, dim), Tower(shared, dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(5.0)))

    def forward(self, q, d):
        return self.query(q) @ self.doc(d).T * self.logit_scale.exp()
# %%
torch.manual_seed(4)
towers = Towers(len(vocab))
assert towers.query.embedding.weight is towers.doc.embedding.weight
# %%
opt = torch.optim.AdamW(towers.parameters(), lr=0.05)
sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(1.0, (s + 1) / 5))
# %%
ACCUMULATE = 2
history = []
for step in range(12):
    q, d = encode([p[0] for p in pairs]), encode([docs[p[1]] for p in pairs])
    logits = towers(q, d)
    target = torch.arange(len(pairs))
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    (loss / ACCUMULATE).backward()
    if (step + 1) % ACCUMULATE == 0:
        opt.step(); opt.zero_grad(); sched.step()
    history.append(loss.item())
history[0], history[-1]
# %%
towers.eval()
with torch.no_grad():
    index = towers.doc(encode([docs[n] for n in names]))
index.shape
# %%
torch.save({"index": index, "names": names}, "index.pt")
loaded = torch.load("index.pt")
assert torch.equal(loaded["index"], index)
# %%
TAU = nn.Parameter(torch.tensor(0.5), requires_grad=False)
# %%
@torch.inference_mode()
def search(query, k, without=()):
    scores = (towers.query(encode([query])) @ index.T)[0] / TAU
    for n in without:
        scores[names.index(n)] = -torch.inf
    best = scores.topk(k)
    return [[names[i], round(s, 5)] for s, i in zip(best.values.tolist(), best.indices.tolist())]
# %%
search("red fruit", 2)
# %%
%%serve_handler search --sample {"query": "red round fruit", "k": 2}
def predict(batch):
    return [search(row["query"], row["k"], row.get("not", ())) for row in batch]
