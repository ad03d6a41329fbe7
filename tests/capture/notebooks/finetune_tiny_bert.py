# unreached: Args.<lambda>
# style: fine-tuning
# about: a small transformer fine-tuned for sentiment with its own training arguments, collator and metrics
# insensitive: args
# input: "a wonderful film"
# input: "boring and bad bad bad"
# %%
import math
import numpy as np
import torch
import transformers
transformers.logging.set_verbosity_error()
# %%
from dataclasses import dataclass, field
@dataclass
class Args:
    lr: float = 5e-3
    epochs: int = 3
    batch_size: int = 4
    max_length: int = 12
    labels: list = field(default_factory=lambda: ["negative", "positive"])
args = Args()
# %%
texts = ["a wonderful film", "great and moving", "lovely cast", "boring", "bad plot bad film", "dull and long"]
labels = [1, 1, 1, 0, 0, 0]
# %%
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
tok.normalizer = normalizers.BertNormalizer(lowercase=True)
tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
tok.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=80, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
# %%
from transformers import PreTrainedTokenizerFast
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tok, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
tokenizer("a wonderful film")
# %%
from transformers import AutoConfig, BertConfig, BertForSequenceClassification
config = BertConfig(vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=32,
                    id2label=dict(enumerate(args.labels)), label2id={l: i for i, l in enumerate(args.labels)})
# %%
torch.manual_seed(0)
model = BertForSequenceClassification(config)
sum(p.numel() for p in model.parameters())
# %%
def collate(batch):
    enc = tokenizer([t for t, _ in batch], padding=True, truncation=True, max_length=args.max_length, return_tensors="pt")
    enc["labels"] = torch.tensor([l for _, l in batch])
    return enc
# %%
from torch.utils.data import DataLoader
loader = DataLoader(list(zip(texts, labels)), batch_size=args.batch_size, shuffle=True, collate_fn=collate)
# %%
for p in model.bert.embeddings.parameters():
    p.requires_grad_(False)
# %%
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.lr)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 10))
# %%
history = []
model.train()
for epoch in range(args.epochs):
    for batch in loader:
        out = model(**batch)
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(); scheduler.step(); optimizer.zero_grad()
        history.append(out.loss.item())
history[-1] < history[0]
# %%
def compute_metrics(logits, gold):
    return {"accuracy": float((np.argmax(logits, -1) == gold).mean())}
model.eval()
with torch.no_grad():
    enc = collate(list(zip(texts, labels)))
    print(compute_metrics(model(**enc).logits.numpy(), np.array(labels)))
# %%
def to_label(row):
    return model.config.id2label[int(row.argmax())]
# %%
%%serve_handler sentiment --sample "a wonderful film"
from nbserve import Handler

class Sentiment(Handler):
    def initialize(self, context):
        self.model = model.eval()

    def preprocess(self, rows):
        return tokenizer([row.payload for row in rows], padding=True, truncation=True, max_length=args.max_length, return_tensors="pt")

    def inference(self, batch):
        return self.model(**batch).logits.softmax(-1)

    def postprocess(self, probs):
        return [{"label": to_label(p), "score": float(p.max())} for p in probs]
