# style: fine-tuning
# about: a model of transformers with attributes set by hand: a threshold, another dropout, a flag of a layer
# input: [1, 2, 3]
# input: [4, 5]
# %%
import torch
from transformers import BertConfig, BertForSequenceClassification
torch.manual_seed(0)
config = BertConfig(vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3)
model = BertForSequenceClassification(config).eval()
# %%
model.threshold = 0.25
model.dropout.p = 0.4
model.bert.encoder.layer[0].is_mine = True
# %%
def settings():
    return [model.threshold, model.dropout.p, model.bert.encoder.layer[0].is_mine]
# %%
%%serve_handler attributes --sample [1, 2, 3]
def predict(batch):
    out = []
    with torch.no_grad():
        for x in batch:
            p = model(input_ids=torch.tensor([x])).logits.softmax(-1)[0]
            out.append([p.tolist(), (p > model.threshold).tolist(), settings()])
    return out
