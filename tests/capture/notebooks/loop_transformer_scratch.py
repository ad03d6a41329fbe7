# style: training loop
# about: a transformer written from nothing: masks and rotary tables as buffers and caches, EMA weights served
# undetected: _torch_nn_init, Tensor
# input: [3, 1, 2, 0]
# input: [5, 5, 4, 1]
# unreached: GPT._init
# %%
from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple
# %%
import torch
from torch import Tensor, nn
# %%
class Config(NamedTuple):
    vocab: int = 6
    dim: int = 8
    heads: int = 2
    layers: int = 2
    context: int = 8
cfg = Config()
# %%
@lru_cache(maxsize=None)
def rotary(n: int, dim: int) -> tuple[Tensor, Tensor]:
    freq = 1.0 / 100 ** (torch.arange(0, dim, 2) / dim)
    angle = torch.outer(torch.arange(n), freq)
    return angle.cos(), angle.sin()
# %%
def rotate(x: Tensor) -> Tensor:
    cos, sin = rotary(x.shape[-2], x.shape[-1])
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
# %%
class Attention(nn.Module):
    mask: Tensor

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.heads = cfg.heads
        self.qkv = nn.Linear(cfg.dim, 3 * cfg.dim)
        self.proj = nn.Linear(cfg.dim, cfg.dim)
        self.register_buffer("mask", torch.full((cfg.context, cfg.context), -math.inf).triu(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = (t.view(b, n, self.heads, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        a = rotate(q) @ rotate(k).transpose(-1, -2) / math.sqrt(q.shape[-1]) + self.mask[:n, :n]
        return self.proj((a.softmax(-1) @ v).transpose(1, 2).reshape(b, n, d))
# %%
class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight
# %%
class Block(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.a, self.n1, self.n2 = Attention(cfg), RMSNorm(cfg.dim), RMSNorm(cfg.dim)
        self.mlp = nn.Sequential(nn.Linear(cfg.dim, 16), nn.GELU(approximate="tanh"), nn.Linear(16, cfg.dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.a(self.n1(x))
        return x + self.mlp(self.n2(x))
# %%
class GPT(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg
        self.wte = nn.Embedding(cfg.vocab, cfg.dim)
        self.blocks = nn.ModuleList([Block(cfg) for _ in range(cfg.layers)])
        self.lm_head = nn.Linear(cfg.dim, cfg.vocab, bias=False)
        self.apply(self._init)

    @staticmethod
    def _init(m: nn.Module) -> None:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, std=0.2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids)
        for block in self.blocks:
            x = block(x)
        return self.lm_head(x)
# %%
torch.manual_seed(2)
gpt = GPT(cfg)
# %%
ema = torch.optim.swa_utils.AveragedModel(gpt, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
# %%
def batch(n=16):
    x = torch.randint(0, cfg.vocab, (n, cfg.context))
    return x, x.sort(dim=1).values
# %%
opt = torch.optim.AdamW(gpt.parameters(), 0.01)
for it in range(15):
    x, y = batch()
    loss = nn.functional.cross_entropy(gpt(x).flatten(0, 1), y.flatten())
    opt.zero_grad(set_to_none=True); loss.backward(); opt.step()
    ema.update_parameters(gpt)
# %%
loss.item()
# %%
served = ema.module.eval()
n_averaged = int(ema.n_averaged)
# %%
%%serve_handler gpt --sample [3, 1, 2, 0]
class Sort:
    def inference(self, batch: list[list[int]]) -> Tensor:
        return served(torch.tensor(batch))

    def postprocess(self, logits: Tensor) -> list[dict]:
        return [{"ids": row.argmax(-1).tolist(), "sum": float(row.sum()), "cfg": served.cfg._asdict(), "n": n_averaged} for row in logits]
