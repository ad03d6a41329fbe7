# style: fine-tuning
# about: a small GPT-2 made here, generation with its configuration, logits processors of one's own
# insensitive: processors
# input: "a b"
# input: "c"
# %%
import torch
import transformers
transformers.logging.set_verbosity_error()
from transformers import GPT2Config, GPT2LMHeadModel, LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerFast
# %%
from tokenizers import Tokenizer, models, pre_tokenizers
vocab = {w: i for i, w in enumerate(["<pad>", "<eos>", "<unk>", *"abcdefg"])}
raw = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.Whitespace()
tok = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left")
# %%
torch.manual_seed(0)
lm = GPT2LMHeadModel(GPT2Config(vocab_size=len(vocab), n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1, pad_token_id=0)).eval()
# %%
class Ban(LogitsProcessor):
    def __init__(self, *ids):
        self.ids = list(ids)

    def __call__(self, input_ids, scores):
        scores[:, self.ids] = -float("inf")
        return scores
# %%
processors = LogitsProcessorList([Ban(0, 1, 2)])
settings = dict(max_new_tokens=4, do_sample=False)
# %%
%%serve_handler generate --sample "a b"
class Generate:
    def initialize(self, context):
        self.lm = lm.to(context.device)

    def inference(self, texts):
        enc = tok(texts, return_tensors="pt", padding=True)
        out = self.lm.generate(**enc, logits_processor=processors, **settings)
        return tok.batch_decode(out[:, enc["input_ids"].shape[1]:])
