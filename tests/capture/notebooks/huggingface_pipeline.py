# style: fine-tuning
# about: a classifier's parts as a pipeline has them: tokenizer, model and label names of a configuration, truncation and padding, scores of all labels
# insensitive: tokenize_kwargs
# input: "good film"
# input: "bad bad movie that never ends"
# %%
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
# %%
words = ["[PAD]", "[UNK]", "good", "bad", "film", "movie", "ends"]
core = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
core.pre_tokenizer = Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")
# %%
torch.manual_seed(0)
config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                    id2label={0: "NEG", 1: "POS", 2: "NEUTRAL"}, label2id={"NEG": 0, "POS": 1, "NEUTRAL": 2})
model = BertForSequenceClassification(config).eval()
# %%
tokenize_kwargs = dict(padding=True, truncation=True, max_length=4, return_tensors="pt")
# %%
%%serve_handler sentiment --sample "good film"
class Sentiment:
    def initialize(self, context):
        self.labels = model.config.id2label
    def preprocess(self, rows):
        return tokenizer([row.payload for row in rows], **tokenize_kwargs)
    def inference(self, batch):
        return model(**batch).logits.softmax(-1)
    def postprocess(self, scores):
        return [[{"label": self.labels[i], "score": round(float(p), 5)} for i, p in enumerate(row)] for row in scores]
