# style: fine-tuning
# about: low-rank adapters injected into linear layers by name, only they are trained, one merged, one kept apart
# undetected: VOCAB, DIM
# input: [1, 4, 2, 3]
# input: [7, 7, 0, 1]
# unreached: LoRA.merge
# %%
import torch
from torch import nn
torch.manual_seed(21)
# %%
VOCAB, DIM = 8, 12
# %%
class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.scale = dim**-0.5

    def forward(self, x):
        a = (self.q_proj(x) @ self.k_proj(x).transpose(-1, -2) * self.scale).softmax(-1)
        return a @ self.v_proj(x)
# %%
class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(VOCAB, DIM)
        self.blocks = nn.ModuleList(Attention(DIM) for _ in range(2))
        self.head = nn.Linear(DIM, VOCAB, bias=False)
        self.head.weight = self.tok.weight

    def forward(self, ids):
        x = self.tok(ids)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)
# %%
base = LM()
sum(p.numel() for p in base.parameters())
# %%
class LoRA(nn.Module):
    """y = W x + B A x * alpha / r"""

    def __init__(self, inner, r=2, alpha=4):
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(r, inner.in_features) * 0.1)
        self.B = nn.Parameter(torch.zeros(inner.out_features, r))
        self.scaling = alpha / r
        self.merged = False

    def forward(self, x):
        y = self.inner(x)
        if self.merged:
            return y
        return y + x @ self.A.T @ self.B.T * self.scaling

    @torch.no_grad()
    def merge(self):
        self.inner.weight += self.B @ self.A * self.scaling
        self.merged = True
# %%
TARGETS = {"q_proj", "v_proj"}
def inject(model):
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if name in TARGETS and isinstance(child, nn.Linear):
                setattr(module, name, LoRA(child))
    return model
# %%
base.requires_grad_(False)
model = inject(base)
# %%
trainable = [n for n, p in model.named_parameters() if p.requires_grad]
trainable
# %%
data = torch.randint(0, VOCAB, (16, 5), generator=torch.Generator().manual_seed(3))
# %%
def loss_of(batch):
    logits = model(batch[:, :-1])
    return nn.functional.cross_entropy(logits.reshape(-1, VOCAB), batch[:, 1:].reshape(-1))
# %%
opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
before = loss_of(data).item()
# %%
for step in range(8):
    opt.zero_grad()
    loss = loss_of(data)
    loss.backward()
    opt.step()
# %%
loss_of(data).item() < before
# %%
model.blocks[0].q_proj.merge()
# %%
@torch.no_grad()
def generate(ids, steps=3):
    ids = list(ids)
    for _ in range(steps):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids
# %%
generate([1, 2])
# %%
%%serve_handler lora --sample [1, 4, 2, 3]
class Generate:
    def initialize(self, context):
        model.eval()

    def inference(self, batch):
        return [{"ids": generate(ids), "tied": model.head.weight is model.tok.weight, "merged": [b.q_proj.merged for b in model.blocks],
                 "logit": float(model(torch.tensor([ids])).sum())} for ids in batch]
