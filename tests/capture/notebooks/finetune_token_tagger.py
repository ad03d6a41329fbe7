# style: fine-tuning
# about: a tagger on a small encoder made here: label maps in the configuration, words to subwords by offsets, a masked loss, entities joined from BIO tags, half of the layers frozen
# input: "anna lives in paris today"
# input: "the river"
# input: "anna lives in new york"
# input: ""
# insensitive: tagger, tokenizer, LABELS, GAZETTEER
# undetected: GAZETTEER
# %%
import torch
import transformers
transformers.logging.set_verbosity_error()
# %%
LABELS = ["O", "B-PER", "B-LOC", "I-LOC"]
id2label = dict(enumerate(LABELS))
data = [("anna lives in new york", "B-PER O O B-LOC I-LOC"), ("bob went to paris", "B-PER O O B-LOC"), ("the river in paris", "O O O B-LOC"), ("anna and bob", "B-PER O B-PER")]
# %%
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
raw.normalizer = normalizers.BertNormalizer()
raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
raw.train_from_iterator([t for t, _ in data], trainers.WordPieceTrainer(vocab_size=60, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False))
# %%
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
len(tokenizer)
# %%
from transformers import BertConfig, BertForTokenClassification
torch.manual_seed(0)
cfg = BertConfig(vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_labels=4, id2label=id2label, label2id={l: i for i, l in id2label.items()})
tagger = BertForTokenClassification(cfg)
# %%
for p in tagger.bert.encoder.layer[0].parameters():
    p.requires_grad = False
sum(p.requires_grad for p in tagger.parameters())
# %%
def align(text, tags):
    enc = tokenizer(text.split(), is_split_into_words=True, return_tensors="pt", return_token_type_ids=False)
    ids = [-100 if w is None else cfg.label2id[tags[w]] for w in enc.word_ids()]
    return enc, torch.tensor([ids])
# %%
opt = torch.optim.AdamW((p for p in tagger.parameters() if p.requires_grad), lr=5e-3)
tagger.train()
for epoch in range(12):
    for text, tags in data:
        enc, y = align(text, tags.split())
        loss = tagger(**enc, labels=y).loss
        loss.backward(); opt.step(); opt.zero_grad()
tagger.eval()
loss.item()
# %%
def entities(words, tags):
    found = []
    for word, tag in zip(words, tags):
        if tag.startswith("B-"):
            found.append([tag[2:], word])
        elif tag.startswith("I-") and found:
            found[-1][1] += " " + word
    return found

entities(["new", "york"], ["B-LOC", "I-LOC"])
# %%
@torch.no_grad()
def tag(text):
    words = text.split()
    if not words:
        return []
    enc = tokenizer(words, is_split_into_words=True, return_tensors="pt", return_token_type_ids=False)
    best = tagger(**enc).logits[0].argmax(-1).tolist()
    first = {}
    for position, word in enumerate(enc.word_ids()):
        if word is not None:
            first.setdefault(word, tagger.config.id2label[best[position]])
    return [first[i] for i in range(len(words))]
# %%
tag("anna in paris")
# %%
GAZETTEER = {"oslo": "LOC"}  # an idea for later
# %%
[(t, tag(t)) for t, _ in data[:2]]
# %%
%%serve_handler tagger --sample "anna lives in paris today"
def predict(batch):
    return [{"tags": tag(t), "entities": entities(t.split(), tag(t)), "labels": LABELS} for t in batch]
