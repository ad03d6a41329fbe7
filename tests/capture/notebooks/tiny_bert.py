# style: values
# about: a small BERT made from its configuration and a tokenizer trained here
# input: "the cat sat"
# input: "a dog"
# %%
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
# %%
raw = Tokenizer(models.WordLevel(unk_token="[UNK]"))
raw.pre_tokenizer = pre_tokenizers.Whitespace()
raw.train_from_iterator(["the cat sat on the mat", "a dog sat"], trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]"]))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]", pad_token="[PAD]")
# %%
torch.manual_seed(0)
config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3)
model = BertForSequenceClassification(config).eval()
# %%
%%serve_handler bert --sample "the cat sat"
class Classify:
    def initialize(self, context):
        self.model, self.tokenizer = model, tokenizer

    def preprocess(self, rows):
        return self.tokenizer([row.payload for row in rows], padding=True, return_tensors="pt")

    def inference(self, batch):
        return self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
