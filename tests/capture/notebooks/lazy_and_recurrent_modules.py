# style: values
# about: a lazy module made concrete by its first batch, an LSTM with flat weights, embeddings with padding
# input: [1, 2, 3]
# input: [4, 0, 0]
# %%
import torch
from torch import nn
torch.manual_seed(5)
# %%
class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 4, padding_idx=0)
        self.lstm = nn.LSTM(4, 3, num_layers=2, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(6)
        self.out = nn.LazyLinear(2)

    def forward(self, ids):
        states, (last, _) = self.lstm(self.embed(ids))
        return self.out(self.norm(states).mean(1)), last
# %%
tagger = Tagger()
tagger(torch.tensor([[1, 2, 3]]))
tagger.eval()
# %%
%%serve_handler tagger --sample [1, 2, 3]
def predict(batch):
    logits, last = tagger(torch.tensor(batch))
    return [{"logits": row.tolist(), "kind": type(tagger.out).__name__, "last": round(float(last.sum()), 4)} for row in logits]
